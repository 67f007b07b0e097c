"""Fit biases of the decoding's transitions on held-out sentences, for more precision, more recall, or a better F1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nerloop.decoding import Decoding
from nerloop.evaluation.held_out import HeldOut
from nerloop.tags import OUTSIDE, split_tag, starts_span

FITTED = ("background_to_start", "end_to_start", "inside_to_continue", "inside_to_end")
"""The biases that are fitted. The other two stay 0, and nothing is lost: every sequence enters spans from the
background as often as it leaves them for it, and all sequences of a sentence have the same number of transitions. So
for each choice of six biases there is a choice of these four that ranks all sequences in the same order."""
STEPS = (2.0, 1.0, 0.5)
"""The search starts at 0, in steps of the first size, then of the following ones."""


class _Spans:
    """Read the spans of all sentences at once from their label ids, as integers: equal spans have equal integers."""

    def __init__(self, held: HeldOut) -> None:
        parts = [split_tag(label) for label in held.labels]
        types = sorted({type_ for _, type_ in parts})
        self._type = np.array([types.index(type_) for _, type_ in parts])
        self._is_outside = np.array([prefix == OUTSIDE for prefix, _ in parts])
        self._starts = np.array([[starts_span(a, b) for b in parts] for a in parts])
        self._outside = int(np.flatnonzero(self._is_outside)[0])
        self._size, self._num_types = sum(len(s) + 1 for s in held.scores) + 1, len(types)
        borders = np.cumsum([0, *(len(s) + 1 for s in held.scores)])  # + 1: the "O" that `read` adds
        # A type that is not among the labels can't be predicted. Its spans count in num_gold only.
        self.gold = np.array([
            self._key(start + borders[i], end + borders[i], types.index(type_))
            for i, gold in enumerate(held.gold) for start, end, type_ in gold if type_ in types
        ])  # fmt: skip
        self.num_gold = held.num_gold.total()

    def _key(self, start: Any, end: Any, type_: Any) -> Any:
        """Return the integers of spans, whose positions are numbered through all sentences."""
        return (start * self._size + end) * self._num_types + type_

    def read(self, paths: list[np.ndarray]) -> np.ndarray:
        """Return the spans of one label sequence per sentence. An "O" after each sequence ends its last span."""
        flat = np.concatenate([x for path in paths for x in (path, [self._outside])]).astype(np.int64)
        before = np.concatenate([[self._outside], flat[:-1]])
        begins = self._starts[before, flat]
        ends = ~self._is_outside[before] & (begins | self._is_outside[flat])
        starts = np.flatnonzero(begins)
        # Spans don't overlap, so the i-th start and the i-th end belong to one span.
        return np.asarray(self._key(starts, np.flatnonzero(ends), self._type[flat[starts]]))


def f_beta(counts: Sequence[int], beta: float) -> float:
    """Return the F-beta from the numbers of correct, predicted and gold spans: recall weighs beta times as much."""
    (correct, predicted, gold), weight = counts, beta**2
    total = weight * gold + predicted
    return (1 + weight) * correct / total if total else 0.0


def fit_biases(held: HeldOut, decoding: Decoding, beta: float) -> dict[str, float]:
    """Return the biases with the best F-beta on the sentences; {} if biases don't help sentences not fitted on.

    They are fitted on each half of the sentences and scored on the other half. Only if that score is better than
    without biases, they are fitted on all sentences. Afterwards the decoding has no biases.
    """
    if len(held.examples) < 2:
        return {}
    halves = [held.part(range(i, len(held.examples), 2)) for i in (0, 1)]
    counts = []  # (2 halves, with or without biases, (correct, predicted, gold))
    for half, other in zip(halves, reversed(halves), strict=True):
        found = _search(half, decoding, beta)
        count = _counter(other, decoding)
        counts.append((count(found), count({})))
    with_biases, without = np.sum(counts, axis=0).tolist()
    is_better = f_beta(with_biases, beta) > f_beta(without, beta)
    fitted = _search(held, decoding, beta) if is_better else {}
    decoding.bias({})  # type: ignore[attr-defined]
    return fitted


def _counter(held: HeldOut, decoding: Decoding) -> Callable[[Mapping[str, float]], tuple[int, int, int]]:
    """Return a function that maps biases to the numbers of correct, predicted and gold spans."""
    spans = _Spans(held)
    bias: Any = decoding.bias  # type: ignore[attr-defined]

    def count(biases: Mapping[str, float]) -> tuple[int, int, int]:
        bias(biases)
        found = spans.read(decoding.decode(held.scores))
        return int(np.isin(found, spans.gold).sum()), len(found), spans.num_gold

    return count


def _search(held: HeldOut, decoding: Decoding, beta: float) -> dict[str, float]:
    """Return the biases that a coordinate search ends at. Among equally good ones the first wins, so 0 is preferred."""
    count = _counter(held, decoding)
    has_ends = any(split_tag(label)[0] == "E" for label in held.labels)
    names = FITTED if has_ends else FITTED[:3]
    best: dict[str, float] = dict.fromkeys(names, 0.0)
    value = f_beta(count(best), beta)
    for step in STEPS:
        for name in names:
            for sign in (1, -1):
                tried = best | {name: best[name] + sign * step}
                if (score := f_beta(count(tried), beta)) > value:
                    best, value = tried, score
                    break
    return {name: x for name, x in best.items() if x}
