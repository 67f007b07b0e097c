"""Check an evaluator: its counts add up, and its metrics are plain numbers."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from nerloop.contracts.checking import checking, require
from nerloop.errors import PluginError, shorten
from nerloop.evaluators import Counts, Evaluator, problem_of


def check_evaluator(build: Callable[[], Evaluator]) -> None:
    """Raise PluginError unless an evaluator's counts add up over parts, and its metrics are plain numbers."""
    random = np.random.RandomState(0)
    tags = ["O", "O", "B-PER", "I-PER", "I-A-B", "B-(none)", "S-PER", "E-PER"]
    gold = [[str(tag) for tag in random.choice(tags, size=n)] for n in (0, 1, 5, 40, 0, 3, 12)]
    predicted = [[str(tag) for tag in random.choice(tags, size=len(sentence))] for sentence in gold]
    before = copy.deepcopy((gold, predicted))
    with checking("evaluator", build):
        evaluator = build()
        whole = _count(evaluator, gold, predicted)
        for cut in range(len(gold) + 1):
            total = Counter(_count(evaluator, gold[:cut], predicted[:cut]))
            total.update(_count(evaluator, gold[cut:], predicted[cut:]))
            require(total == whole, f"count: {cut} and {len(gold) - cut} sentences don't add up to all {len(gold)}")
        backwards = _count(evaluator, gold[::-1], predicted[::-1])
        require(backwards == whole, "count: depends on the order of the sentences")
        require(before == (gold, predicted), "count: changes the tags that it is given")
        _metrics(evaluator, Counter())
        _metrics(evaluator, whole)
        for what, found, expected in (("the gold tags", gold, 1.0), ("nothing", [["O"] * len(s) for s in gold], 0.0)):
            f1 = _metrics(evaluator, _count(evaluator, gold, found)).get("f1", expected)
            require(f1 == expected, f"metrics: found {f1} as f1 of predicting {what}, expected {expected}")
        name = getattr(evaluator, "main_metric", None)
        is_greater_better = getattr(evaluator, "greater_is_better", None)
        require(
            isinstance(is_greater_better, bool), f"greater_is_better is {is_greater_better!r}, expected True or False"
        )
        values: list[float] = []
        for found in (gold, predicted, [["O"] * len(s) for s in gold]):
            value = _metrics(evaluator, _count(evaluator, gold, found)).get(str(name))
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            require(is_number, f"metrics: found {shorten(value)} as {name} (main_metric), expected a number")
            values.append(float(value or 0.0))
        perfect, random_, nothing = values if is_greater_better else [-value for value in values]
        require(
            perfect > max(random_, nothing), f"metrics: {name} of the gold tags is {values[0]}, no better than others"
        )


def _count(evaluator: Evaluator, gold: list[list[str]], predicted: list[list[str]]) -> Counts:
    counts = evaluator.count(gold, predicted)
    problem = problem_of(counts)
    require(not problem, problem)
    return counts


def _metrics(evaluator: Evaluator, counts: Counts) -> dict[str, Any]:
    before = Counter(counts)
    metrics = evaluator.metrics(counts)
    require(before == counts, "metrics: changes the counts that it is given")
    try:
        json.dumps(metrics, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"metrics: not plain numbers: {error}") from error
    return metrics
