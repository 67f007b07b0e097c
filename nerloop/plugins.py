"""Find and build plugins: by a built-in name, or by the dotted path of a user's class."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from nerloop.errors import PluginError, shorten

BUILT_IN = {
    "alignment": {
        "first": "nerloop.alignment.first.First",
        "all": "nerloop.alignment.all.All",
        "document": "nerloop.alignment.document.Document",
    },
    "adaptation": {"none": "nerloop.model.adaptation.Full", "freeze": "nerloop.model.adaptation.Freeze"},
    "collator": {"pack": "nerloop.collators.pack.Pack", "pad": "nerloop.collators.pad.Pad"},
    "objective": {
        "cross_entropy": "nerloop.objectives.cross_entropy.CrossEntropy",
        "crf": "nerloop.objectives.crf.Crf",
        "distill": "nerloop.objectives.distill.Distill",
    },
    "decoding": {"viterbi": "nerloop.decoding.viterbi.Viterbi", "argmax": "nerloop.decoding.argmax.Argmax"},
    "evaluator": {"seqeval": "nerloop.evaluators.seqeval.Seqeval"},
}

# Attributes that a plugin class of each kind must have, a method with its arguments. The protocols in the packages
# document them.
ATTRIBUTES = {
    "alignment": ("split(examples)", "join(features, scores)"),
    "adaptation": ("apply(model)", "merge(model)"),
    "collator": ("__call__(features)", "num_cells(lengths)"),
    "objective": ("loss(logits, batch)",),
    "decoding": ("decode(scores)",),
    "evaluator": ("count(gold, predicted)", "metrics(counts)", "main_metric", "greater_is_better"),
}

# Arguments that nerloop passes to the constructor of each kind, by position. Keyword-only ones are the user's options.
CONTEXT: dict[str, tuple[str, ...]] = {
    "alignment": ("tokenizer", "labels"),
    "adaptation": (),
    "collator": ("tokenizer",),
    "objective": ("labels",),
    "decoding": ("labels", "scheme"),
    "evaluator": (),
}


def path_of(kind: str, name: str) -> str:
    """Return the dotted path of a plugin: ("collator", "pad") -> "nerloop.collators.pad.Pad".

    A dotted name is returned unchanged. Raises PluginError for any other name that is not built in.
    """
    table = BUILT_IN[kind]
    if name in table:
        return table[name]
    if "." in name:
        return name
    raise PluginError(
        f"{kind}: {shorten(name)} is no built-in plugin{did_you_mean(name, table)}; "
        f"expected {', '.join(table)}, or a dotted path such as my_package.my_module.MyPlugin"
    )


def name_of(kind: str, path: str) -> str:
    """Return the short name of a built-in plugin's path, or the path itself."""
    return next((name for name, built_in in BUILT_IN[kind].items() if built_in == path), path)


def title_of(kind: str, plugin: object) -> str:
    """Return how messages name a built plugin: "evaluator my_module.MyEvaluator", or "evaluator seqeval"."""
    found = type(plugin)
    return f"{kind} {name_of(kind, f'{found.__module__}.{found.__qualname__}')}"


def find(kind: str, name: str) -> type:
    """Return the class of a plugin. Raises PluginError, with the reason, if it can't be imported or lacks a method."""
    path = path_of(kind, name)
    module_name, _, class_name = path.rpartition(".")
    module = _import(kind, module_name)
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [n for n, v in vars(module).items() if inspect.isclass(v)]
        near = did_you_mean(class_name, classes)
        if class_name == "py":  # the name of a file
            own = next((n for n in classes if vars(module)[n].__module__ == module_name), "MyPlugin")
            near = f"; name a class, such as {module_name}.{own}"
        raise PluginError(f"{kind}: module {module_name!r} has no class {shorten(class_name)}{near}")
    # hasattr(plugin, "__call__") is true for every class, since classes are callable. So look into the classes' own
    # attributes, which are those that instances have.
    there = {name for base in found.__mro__ for name in vars(base)}
    if missing := [a for a in ATTRIBUTES[kind] if a.partition("(")[0] not in there]:
        described = ", ".join(f"{'method' if '(' in a else 'attribute'} {a}" for a in missing)
        raise PluginError(f"{kind}: {path} has no {described}")
    try:
        inspect.signature(found)
    except ValueError as error:  # str has split and join, bytes has decode
        raise PluginError(f"{kind}: {path} is written in C and has no signature, so it can't be a plugin") from error
    return found


def main_metric_of(evaluator: str) -> str:
    """Return the main metric that an evaluator declares. Raises PluginError as `find` does."""
    metric: str = getattr(find("evaluator", evaluator), "main_metric")  # noqa: B009 (`find` has checked it)
    return metric


def find_function(setting: str, name: str, table: Mapping[str, str]) -> Callable[..., Any]:
    """Return the function that a setting names: a key of `table`, or a dotted path.

    Raises PluginError if there is none.
    """
    if name not in table and "." not in name:
        raise PluginError(
            f"{setting}: {shorten(name)} is no built-in function{did_you_mean(name, table)}; "
            f"expected {', '.join(table)}, or a dotted path such as my_package.my_module.my_function"
        )
    module_name, _, function_name = table.get(name, name).rpartition(".")
    found = getattr(_import(setting, module_name), function_name, None)
    if not callable(found):
        raise PluginError(f"{setting}: module {module_name!r} has no function {shorten(function_name)}")
    return found  # type: ignore[no-any-return]


def _import(setting: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may do anything when it is imported
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            reason += " (searched: the current folder and PYTHONPATH)"
        raise PluginError(
            f"{setting}: can't import {shorten(module_name)}: {type(error).__name__}: {reason}"
        ) from error


def build(kind: str, name: str, /, *context: Any, **options: Any) -> Any:
    """Return a plugin, built from nerloop's arguments for its kind (`context`) and the user's options.

    Raises PluginError if the options don't fit, and passes on any NerloopError that the plugin raises.
    """
    found = find(kind, name)
    signature = inspect.signature(found)
    try:
        signature.bind_partial(*context)
    except TypeError as error:
        arguments = ", ".join(CONTEXT[kind])
        raise PluginError(f"{kind} {name}: expected def __init__(self, {arguments})") from error
    try:
        signature.bind(*context, **options)
    except TypeError as error:
        known = ", ".join(options_of(found)) or "none"
        raise PluginError(f"{kind} {name}: {error}; its options: {known}") from error
    try:
        return found(*context, **options)
    except (TypeError, ValueError) as error:  # an option has the wrong type
        raise PluginError(f"{kind} {name}: {type(error).__name__}: {error}; its options: {options}") from error


def options_of(plugin: type) -> list[str]:
    """Return the names of a plugin's options: the keyword-only parameters of its constructor."""
    parameters = inspect.signature(plugin).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def no_option(kind: str, name: str, option: str) -> str:
    """Return the message for an option that a plugin lacks: "objective crf has no option gamma; it has none"."""
    found = find(kind, name)
    given = CONTEXT[kind]
    extra = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in list(inspect.signature(found).parameters.values())[len(given) :]
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    if option in [p.name for p in extra]:
        parameters = ", ".join(["self", *given, "*", *map(str, extra)])
        return f"{name}: {option} is no option, since options are keyword-only: def __init__({parameters})"
    known = ", ".join(options_of(found))
    return f"{kind} {name} has no option {option}; {f'its options: {known}' if known else 'it has none'}"


def defaults_of(plugin: type) -> dict[str, Any]:
    """Return the default values of a plugin's options; options without a default are left out."""
    parameters = inspect.signature(plugin).parameters
    return {
        n: parameters[n].default for n in options_of(plugin) if parameters[n].default is not inspect.Parameter.empty
    }


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'viterbi'?)" if a known name is similar, else ""."""
    by_lower_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return f" (did you mean {shorten(by_lower_case[near[0]])}?)" if near else ""
