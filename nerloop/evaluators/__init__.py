"""Plugins that turn gold and predicted tags into metrics, by counts that add up over any division of the data."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from nerloop.types import Example

log = logging.getLogger(__name__)

Counts = Counter[tuple[str, ...]]
"""Whole numbers under keys of the evaluator's choosing; the counts of two parts of the data add up to those of both."""


class Evaluator(Protocol):
    """An evaluator is built as `cls(**options)`.

    `main_metric` names the metric (a number of `metrics`) that decides which weights are best, unless
    `train.best_metric` names another one; `greater_is_better` says whether the best is the greatest or the least.

    Its `count` may also take `widened` and `missed` by keyword, a sequence of spans a sentence as `Example` has them:
    spans of the gold tags that are not gold, and gold spans that tags can't hold. They are given only where there are
    any; an evaluator that doesn't take them compares the tags as they are, and a warning says so.
    """

    main_metric: str
    greater_is_better: bool

    def count(self, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
        """Return the counts of some sentences, from their gold and predicted tags (equally many a sentence)."""
        ...

    def metrics(self, counts: Counts) -> dict[str, Any]:
        """Return the metrics that counts add up to; plain numbers and dicts of them, fractions from 0 to 1."""
        ...


def count_examples(evaluator: Evaluator, examples: Sequence[Example], predicted: Sequence[Sequence[str]]) -> Counts:
    """Return the counts of some examples, from their gold tags and what was predicted."""
    gold = [example.tags for example in examples]
    if not any(example.widened or example.missed for example in examples):
        return evaluator.count(gold, predicted)
    if not {"widened", "missed"} <= set(inspect.signature(evaluator.count).parameters):
        _warn_of_widened_spans(type(evaluator))
        return evaluator.count(gold, predicted)
    off_borders: dict[str, Any] = {
        "widened": [example.widened for example in examples],
        "missed": [example.missed for example in examples],
    }
    return evaluator.count(gold, predicted, **off_borders)


@cache
def _warn_of_widened_spans(evaluator: type) -> None:
    """Say once that an evaluator can't count gold spans that are no spans of tokens."""
    log.warning(
        "warning: %s ignores that some gold spans start or end inside a token; it counts them widened to whole tokens",
        evaluator.__name__,
    )
