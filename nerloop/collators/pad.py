"""Lay out one feature a row, padded to the longest."""

from __future__ import annotations

from collections.abc import Sequence

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
        import torch

        shape = (len(features), max(len(f) for f in features))
        input_ids = torch.full(shape, self._pad_id)
        mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORE)
        for row, feature in enumerate(features):
            input_ids[row, : len(feature)] = torch.from_numpy(feature.input_ids)
            labels[row, : len(feature)] = torch.from_numpy(feature.labels)
            mask[row, : len(feature)] = 1
        places = [Place(row, 0, len(feature)) for row, feature in enumerate(features)]
        return MicroBatch({"input_ids": input_ids, "attention_mask": mask}, labels, places)

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return features x longest."""
        return len(lengths) * max(lengths, default=0)
