"""Features end to end in rows, each blind to its neighbours: next to no padding."""

from __future__ import annotations

from collections.abc import Sequence

from nerloop.errors import ConfigError
from nerloop.types import IGNORE, Feature, MicroBatch, Place, Tensor, Tokenizer


class Pack:
    """Rows of at most `width` cells, but no more than the model has positions (or of the longest feature).

    Positions restart with each feature, and a 4-D mask that is added to the attention scores shuts out the others, so
    that its logits are what they are alone (transformers' encoders allow that where the mask is floating point; see
    `nerloop.probe.choose_collator`, which asks the model). The unused end of a row is a block of its own: a row of the
    mask that shuts out everything would turn into NaN where the mask's minimum becomes -inf, as it does in bf16.
    """

    def __init__(self, tokenizer: Tokenizer, *, width: int = 256, position_offset: int | None = None) -> None:
        """Take the layout.

        Args:
            tokenizer: a fast tokenizer
            width: cells of a row, unless one feature is longer
            position_offset: id of the first position (none: 0, or what the model is found to want: 2 for RoBERTa)
        """
        if not isinstance(width, int) or width < 1:  # a null in YAML gets as far as this
            raise ConfigError(f"collator.width: found {width}, expected 1 or more")
        self._tokenizer = tokenizer
        self._pad_id = tokenizer.pad_token_id or 0
        self.width = width
        self.position_offset = position_offset

    def alternatives(self) -> list[Pack]:
        """Return what else to try on a model that does not agree: positions that start behind the padding id."""
        if self.position_offset is not None:
            return []
        return [Pack(self._tokenizer, width=self.width, position_offset=self._pad_id + 1)]

    def __call__(self, features: Sequence[Feature]) -> MicroBatch:
        """Return input_ids, position_ids and labels, (rows, width), and attention_mask, (rows, 1, width, width)."""
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
        inputs = {"input_ids": input_ids, "position_ids": positions, "attention_mask": block_mask(blocks)}
        return MicroBatch(inputs, labels, places)

    def num_cells(self, lengths: Sequence[int]) -> int:
        """Return the sum of the lengths: what the ends of rows add is little."""
        return sum(lengths)

    def _place(self, lengths: Sequence[int]) -> list[Place]:
        """Return where features go: in as few rows as it takes, longest first, each into the emptiest row.

        Rows filled evenly waste less than rows filled up: the last one would be padded to the width of the others.
        """
        # Some models number the cells of a row themselves, and have no more numbers than positions.
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
    """Return the additive mask, (rows, 1, width, width): 0 between cells of one block, else float32's minimum."""
    import torch

    same = blocks[:, None, :, None] == blocks[:, None, None, :]
    return torch.where(same, 0.0, torch.finfo(torch.float32).min)
