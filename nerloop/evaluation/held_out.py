"""Gold spans and model scores of held-out sentences, on which calibration is fitted and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nerloop.decoding import Decoding
from nerloop.decoding.operating_points import THRESHOLDS, Curve
from nerloop.tags import to_spans
from nerloop.types import Example, Span


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out sentences: their gold spans, and the log-probabilities of a model, (tokens, labels) each."""

    labels: Sequence[str]
    examples: Sequence[Example]
    scores: Sequence[np.ndarray]

    @property
    def gold(self) -> list[set[Span]]:
        """The gold spans of each sentence, without those that tags can't express."""
        return [set(to_spans(e.tags)) - set(e.widened) for e in self.examples]

    @property
    def num_gold(self) -> Counter[str]:
        """The number of gold spans by type, including those that tags can't express."""
        return Counter(
            span.type for e, gold in zip(self.examples, self.gold, strict=True) for span in (*gold, *e.missed)
        )

    def part(self, which: Sequence[int]) -> HeldOut:
        """Return the sentences with these indices."""
        return HeldOut(self.labels, [self.examples[i] for i in which], [self.scores[i] for i in which])

    def within(self, num_values: int) -> HeldOut:
        """Return every k-th sentence, so that about `num_values` scores remain; all sentences if there are no more."""
        total = sum(len(s) for s in self.scores) * len(self.labels)
        every = -(-total // num_values)
        return self if every <= 1 else self.part(range(0, len(self.examples), every))

    def gold_paths(self) -> tuple[list[int], list[np.ndarray]]:
        """Return the sentences whose gold tags are all labels of the model, and their label ids."""
        ids = {label: i for i, label in enumerate(self.labels)}
        which = [i for i, e in enumerate(self.examples) if e.tags and all(tag in ids for tag in e.tags)]
        return which, [np.array([ids[tag] for tag in self.examples[i].tags]) for i in which]

    def predicted(self, decoding: Decoding) -> list[list[Span]]:
        """Return the spans that a decoding finds in each sentence."""
        return [to_spans([self.labels[i] for i in path]) for path in decoding.decode(self.scores)]


@dataclass(frozen=True, eq=False)
class Judged:
    """All predicted spans of some sentences, flat: type, confidence, and whether it is gold."""

    types: np.ndarray  # (spans,) of str
    confidences: np.ndarray  # (spans,)
    is_correct: np.ndarray  # (spans,) bool

    @staticmethod
    def of(held: HeldOut, decoding: Decoding, temperature: float) -> Judged:
        """Return the spans that a decoding finds, with the probabilities that it gives them."""
        spans = held.predicted(decoding)
        find: Callable[..., Any] = decoding.span_probabilities  # type: ignore[attr-defined]
        confidences = find(held.scores, spans, temperature)
        flat = [(span.type, span in gold) for of_one, gold in zip(spans, held.gold, strict=True) for span in of_one]
        types, is_correct = ([pair[at] for pair in flat] for at in (0, 1))
        return Judged(
            np.array(types, dtype=object), np.concatenate([np.zeros(0), *confidences]), np.array(is_correct, dtype=bool)
        )

    def curves(self, num_gold: Counter[str]) -> dict[str, Curve]:
        """Return the curves of all types together ("all") and of each, given the number of gold spans by type."""
        found = {"all": self._curve(np.ones(len(self.types), dtype=bool), num_gold.total())}
        for type_ in sorted({*num_gold, *self.types}):
            found[type_] = self._curve(self.types == type_, num_gold[type_])
        return found

    def _curve(self, which: np.ndarray, gold: int) -> Curve:
        kept = [which & (self.confidences >= threshold) for threshold in THRESHOLDS]
        return Curve(gold, tuple(int(k.sum()) for k in kept), tuple(int((k & self.is_correct).sum()) for k in kept))
