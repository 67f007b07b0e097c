"""Remove predicted spans whose confidence is below a threshold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nerloop.tags import OUTSIDE, Scheme, is_legal, split_tag, to_spans


@dataclass(frozen=True)
class Thresholds:
    """The lowest confidence at which a predicted span is kept: one for all types, and separate ones for some."""

    of_all: float = 0.0
    by_type: Mapping[str, float] = field(default_factory=dict)
    scheme: Scheme = Scheme.IOB2

    def __bool__(self) -> bool:
        return any(threshold > 0 for threshold in (self.of_all, *self.by_type.values()))

    def apply(self, tags: Sequence[str], confidences: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the tags and confidences of the kept spans, given the tags and confidences of all spans."""
        spans = to_spans(tags)
        is_kept = np.array([c >= self.by_type.get(s.type, self.of_all) for s, c in zip(spans, confidences)], dtype=bool)
        left = list(tags)
        for span, keep in zip(spans, is_kept, strict=True):
            if not keep:
                left[span.start : span.end] = [OUTSIDE] * (span.end - span.start)
        return self._without_lone_marks(left), confidences[is_kept]

    def _without_lone_marks(self, tags: Sequence[str]) -> list[str]:
        """Return tags in which B- (IOB1) and E- (IOE1) occur only between two touching spans, which they separate.

        If one of the two spans was removed, the mark of the other one is illegal and becomes I-.
        """
        if self.scheme not in (Scheme.IOB1, Scheme.IOE1):
            return list(tags)
        parts = [(OUTSIDE, ""), *map(split_tag, tags), (OUTSIDE, "")]
        found = []
        for before, tag, after in zip(parts, parts[1:], parts[2:]):
            is_lone = not all(is_legal(a, b, self.scheme) for a, b in itertools.pairwise((before, tag, after)))
            found.append(f"I-{tag[1]}" if is_lone and tag[0] in "BE" else "-".join(part for part in tag if part))
        return found
