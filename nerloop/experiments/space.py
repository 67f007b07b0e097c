"""Read the space that `nerloop.tune` searches: settings by name, each with a range or choices, some on a condition.

train.learning_rate: {low: 1e-5, high: 1e-3, log: true}
train.batch_size: {low: 8, high: 32, step: 8}
alignment: {choices: [all, first]}
alignment.stride: {low: 8, high: 64, when: {alignment: first}}
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nerloop import plugins
from nerloop.config import validate
from nerloop.config.parse import parse, read_yaml
from nerloop.errors import ConfigError, NerloopError, shorten

EXAMPLE = "such as train.learning_rate: {low: 1e-5, high: 1e-3, log: true}"
KEYS = ("low", "high", "log", "step", "choices", "when")
NOT_TUNED = {
    "train.seed": "--seeds varies it",
    "train.best_metric": "it decides what is compared",
    "evaluator": "it decides what is compared",
    "data.dataset": "trials are compared on the same data",
    "data.validation": "trials are compared on the same data",
    "data.test": "test data are not read",
    "data.read_test": "test data are not read",
    "run": "it changes no result",
}


@dataclass(frozen=True)
class Parameter:
    """A setting to search: a range from `low` to `high`, or `choices`."""

    name: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    is_whole: bool = False  # only whole numbers of the range
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(
        default_factory=dict
    )  # the condition: each setting has one of these values
    flags: tuple[str, ...] = ()  # flags that make the condition hold

    def can_be(self, value: Any) -> bool:
        """Return whether the search may choose a value."""
        if self.choices:
            return value in self.choices
        return _is_number(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Space:
    """The parameters in the order of the file: a condition only names parameters above its own."""

    parameters: Sequence[Parameter]
    base: Mapping[str, Any]  # the values of all settings where the search changes nothing

    def sample(self, suggest: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Return a value for each parameter whose condition holds, by name; `suggest` chooses it."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            in_effect = {**self.base, **values}
            if all(in_effect.get(name) in wanted for name, wanted in parameter.when.items()):
                values[parameter.name] = suggest(parameter)
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain values, for JSON; two spaces are the same if these are equal."""
        return {p.name: {key: _plain(getattr(p, key)) for key in KEYS} for p in self.parameters}


def flag_of(name: str, value: Any) -> str:
    """Return a setting as a flag: ("train.epochs", 3) -> "--train.epochs=3"."""
    return f"--{name}={as_text(value)}"


def as_text(value: Any) -> str:
    """Return a value as a flag spells it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_space(path: str, flags: Sequence[str]) -> Space:
    """Return the space in a YAML file; `flags` are the settings of all trials.

    Each value that the file names is validated as a setting, so that no trial fails because of it. Raises ConfigError
    with file and line.
    """
    specs, lines = read_yaml(path, "--space")
    if not isinstance(specs, dict) or not specs:
        raise ConfigError(f"{path}: found {shorten(specs)}, expected a setting with a range or choices, {EXAMPLE}")
    space = Space([], parse(flags, prog="nerloop.tune").resolved().to_flat())
    parameters: list[Parameter] = []
    for name, spec in specs.items():
        where = f"{path}:{lines.get(str(name), 1)}"
        try:
            parameters.append(_parameter(str(name), spec, parameters, space.base, flags))
        except NerloopError as error:
            message = re.sub(r"--(?=\w+[.])", "", str(error))  # parse writes settings as flags
            raise ConfigError(f"{where}: {message}") from error
    return Space(parameters, space.base)


def _parameter(
    name: str, spec: Any, above: Sequence[Parameter], base: Mapping[str, Any], flags: Sequence[str]
) -> Parameter:
    """Return the parameter that an entry of the file describes. Raises NerloopError if one of its values is refused."""
    for fixed, why in NOT_TUNED.items():
        if name == fixed or name.startswith(f"{fixed}."):
            raise ConfigError(f"{name}: can't be searched: {why}")
    if ("." not in name and name not in plugins.BUILT_IN) or name.endswith(".help"):
        raise ConfigError(
            f"{name}: no such setting{plugins.did_you_mean(name, base)}; expected a dotted name, {EXAMPLE}"
        )
    if not isinstance(spec, dict) or ("choices" in spec) == ("low" in spec or "high" in spec):
        raise ConfigError(f"{name}: found {shorten(spec)}, expected either low and high, or choices, {EXAMPLE}")
    for key in spec:
        if key not in KEYS:
            raise ConfigError(
                f"{name}: {shorten(key)} is no part of a range{plugins.did_you_mean(str(key), KEYS)}; "
                f"expected {', '.join(KEYS)}"
            )
    when, context = _condition(name, spec.get("when", {}), above, base)
    flags = [*flags, *context]
    found = _choices(name, spec) if "choices" in spec else _range(name, spec, flags)
    for value in found.choices or (found.low, found.high):
        validate(parse([*flags, flag_of(name, value)], prog="nerloop.tune"))
    return replace(found, when=when, flags=tuple(context))


def _condition(
    name: str, spec: Any, above: Sequence[Parameter], base: Mapping[str, Any]
) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """Return a condition, and flags that make it hold."""
    if not isinstance(spec, dict):
        raise ConfigError(
            f"{name}: when: found {shorten(spec)}, expected settings and values, such as {{alignment: all}}"
        )
    when: dict[str, tuple[Any, ...]] = {}
    flags: list[str] = []
    searched = {parameter.name: parameter for parameter in above}
    for other, value in spec.items():
        wanted = tuple(_named(other, one) for one in (value if isinstance(value, list) else [value]))
        if other not in searched and other not in base:
            near = plugins.did_you_mean(str(other), [*searched, *base])
            raise ConfigError(f"{name}: when: {other} is no setting, or comes below{near}; expected one from above")
        possible = [v for v in wanted if (searched[other].can_be(v) if other in searched else v == base[other])]
        if not possible:
            raise ConfigError(f"{name}: when: {other} is never {shorten(value)}, expected a value that it can have")
        when[str(other)] = wanted
        if other in searched:
            flags += [*searched[other].flags, flag_of(other, possible[0])]
    return when, flags


def _choices(name: str, spec: dict[str, Any]) -> Parameter:
    choices = spec["choices"]
    if not isinstance(choices, list) or not choices:
        raise ConfigError(f"{name}: choices: found {shorten(choices)}, expected a list of at least one value")
    if unused := [key for key in ("log", "step") if key in spec]:
        raise ConfigError(f"{name}: {unused[0]} goes with low and high, not with choices")
    texts = [as_text(_named(name, choice)) for choice in choices]
    if len(set(texts)) < len(texts):
        raise ConfigError(f"{name}: choices: found {shorten(max(texts, key=texts.count))} twice, expected it once")
    return Parameter(name, choices=tuple(_named(name, choice) for choice in choices))


def _range(name: str, spec: dict[str, Any], flags: Sequence[str]) -> Parameter:
    low: Any
    high: Any
    low, high, step, log = (spec.get(key) for key in ("low", "high", "step", "log"))
    for key, value in (("low", low), ("high", high), *([("step", step)] if "step" in spec else [])):
        if not _is_number(value):
            raise ConfigError(f"{name}: {key}: found {shorten(value)}, expected a number")
    if log not in (None, True, False):
        raise ConfigError(f"{name}: log: found {shorten(log)}, expected true or false")
    if not low < high:
        raise ConfigError(f"{name}: found an empty range, low {low} and high {high}, expected low below high")
    if log and low <= 0:
        raise ConfigError(f"{name}: low: found {low} with log: true, expected more than 0")
    if log and step is not None:
        raise ConfigError(f"{name}: found both log and step, expected one of them")
    if step is not None and not 0 < step <= high - low:
        raise ConfigError(f"{name}: step: found {step}, expected more than 0 and at most {high - low}, high - low")
    is_whole = _takes_whole_numbers(name, flags)
    if is_whole and any(isinstance(value, float) for value in (low, high, step)):
        raise ConfigError(f"{name}: found {shorten(spec)}, expected whole numbers")
    if step is not None:
        # The largest value that the steps reach. A quotient such as 0.3 / 0.1 may be just below a whole number.
        high = low + step * math.floor((high - low) / step + 1e-9)
    return Parameter(name, low, high, step, bool(log), is_whole)


def _takes_whole_numbers(name: str, flags: Sequence[str]) -> bool:
    """Return whether a setting refuses fractions. Raises ConfigError for one that takes no numbers at all."""
    with contextlib.suppress(NerloopError):
        parse([*flags, flag_of(name, 0.5)], prog="nerloop.tune")
        return False
    parse([*flags, flag_of(name, 1)], prog="nerloop.tune")
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _named(name: str, value: Any) -> Any:
    """Return a plugin's short name, also for its dotted path; return all other values unchanged."""
    if name not in plugins.BUILT_IN or not isinstance(value, str):
        return value
    return plugins.name_of(name, plugins.path_of(name, value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: list(wanted) for name, wanted in value.items()}
    return list(value) if isinstance(value, tuple) else value
