"""Pack features end to end with almost no padding; no feature attends to its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nerloop.batching.shapes import round_up_size
from nerloop.errors import ConfigError
from nerloop.plugins import did_you_mean
from nerloop.types import IGNORE, Feature, MicroBatch, Place, Tensor, Tokenizer

LAYOUTS = ("unpadded", "added_mask", "block_mask")
"""One row without padding; rows with a mask added to the attention scores; rows with a boolean mask."""


class Pack:
    """Lays features out in one row without padding or, if a model can't do that, in rows of bounded width with a mask.

    Positions restart with each feature and no feature sees another, so its logits are the same as alone. In one row,
    `nerloop.model.packing` separates the features. In several rows, a floating-point mask is added to the attention
    scores, which transformers' encoders accept; DeBERTa takes a 3-D boolean mask instead. The unused end of a row is a
    block of its own: a mask row that hides everything would give NaN where float32's minimum becomes -inf, as in bf16.
    `nerloop.model.compat.choose_collator` finds out which layout a model supports.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, width: int = 256, position_offset: int | None = None, layout: str = LAYOUTS[0]
    ) -> None:
        """Take the layout.

        Args:
            tokenizer: a fast tokenizer
            width: cells of a row where there are several rows; a longer feature makes rows wider
            position_offset: id of the first position (none: 0, or 2 where the model needs it, as RoBERTa does)
            layout: the first of LAYOUTS to try on the model
        """
        if not isinstance(width, int) or width < 1:  # the parser lets a null in YAML through
            raise ConfigError(f"collator.width: found {width}, expected 1 or more")
        if layout not in LAYOUTS:
            near = did_you_mean(layout, LAYOUTS)
            raise ConfigError(f"collator.layout: found {layout!r}{near}, expected one of {', '.join(LAYOUTS)}")
        self._tokenizer = tokenizer
        self._pad_id = tokenizer.pad_token_id or 0
        self.width = width
        self.position_offset = position_offset
        self.layout = layout
        self._widths = {"per_octave": 16, "multiple_of": 8}  # widths of an unpadded row, for round_up_size; see prepare

    def alternatives(self) -> list[Pack]:
        """Return the collators to try next if a model gives other logits: other first positions, then other layouts."""
        offsets = [None, self._pad_id + 1] if self.position_offset is None else [self.position_offset]
        others = [
            Pack(self._tokenizer, width=self.width, position_offset=offset, layout=layout)
            for layout in LAYOUTS[LAYOUTS.index(self.layout) :]
            for offset in offsets
        ]
        return others[1:]

    def prepare(self, model: Any) -> None:
        """Choose the widths that the row without padding may have, for a model's device and type."""
        first = next(model.parameters())
        if self.layout == "unpadded" and first.device.type == "cuda":
            # Fewer widths mean fewer CUDA graphs, and empty cells are cheap on a GPU.
            self._widths = {"per_octave": 8, "multiple_of": 128}
        elif str(first.dtype) == "torch.bfloat16":
            # oneDNN computes blocks of 32 rows, and generating a kernel for a remainder takes some 30 ms.
            self._widths = {"per_octave": 16, "multiple_of": 32}
        else:
            self._widths = {"per_octave": 16, "multiple_of": 8}

    @property
    def added_ids(self) -> list[int]:
        """The padding id."""
        return [self._pad_id]

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return input_ids, position_ids and labels, (rows, width), and the mask that the layout needs."""
        return self._row(features) if self.layout == "unpadded" else self._rows(features)

    def _row(self, features: Sequence[Feature]) -> MicroBatch:
        import torch

        lengths = [len(f) for f in features]
        *starts, end = [0, *itertools.accumulate(lengths)]
        tail = round_up_size(end, **self._widths) - end
        within = np.concatenate([*(np.arange(n) for n in lengths), np.zeros(tail, np.int64)])
        positions = within + (self.position_offset or 0)
        ids = np.concatenate([*(f.input_ids for f in features), np.full(tail, self._pad_id)])
        labels = np.concatenate([*(f.labels for f in features), np.full(tail, IGNORE)])
        return MicroBatch(
            {"input_ids": torch.from_numpy(ids)[None], "position_ids": torch.from_numpy(positions)[None]},
            torch.from_numpy(labels)[None],
            [Place(0, start, length) for start, length in zip(starts, lengths, strict=True)],
            is_unpadded=True,
        )

    def _rows(self, features: Sequence[Feature]) -> MicroBatch:
        import torch

        places = self._place([len(f) for f in features])
        shape = (max(p.row for p in places) + 1, max(p.start + p.length for p in places))
        input_ids = torch.full(shape, self._pad_id)
        labels = torch.full(shape, IGNORE)
        blocks = torch.full(shape, -1)  # which feature a cell belongs to
        positions = torch.full(shape, self.position_offset or 0)
        for i, (feature, (row, start, length)) in enumerate(zip(features, places, strict=True)):
            cells = slice(start, start + length)
            input_ids[row, cells] = torch.from_numpy(feature.input_ids)
            labels[row, cells] = torch.from_numpy(feature.labels)
            positions[row, cells] += torch.arange(length)
            blocks[row, cells] = i
        mask = block_mask(blocks) if self.layout == "block_mask" else added_mask(blocks)
        inputs = {"input_ids": input_ids, "position_ids": positions, "attention_mask": mask}
        return MicroBatch(inputs, labels, places)

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return the sum of the lengths; the unused ends of rows are few and not counted."""
        return sum(lengths)

    def _place(self, lengths: Sequence[int]) -> list[Place]:
        """Return where features go: in as few rows as possible, longest first, each into the emptiest row.

        Rows of similar length need less padding than full rows and a short last one, which is padded to their width.
        """
        # Some models number the cells of a row themselves, so a row must not exceed their number of positions.
        width = max(min(self.width, self._tokenizer.model_max_length), *lengths)
        num_rows = -(-sum(lengths) // width)
        while True:
            used = [0] * num_rows  # cells of each row
            places: dict[int, Place] = {}
            for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
                row = used.index(min(used))
                places[i] = Place(row, used[row], lengths[i])
                used[row] += lengths[i]
            if max(used) <= width:
                return [places[i] for i in range(len(lengths))]
            num_rows += 1


def block_mask(blocks: Tensor) -> Tensor:
    """Return the boolean mask, (rows, width, width): whether two cells belong to one block."""
    return blocks[:, :, None] == blocks[:, None, :]


def added_mask(blocks: Tensor) -> Tensor:
    """Return the additive mask, (rows, 1, width, width): 0 between cells of one block, else float32's minimum."""
    import torch

    return torch.where(block_mask(blocks)[:, None], 0.0, torch.finfo(torch.float32).min)
