"""Plugins that turn gold and predicted tags into metrics, by counts that add up over any division of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

Counts = Counter[tuple[str, ...]]
"""Whole numbers under keys of the evaluator's choosing; the counts of two parts of the data add up to those of both."""


class Evaluator(Protocol):
    """An evaluator is built as `cls(**options)`."""

    def count(self, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
        """Return the counts of some sentences, from their gold and predicted tags (equally many a sentence)."""
        ...

    def metrics(self, counts: Counts) -> dict[str, Any]:
        """Return the metrics that counts add up to; plain numbers and dicts of them, fractions from 0 to 1."""
        ...
