"""Lay out one feature a row, padded to the longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nerloop.types import IGNORE, Feature, MicroBatch, Place, Tokenizer


class Pad:
    """Lays out one feature a row. Every encoder supports this; the padding costs time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the padding id (0 where the tokenizer has none: the mask hides it)."""
        self._pad_id = tokenizer.pad_token_id or 0

    @property
    def added_ids(self) -> list[int]:
        """The padding id."""
        return [self._pad_id]

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return input_ids, attention_mask and labels, all (features, longest)."""
        return as_tensors(self._arrays(features))

    def _arrays(self, features: Sequence[Feature]) -> MicroBatch:
        """Return the micro-batch as NumPy arrays; this needs no torch."""
        shape = (len(features), max(len(f) for f in features))
        input_ids: Any  # the fields of MicroBatch are typed as tensors
        labels: Any
        mask: Any
        input_ids, labels = np.full(shape, self._pad_id, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, feature in enumerate(features):
            input_ids[row, : len(feature)] = feature.input_ids
            labels[row, : len(feature)] = feature.labels
            mask[row, : len(feature)] = 1
        places = [Place(row, 0, len(feature)) for row, feature in enumerate(features)]
        return MicroBatch({"input_ids": input_ids, "attention_mask": mask}, labels, places)

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return features x longest."""
        return len(lengths) * max(lengths, default=0)


class PadArrays(Pad):
    """Lays out one feature a row as NumPy arrays, for runtimes other than torch."""

    def __init__(self, tokenizer: Tokenizer, max_subwords: int) -> None:
        """Take the tokenizer, and the maximum subwords of a forward; a single feature may have more."""
        super().__init__(tokenizer)
        self.max_subwords = max_subwords

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return input_ids, attention_mask and labels, all (features, longest)."""
        return self._arrays(features)


def as_tensors(batch: MicroBatch) -> MicroBatch:
    """Return a micro-batch of arrays as one of tensors, which share their memory."""
    import torch

    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    return replace(batch, inputs=inputs, labels=torch.from_numpy(batch.labels))
