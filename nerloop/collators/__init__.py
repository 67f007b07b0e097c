"""Plugins that lay features out as tensors: end to end in packed rows, or one a row with padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nerloop.types import Feature, MicroBatch


class Collator(Protocol):
    """A collator is built as `cls(tokenizer, **options)`.

    The logits of a feature must not depend on the other features of its micro-batch. A class may have a property
    `added_ids`: the ids of subwords that it adds to those of the features, such as padding. Only with it can training
    leave out the embeddings of subwords that occur in no feature.
    """

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return the micro-batch of one or more features."""
        ...

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return how many subwords the model computes for features of these lengths, padding included."""
        ...
