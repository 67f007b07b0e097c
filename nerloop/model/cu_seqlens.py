"""Where the sentences of a row without padding lie, and the stacks that they are attended to in where need be.

Sizes of tensors are few: kernels that are generated for a shape, CUDA graphs and freed memory all live on repetition.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nerloop.batching.shapes import few_shapes
from nerloop.types import Tensor

SPARED = 5_000
"""Pairs of subwords that a stack may compute in vain: more would cost more time than the calls of one stack more."""

LEAST_LONGEST = 128
"""Subwords that the kernel for all sentences at once takes in one go: up to here no length is worth a shape."""


def few_borders(lengths: Sequence[int], width: int) -> tuple[Tensor, int]:
    """Return the borders of sentences in a row of `width`, int32, and an upper bound of their lengths, of few values.

    Behind the sentences come the tail and sentences of no subword, so that there are few numbers of borders, too:
    [3, 2], 8 -> [0, 3, 5, 8], 128. How many random numbers the attention of a layer takes depends on both on a GPU,
    so with these for all forwards alike, dropout does not depend on which of them are replayed as graphs.
    """
    import torch

    ends = list(itertools.accumulate(lengths))
    count = few_shapes(len(lengths) + 1, 4)
    longest = few_shapes(max(*lengths, width - ends[-1]), 1, least=LEAST_LONGEST)
    return torch.tensor([0, *ends, *[width] * (count - len(ends))], dtype=torch.int32), longest


def send(tensor: Tensor, device: Any) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU fetches it while the process goes on."""
    if device is not None and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True, eq=False)
class Stack:
    """Sentences that are attended to together: `num_sentences` rows of `length` cells, from cell `start` on."""

    start: int
    num_sentences: int
    length: int
    mask: Tensor | None  # (num_sentences, 1, 1, length), added to the scores; None: no padding

    @property
    def num_cells(self) -> int:
        """The cells of all its rows."""
        return self.num_sentences * self.length


@dataclass(frozen=True, eq=False)
class Moves:
    """Where the heads of subwords go in the stacks, sentence by sentence and head by head, and come back from."""

    there: Tensor  # (cells * heads,) the subword and head of each cell and head
    back: Tensor  # (subwords * heads,) the cell and head of each subword and head
    padding: Tensor  # the cells and heads that hold no subword
    num_real: int  # subwords * heads without the row's tail


@dataclass(frozen=True, eq=False)
class PackedLayout:
    """Where the sentences of a row lie, and, for attention in stacks, where their subwords go and come back from."""

    lengths: np.ndarray  # (sentences,) subwords of each
    width: int  # of the row: behind the sentences there may be a tail that is of none
    borders: Tensor  # (sentences + 1,) int32, where each sentence starts, and the end of the last; the tail is one
    longest: int  # subwords of the longest sentence
    _moves: dict[int, Moves] = field(default_factory=dict)

    @staticmethod
    def of(lengths: Sequence[int], width: int | None = None, device: Any = None) -> PackedLayout:
        """Return the layout of sentences of these lengths, end to end in one row of `width` (none: no tail)."""
        import torch

        ends = [0, *itertools.accumulate(lengths)]
        width = width or ends[-1]
        if device is not None and torch.device(device).type == "cuda":
            few, longest = few_borders(lengths, width)
            return PackedLayout(np.asarray(lengths), width, send(few, device), longest)
        tail = [width] if width > ends[-1] else []
        borders = torch.tensor([*ends, *tail], dtype=torch.int32).to(device)
        return PackedLayout(np.asarray(lengths), width, borders, max(*lengths, width - ends[-1]))

    @property
    def num_subwords(self) -> int:
        """The subwords of all sentences."""
        return int(self.lengths.sum())

    @property
    def stacks(self) -> Sequence[Stack]:
        """The stacks, of sentences of about the same length."""
        return self._stacked[0]

    @property
    def subwords(self) -> Tensor:
        """The subword of each cell of the stacks, -1 in padding; on the CPU."""
        return self._stacked[1]

    @cached_property
    def _stacked(self) -> tuple[Sequence[Stack], Tensor]:
        import torch

        if not len(self.lengths):
            raise NotImplementedError("stacks of sentences whose lengths the device alone knows")
        device = self.borders.device
        starts = np.cumsum(self.lengths) - self.lengths
        order = np.argsort(-self.lengths, kind="stable")
        stacks: list[Stack] = []
        subwords: list[np.ndarray] = []
        at = start = 0
        while at < len(order):
            longest = int(self.lengths[order[at]])
            spared = np.cumsum(longest**2 - self.lengths[order[at:]] ** 2) <= SPARED
            members = order[at : at + int(spared.sum())]
            length, num_rows = few_shapes(longest, 8, least=8), few_shapes(len(members), 4)
            within = np.arange(length)
            is_real = within < self.lengths[members][:, None]
            rows = np.full((num_rows, length), -1)
            rows[: len(members)][is_real] = (starts[members][:, None] + within)[is_real]
            mask = None
            if not is_real.all():
                # A row of no sentence sees all of it: one that sees nothing would be NaN.
                seen = torch.from_numpy(rows >= 0) | (torch.arange(num_rows) >= len(members))[:, None]
                mask = send(torch.where(seen, 0.0, -torch.inf)[:, None, None, :], device)
            stacks.append(Stack(start, num_rows, length, mask))
            subwords.append(rows.ravel())
            at, start = at + len(members), start + rows.size
        return stacks, torch.from_numpy(np.concatenate(subwords))

    def moves(self, num_heads: int) -> Moves:
        """Return the moves of heads; all layers of a model make the same ones."""
        import torch

        if (known := self._moves.get(num_heads)) is not None:
            return known
        device = self.borders.device
        heads = torch.arange(num_heads)[:, None]  # on the CPU: a device would have to be asked how many cells are real
        blocks = []
        for stack in self.stacks:
            cells = self.subwords[stack.start : stack.start + stack.num_cells]
            rows = cells.view(stack.num_sentences, 1, stack.length)
            blocks.append(torch.where(rows < 0, -1, rows * num_heads + heads).flatten())
        there = torch.cat(blocks)
        is_real = there >= 0
        # What has no subword takes any for its value, and what is of no sentence any cell's output.
        back = torch.zeros(self.width * num_heads, dtype=torch.int64)
        back[there[is_real]] = is_real.nonzero()[:, 0]
        there, padding = there.clamp(min=0), (~is_real).nonzero()[:, 0]
        moves = Moves(send(there, device), send(back, device), send(padding, device), self.num_subwords * num_heads)
        self._moves[num_heads] = moves
        return moves

    def split(self, x: Tensor, num_heads: int) -> list[Tensor]:
        """Return x, (cells * heads, width), stack by stack: (sentences, heads, length, width)."""
        import torch

        parts = torch.split(x, [stack.num_cells * num_heads for stack in self.stacks])
        return [
            part.view(stack.num_sentences, num_heads, stack.length, -1)
            for stack, part in zip(self.stacks, parts, strict=True)
        ]
