"""Where the sequences of a packed row begin and end, and the length buckets for attention without a kernel.

Sizes are rounded to a small set (`round_up_size`), so that generated kernels, CUDA graphs and memory are reused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from nerloop.batching.shapes import round_up_size
from nerloop.types import Tensor

MAX_WASTED_PAIRS = 5_000
"""Pairs of subwords that a bucket may compute for padding: beyond it, one more bucket costs less time."""

MIN_MAX_SEQLEN = 128
"""Smallest bound of lengths: FlashAttention handles up to 128 subwords in one block, so smaller bounds save nothing."""


def rounded_cu_seqlens(lengths: Sequence[int], width: int) -> tuple[Tensor, int]:
    """Return cu_seqlens (int32, on the CPU) of a row of `width` subwords, and an upper bound of the lengths.

    Both the length of cu_seqlens and the bound are rounded up. After the sequences come the row's tail and then empty
    sequences: [3, 2], 8 -> [0, 3, 5, 8], 128. On a GPU both values decide how many random numbers the dropout of
    attention draws. So all forwards on a GPU round them, and dropout is the same whether or not a graph is replayed.
    """
    ends = list(itertools.accumulate(lengths))
    count = round_up_size(len(lengths) + 1, 4)
    max_seqlen = round_up_size(max(*lengths, width - ends[-1]), 1, multiple_of=MIN_MAX_SEQLEN)
    return torch.tensor([0, *ends, *[width] * (count - len(ends))], dtype=torch.int32), max_seqlen


def to_device(tensor: Tensor, device: Any) -> Tensor:
    """Return a CPU tensor on a device; a GPU copies it while the process continues."""
    if device is not None and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True, eq=False)
class LengthBucket:
    """Sequences of about the same length, attended to together as a padded batch."""

    start: int  # index of its first cell, counted over all buckets
    num_sequences: int
    length: int
    mask: Tensor | None  # (num_sequences, 1, 1, length), added to the scores; None: no padding

    @property
    def num_cells(self) -> int:
        """The number of cells, padding included."""
        return self.num_sequences * self.length


@dataclass(frozen=True, eq=False)
class GatherIndex:
    """Row indices that copy (subwords * heads, width) into bucket cells (cells * heads, width), and back."""

    to_buckets: Tensor  # (cells * heads,) which subword and head each cell and head takes
    to_row: Tensor  # (subwords * heads,) which cell and head each subword and head takes
    padding: Tensor  # the indices of cells and heads without a subword
    num_real: int  # subwords * heads, not counting the row's tail


@dataclass(frozen=True, eq=False)
class PackedLayout:
    """Where the sequences of a packed row lie."""

    lengths: np.ndarray  # (sequences,) subwords of each; empty where only the device knows them (CUDA graphs)
    width: int  # subwords of the row; those after the last sequence, its tail, belong to none
    cu_seqlens: Tensor  # (sequences + 1 or more,) int32: where each begins, and the end; a tail is one more sequence
    max_seqlen: int  # subwords of the longest sequence, or a bound
    _indices: dict[int, GatherIndex] = field(default_factory=dict)

    @staticmethod
    def of(lengths: Sequence[int], width: int | None = None, device: Any = None) -> PackedLayout:
        """Return the layout of sequences of these lengths, end to end in a row of `width` subwords (None: no tail)."""
        ends = [0, *itertools.accumulate(lengths)]
        width = width or ends[-1]
        if device is not None and torch.device(device).type == "cuda":
            rounded, max_seqlen = rounded_cu_seqlens(lengths, width)
            return PackedLayout(np.asarray(lengths), width, to_device(rounded, device), max_seqlen)
        tail = [width] if width > ends[-1] else []
        cu_seqlens = torch.tensor([*ends, *tail], dtype=torch.int32).to(device)
        return PackedLayout(np.asarray(lengths), width, cu_seqlens, max(*lengths, width - ends[-1]))

    @property
    def num_subwords(self) -> int:
        """The subwords of all sequences, without the tail."""
        return int(self.lengths.sum())

    @property
    def buckets(self) -> Sequence[LengthBucket]:
        """The length buckets, longest first."""
        return self._bucketed[0]

    @property
    def subwords(self) -> Tensor:
        """The subword of each bucket cell, -1 for padding; on the CPU."""
        return self._bucketed[1]

    @cached_property
    def _bucketed(self) -> tuple[Sequence[LengthBucket], Tensor]:
        if not len(self.lengths):
            raise NotImplementedError("length buckets of sequences whose lengths only the device knows")
        device = self.cu_seqlens.device
        starts = np.cumsum(self.lengths) - self.lengths
        order = np.argsort(-self.lengths, kind="stable")  # longest first, so a bucket's first sequence is its longest
        buckets: list[LengthBucket] = []
        subwords: list[np.ndarray] = []
        at = start = 0
        while at < len(order):
            # A bucket takes sequences, longest first, until padding would cost more than one more bucket.
            longest = int(self.lengths[order[at]])
            fits = np.cumsum(longest**2 - self.lengths[order[at:]] ** 2) <= MAX_WASTED_PAIRS
            members = order[at : at + int(fits.sum())]
            length, num_rows = round_up_size(longest, 8, multiple_of=8), round_up_size(len(members), 4)
            within = np.arange(length)
            is_real = within < self.lengths[members][:, None]
            rows = np.full((num_rows, length), -1)
            rows[: len(members)][is_real] = (starts[members][:, None] + within)[is_real]
            mask = None
            if not is_real.all():
                # A row without a sequence sees all of itself: if it saw nothing, its softmax would be NaN.
                seen = torch.from_numpy(rows >= 0) | (torch.arange(num_rows) >= len(members))[:, None]
                mask = to_device(torch.where(seen, 0.0, -torch.inf)[:, None, None, :], device)
            buckets.append(LengthBucket(start, num_rows, length, mask))
            subwords.append(rows.ravel())
            at, start = at + len(members), start + rows.size
        return buckets, torch.from_numpy(np.concatenate(subwords))

    def gather_index(self, num_heads: int) -> GatherIndex:
        """Return the indices between row and buckets; computed once, since all layers of a model use the same."""
        if (known := self._indices.get(num_heads)) is not None:
            return known
        device = self.cu_seqlens.device
        # Computed on the CPU: on a GPU, nonzero() below would wait for the device.
        heads = torch.arange(num_heads)[:, None]
        blocks = []
        for bucket in self.buckets:
            cells = self.subwords[bucket.start : bucket.start + bucket.num_cells]
            rows = cells.view(bucket.num_sequences, 1, bucket.length)
            blocks.append(torch.where(rows < 0, -1, rows * num_heads + heads).flatten())
        to_buckets = torch.cat(blocks)
        is_real = to_buckets >= 0
        # Padding takes the value of subword 0, and the tail that of cell 0: any will do, since nothing reads them.
        to_row = torch.zeros(self.width * num_heads, dtype=torch.int64)
        to_row[to_buckets[is_real]] = is_real.nonzero()[:, 0]
        to_buckets, padding = to_buckets.clamp(min=0), (~is_real).nonzero()[:, 0]
        index = GatherIndex(
            to_device(to_buckets, device), to_device(to_row, device), to_device(padding, device),
            self.num_subwords * num_heads,
        )  # fmt: skip
        self._indices[num_heads] = index
        return index

    def split(self, x: Tensor, num_heads: int) -> list[Tensor]:
        """Return x, (cells * heads, width), by bucket: (sequences, heads, length, width)."""
        parts = torch.split(x, [bucket.num_cells * num_heads for bucket in self.buckets])
        return [
            part.view(bucket.num_sequences, num_heads, bucket.length, -1)
            for bucket, part in zip(self.buckets, parts, strict=True)
        ]
