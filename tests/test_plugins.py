"""Plugins by name and by dotted path, and the one line for each way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop import plugins
from nerloop.alignment.first import First
from nerloop.collators.pad import Pad
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import PluginError
from nerloop.evaluators.seqeval import Seqeval
from nerloop.tags import Scheme

OUTSIDE_PLUGIN = '''
class Greedy:
    """A decoding of somebody else's."""

    def __init__(self, labels, scheme, *, bonus: float = 0.5, name: str):
        self.given = labels, scheme, bonus, name

    def decode(self, scores):
        return []


class Heir(Greedy):
    pass


class WithoutInit:
    def decode(self, scores):
        return []


class Lacking:
    def count(self):
        return None


value = 3
'''


@pytest.fixture
def outside_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an importable module with plugins of somebody else's."""
    (tmp_path / "outside_of_nerloop.py").write_text(OUTSIDE_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    return "outside_of_nerloop"


def message(call, *arguments, **options) -> str:
    with pytest.raises(PluginError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_every_built_in_plugin_is_found_by_name():
    found = {(kind, name): plugins.find(kind, name) for kind, table in plugins.BUILT_IN.items() for name in table}
    assert len(found) == 13
    assert all(f"{c.__module__}.{c.__qualname__}" == plugins.BUILT_IN[k][n] for (k, n), c in found.items())


def test_built_in_names_are_those_of_the_settings():
    assert {kind: list(table) for kind, table in plugins.BUILT_IN.items()} == {
        "alignment": ["first", "all", "document"],
        "adaptation": ["none", "freeze"],
        "collator": ["pack", "pad"],
        "objective": ["cross_entropy", "crf", "distill"],
        "decoding": ["viterbi", "argmax"],
        "evaluator": ["seqeval"],
    }


def test_path_of_a_name_is_its_dotted_path():
    assert plugins.path_of("collator", "pad") == "nerloop.collators.pad.Pad"


def test_path_of_a_dotted_path_is_itself():
    assert plugins.path_of("collator", "my.own.Thing") == "my.own.Thing"


def test_path_of_a_misspelt_name_says_the_nearest():
    assert message(plugins.path_of, "decoding", "viterby") == (
        "decoding: 'viterby' is no built-in plugin (did you mean 'viterbi'?); "
        "expected viterbi, argmax, or a dotted path such as my_package.my_module.MyPlugin"
    )


def test_path_of_another_name_says_what_there_is():
    assert message(plugins.path_of, "evaluator", "x") == (
        "evaluator: 'x' is no built-in plugin; expected seqeval, or a dotted path such as my_package.my_module.MyPlugin"
    )


def test_name_of_a_built_in_path_is_its_name():
    assert plugins.name_of("alignment", "nerloop.alignment.all.All") == "all"


def test_name_of_another_path_is_the_path():
    assert plugins.name_of("alignment", "my.own.Thing") == "my.own.Thing"


def test_find_takes_a_dotted_path_to_a_built_in():
    assert plugins.find("alignment", "nerloop.alignment.first.First") is First


def test_find_takes_a_class_that_inherits_its_methods(outside_plugin):
    assert plugins.find("decoding", f"{outside_plugin}.Heir").__name__ == "Heir"


def test_find_says_which_module_is_missing():
    assert message(plugins.find, "decoding", "no_such_module.Thing") == (
        "decoding: can't import 'no_such_module': ModuleNotFoundError: No module named 'no_such_module' "
        "(searched: the current folder and PYTHONPATH)"
    )


def test_find_says_why_a_module_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "breaks_at_import.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert message(plugins.find, "decoding", "breaks_at_import.Thing") == (
        "decoding: can't import 'breaks_at_import': ZeroDivisionError: division by zero"
    )


def test_find_says_the_nearest_class(outside_plugin):
    assert message(plugins.find, "decoding", f"{outside_plugin}.Gredy") == (
        "decoding: module 'outside_of_nerloop' has no class 'Gredy' (did you mean 'Greedy'?)"
    )


def test_find_says_that_the_name_of_a_file_is_no_class(outside_plugin):
    assert message(plugins.find, "decoding", f"{outside_plugin}.py") == (
        "decoding: module 'outside_of_nerloop' has no class 'py'; name a class, such as outside_of_nerloop.Greedy"
    )


def test_the_methods_of_each_kind_are_those_of_its_protocol():
    import inspect

    from nerloop.alignment import Alignment
    from nerloop.collators import Collator
    from nerloop.decoding import Decoding
    from nerloop.evaluators import Evaluator
    from nerloop.model.adaptation import Adaptation
    from nerloop.objectives import Objective

    protocols = {
        "alignment": Alignment, "adaptation": Adaptation, "collator": Collator, "objective": Objective,
        "decoding": Decoding, "evaluator": Evaluator,
    }  # fmt: skip
    assert protocols.keys() == plugins.ATTRIBUTES.keys()
    for kind, protocol in protocols.items():
        for name, brace, arguments in (a.partition("(") for a in plugins.ATTRIBUTES[kind]):
            if brace:
                parameters = list(inspect.signature(getattr(protocol, name)).parameters)
                assert parameters == ["self", *arguments.removesuffix(")").split(", ")], (kind, name)


def test_find_refuses_what_is_no_class(outside_plugin):
    assert message(plugins.find, "decoding", f"{outside_plugin}.value") == (
        "decoding: module 'outside_of_nerloop' has no class 'value'"
    )


def test_find_refuses_a_class_that_lacks_a_method(outside_plugin):
    assert message(plugins.find, "evaluator", f"{outside_plugin}.Lacking") == (
        "evaluator: outside_of_nerloop.Lacking has no method metrics(counts), attribute main_metric, "
        "attribute greater_is_better"
    )


def test_find_does_not_take_the_call_of_a_metaclass_for_a_method():
    assert message(plugins.find, "collator", "nerloop.decoding.viterbi.Viterbi") == (
        "collator: nerloop.decoding.viterbi.Viterbi has no method __call__(features), method num_cells(lengths)"
    )


def test_build_hands_over_context_and_options(outside_plugin):
    built = plugins.build("decoding", f"{outside_plugin}.Greedy", ("O",), Scheme.IOB2, bonus=2.0, name="x")
    assert built.given == (("O",), Scheme.IOB2, 2.0, "x")


def test_build_makes_a_built_in():
    assert type(plugins.build("decoding", "viterbi", ("O", "B-X"), Scheme.IOB2)) is Viterbi
    assert type(plugins.build("evaluator", "seqeval")) is Seqeval


def test_build_refuses_an_unknown_option(outside_plugin):
    assert message(plugins.build, "decoding", f"{outside_plugin}.Greedy", (), None, malus=1, name="x") == (
        "decoding outside_of_nerloop.Greedy: got an unexpected keyword argument 'malus'; its options: bonus, name"
    )


def test_build_says_which_arguments_the_constructor_must_take(outside_plugin):
    assert message(plugins.build, "decoding", f"{outside_plugin}.WithoutInit", ("O",), Scheme.IOB2) == (
        "decoding outside_of_nerloop.WithoutInit: expected def __init__(self, labels, scheme)"
    )


def test_build_asks_for_a_required_option(outside_plugin):
    assert message(plugins.build, "decoding", f"{outside_plugin}.Greedy", (), None) == (
        "decoding outside_of_nerloop.Greedy: missing a required argument: 'name'; its options: bonus, name"
    )


def test_build_says_where_there_are_no_options():
    assert message(plugins.build, "evaluator", "seqeval", beta=2) == (
        "evaluator seqeval: got an unexpected keyword argument 'beta'; its options: none"
    )


@pytest.mark.parametrize(("kind", "name"), [("alignment", "builtins.str"), ("decoding", "builtins.bytes")])
def test_a_class_written_in_c_is_no_plugin(kind, name):
    with pytest.raises(PluginError) as caught:
        plugins.find(kind, name)
    assert str(caught.value) == f"{kind}: {name} is written in C and has no signature, so it can't be a plugin"


def test_a_module_that_leaves_when_it_is_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as caught:
        plugins.find("alignment", "leaves_at_once.Aligner")
    assert str(caught.value) == "alignment: can't import 'leaves_at_once': SystemExit: 0"


def test_options_of_are_the_keyword_only_parameters():
    assert plugins.options_of(First) == ["max_length", "stride"]


def test_options_of_a_class_without_a_constructor_are_none():
    assert plugins.options_of(Seqeval) == []


def test_every_option_of_a_built_in_has_a_default():
    import inspect

    options = [
        inspect.signature(plugin).parameters[name]
        for kind, table in plugins.BUILT_IN.items()
        for plugin in (plugins.find(kind, short) for short in table)
        for name in plugins.options_of(plugin)
    ]
    assert len(options) >= 4
    assert [p.name for p in options if p.default is inspect.Parameter.empty] == []


def test_did_you_mean_of_nothing_near_is_empty():
    assert plugins.did_you_mean("xyz", ["first", "all"]) == ""
    assert plugins.did_you_mean("frist", ["first", "all"]) == " (did you mean 'first'?)"


def test_pad_is_a_collator():
    assert plugins.find("collator", "pad") is Pad
