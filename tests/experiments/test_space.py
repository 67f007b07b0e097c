"""The space of nerloop.tune: what it samples, and the mistakes that it finds before any training."""

from __future__ import annotations

import pytest

from nerloop.config.parse import parse
from nerloop.errors import ConfigError
from nerloop.experiments.space import Parameter, as_text, flag_of, read_space

SPACE = """\
train.learning_rate: {low: 1e-5, high: 1e-3, log: true}
train.epochs: {low: 1, high: 6, step: 2}
train.weight_decay: {low: 0, high: 1}
alignment: {choices: [all, nerloop.alignment.first.First]}
alignment.stride: {low: 8, high: 64, when: {alignment: first}}
objective.class_weights: {choices: [null, {PER: 2.0}]}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that reads a space; the base has 4 steps and the default plugins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("train: {max_steps: 4}\n")

    def read(text: str):
        (tmp_path / "space.yaml").write_text(text)
        return read_space("space.yaml", ["--config", "base.yaml"])

    return read


def test_a_space_has_a_parameter_for_each_setting(read):
    found = {parameter.name: parameter for parameter in read(SPACE).parameters}
    assert found["train.learning_rate"] == Parameter("train.learning_rate", 1e-5, 1e-3, log=True)
    assert found["train.epochs"] == Parameter("train.epochs", 1, 5, 2, is_whole=True)  # 6 is no step of 2 from 1
    assert not found["train.weight_decay"].is_whole  # its values are fractions, also from 0 to 1
    assert found["alignment"].choices == ("all", "first")
    assert found["alignment.stride"].when == {"alignment": ("first",)}
    assert found["objective.class_weights"].choices == (None, {"PER": 2.0})


@pytest.mark.parametrize("alignment", ["all", "first"])
def test_a_parameter_is_sampled_where_its_condition_holds(read, alignment):
    chosen = {"alignment": alignment, "alignment.stride": 9}
    values = read(SPACE).sample(lambda p: chosen.get(p.name, p.low))
    assert ("alignment.stride" in values) == (alignment == "first")
    assert list(values)[:3] == ["train.learning_rate", "train.epochs", "train.weight_decay"]


def test_a_condition_may_name_a_setting_of_the_base_or_several_values(read):
    space = read("train.batch_size: {choices: [8, 16], when: {decoding: [viterbi, argmax], train.max_steps: 4}}")
    assert space.sample(lambda p: p.choices[0]) == {"train.batch_size": 8}


def test_every_value_of_a_space_is_a_flag(read):
    for value in (1e-05, 3, True, None, ["a", "b"], {"PER": 2.0}, "text"):
        assert flag_of("a.b", value) == f"--a.b={as_text(value)}"
    config = parse([flag_of("train.learning_rate", 1e-05), flag_of("objective.class_weights", {"PER": 2.0})])
    assert config.train.learning_rate == 1e-05
    assert config.objective.options == {"class_weights": {"PER": 2.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space.yaml: found None, expected a setting with a range or choices, such as train.learning_rate"),
        ("- a\n", "space.yaml: found ['a'], expected a setting"),
        ("a: {b\n", "space.yaml:2: not YAML"),
        ("\ntrain.learning_rat: {low: 1, high: 2}", "space.yaml:2: train.learning_rat: no such setting; "
         "did you mean train.learning_rate?"),
        ("train: {learning_rate: {low: 1, high: 2}}", "space.yaml:1: train: no such setting"),
        ("objective.gamma: {low: 1, high: 2}", "space.yaml:1: objective cross_entropy has no option gamma"),
        ("alignment.help: {choices: [a]}", "space.yaml:1: alignment.help: no such setting"),
        ("train.seed: {low: 1, high: 2}", "space.yaml:1: train.seed: can't be searched: --seeds varies it"),
        ("run.dir: {choices: [a]}", "space.yaml:1: run.dir: can't be searched"),
        ("data.test: {choices: [a]}", "space.yaml:1: data.test: can't be searched: test data are not read"),
        ("evaluator: {choices: [seqeval]}", "space.yaml:1: evaluator: can't be searched: it decides what is compared"),
        ("train.epochs: 3", "train.epochs: found 3, expected either low and high, or choices"),
        ("train.epochs: {low: 1, high: 3, choices: [1]}", "expected either low and high, or choices"),
        ("train.epochs: {low: 1, hig: 3}", "train.epochs: 'hig' is no part of a range (did you mean 'high'?)"),
        ("train.epochs: {low: 1}", "train.epochs: high: found None, expected a number"),
        ("train.epochs: {low: 3, high: 3}", "train.epochs: found an empty range, low 3 and high 3"),
        ("train.epochs: {low: 3, high: .inf}", "train.epochs: high: found inf, expected a number"),
        ("train.epochs: {low: 1.5, high: 3}", "train.epochs: found {'low': 1.5, 'high': 3}, expected whole numbers"),
        ("train.epochs: {low: true, high: 3}", "train.epochs: low: found True, expected a number"),
        ("train.epochs: {low: 1, high: 3, step: 0}", "train.epochs: step: found 0, expected more than 0 and at most 2"),
        ("train.epochs: {low: 1, high: 3, step: 3}", "train.epochs: step: found 3"),
        ("train.epochs: {low: 0, high: 3}", "train.epochs: found 0, expected at least 1"),
        ("train.learning_rate: {low: 0, high: 1, log: true}", "train.learning_rate: low: found 0 with log: true"),
        ("train.learning_rate: {low: -1, high: 1, log: true}", "low: found -1 with log: true, expected more than 0"),
        ("train.learning_rate: {low: 1, high: 2, log: 1.5}", "train.learning_rate: log: found 1.5, expected true"),
        ("train.learning_rate: {low: 1, high: 9, log: true, step: 1}", "found both log and step"),
        ("train.schedule: {low: 1, high: 2}", "train.schedule: found '1', expected one of linear, constant"),
        ("train.schedule: {choices: [linear, cosine]}", "train.schedule: found 'cosine', expected one of linear"),
        ("train.schedule: {choices: []}", "train.schedule: choices: found [], expected a list of at least one value"),
        ("train.schedule: {choices: [linear, linear]}", "train.schedule: choices: found 'linear' twice"),
        ("train.schedule: {choices: [linear], log: true}", "log goes with low and high, not with choices"),
        ("decoding: {choices: [vitterbi]}", "'vitterbi' is no built-in plugin (did you mean 'viterbi'?)"),
        ("train.epochs: {choices: [1], when: 3}", "train.epochs: when: found 3, expected settings and values"),
        ("train.epochs: {choices: [1], when: {decodin: a}}", "decodin is no setting, or comes below"),
        ("train.epochs: {choices: [1], when: {decoding: argmax}}", "when: decoding is never 'argmax'"),
        ("decoding: {choices: [argmax]}\ntrain.epochs: {choices: [1], when: {decoding: viterbi}}",
         "space.yaml:2: train.epochs: when: decoding is never 'viterbi'"),
        ("train.max_subwords: {choices: [9]}\ntrain.gradient_accumulation_steps: {choices: [2], when: "
         "{train.max_subwords: 9}}", "are both set"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(read, text, message):
    with pytest.raises(ConfigError) as error:
        read(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_space_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"^--space nope.yaml: can't be read: No such file"):
        read_space("nope.yaml", [])
