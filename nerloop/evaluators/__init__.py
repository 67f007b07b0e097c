"""Plugins that turn gold and predicted tags into metrics, through counts that can be summed over parts of the data."""

from __future__ import annotations

import inspect
import json
import logging
from collections import Counter
from collections.abc import Sequence
from functools import cache
from numbers import Integral
from typing import Any, Protocol

from nerloop.errors import PluginError, shorten
from nerloop.plugins import title_of
from nerloop.types import Example

log = logging.getLogger(__name__)

Counts = Counter[tuple[str, ...]]
"""Integers by keys that the evaluator chooses. The counts of two parts of the data must add up to those of both."""


class Evaluator(Protocol):
    """An evaluator is built as `cls(**options)`.

    `main_metric` names the number of `metrics` that decides which weights are best, unless `train.best_metric` names
    another one. `greater_is_better` says whether the best value of that metric is the greatest or the smallest.

    `count` may also take `widened` and `missed` as keywords: for each sentence, these spans of its `Example`. Widened
    spans are in the gold tags but are not gold; missed ones are gold but can't be expressed as tags. They are passed
    only if there are any. If an evaluator doesn't take them, it compares the tags as they are, with a warning.
    """

    main_metric: str
    greater_is_better: bool

    def count(self, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
        """Return the counts of some sentences. The gold and predicted tags of a sentence are equally many."""
        ...

    def metrics(self, counts: Counts) -> dict[str, Any]:
        """Return the metrics of summed counts: plain numbers and dicts of them; fractions are from 0 to 1."""
        ...


def count_examples(evaluator: Evaluator, examples: Sequence[Example], predicted: Sequence[Sequence[str]]) -> Counts:
    """Return the counts of some examples from their gold tags and the predicted tags.

    Raises PluginError for counts that are not whole numbers by tuples.
    """
    gold = [example.tags for example in examples]
    off_borders: dict[str, Any] = {}
    if any(example.widened or example.missed for example in examples):
        if {"widened", "missed"} <= set(inspect.signature(evaluator.count).parameters):
            off_borders["widened"] = [example.widened for example in examples]
            off_borders["missed"] = [example.missed for example in examples]
        else:
            _warn_of_widened_spans(type(evaluator))
    counts = evaluator.count(gold, predicted, **off_borders)
    if problem := problem_of(counts):
        raise PluginError(f"{title_of('evaluator', evaluator)}: {problem}")
    return counts


def problem_of(counts: object) -> str:
    """Return what is wrong with what `count` returned, "" for counts that can be added up."""
    if not isinstance(counts, dict):
        return f"count: returned {shorten(counts)}, expected a Counter"
    for key, number in counts.items():
        if not isinstance(key, tuple):
            return f"count: found the key {shorten(key)}, expected tuples, such as ({shorten(key)},)"
        if not isinstance(number, Integral):
            found = f"{shorten(key)}: {shorten(number)}"
            return f"count: found {found}, expected whole numbers; double all counts for half credit"
    return ""


def metrics_of(evaluator: Evaluator, counts: Counts) -> dict[str, Any]:
    """Return the evaluator's metrics of summed counts. Raises PluginError if they can't be written as JSON."""
    metrics = evaluator.metrics(counts)
    title = title_of("evaluator", evaluator)
    if not isinstance(metrics, dict):
        raise PluginError(f"{title}: metrics returned {shorten(metrics)}, expected a dict of plain numbers")
    for name, value in metrics.items():
        try:
            json.dumps({name: value})
        except (TypeError, ValueError) as error:
            found = f"{shorten(name)}: {shorten(value)}"
            raise PluginError(f"{title}: metrics: found {found}, expected plain numbers and dicts of them") from error
    return metrics


@cache
def _warn_of_widened_spans(evaluator: type) -> None:
    """Warn once that an evaluator can't count gold spans that start or end inside a token."""
    log.warning(
        "warning: %s ignores that some gold spans start or end inside a token; it counts them widened to whole tokens",
        evaluator.__name__,
    )
