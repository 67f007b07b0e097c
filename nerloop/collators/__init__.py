"""Plugins that lay features out as tensors: end to end in packed rows, or one a row with padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nerloop.types import Feature, MicroBatch


class Collator(Protocol):
    """A collator is built as `cls(tokenizer, **options)`.

    The logits of a feature must not depend on the company it is laid out with. Optional: `added_ids` of the class
    itself, the ids of the subwords that it adds to those of the features (padding). With them, embeddings of subwords
    that are in no training feature are left out of the steps.
    """

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return the micro-batch of one or more features."""
        ...

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return how many subwords the model computes for features of these lengths, padding included."""
        ...
