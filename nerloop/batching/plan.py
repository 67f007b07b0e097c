"""The plan: which sentences make a step, and who computes what. A pure function, the same on every process.

Seed, epoch and sentence counts decide the steps. Lengths, the number of processes and the micro-batch setting only
decide who computes what within one. Every process plans the whole batch, so nothing has to be communicated, and
resuming at step n means planning step n.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from nerloop.types import IGNORE, Feature

Cost = Callable[[Sequence[int]], int]
"""Cells that features of these lengths take up in one micro-batch: the collator's `num_cells`."""


@dataclass(frozen=True, eq=False)
class BatchUnits:
    """What the plan has to know of features: arrays over atoms (what a step must not part) and over features.

    As int32 they take 16 bytes a sentence; an epoch's order adds 12.
    """

    sentences: np.ndarray  # (atoms,) sentences of each atom
    offsets: np.ndarray  # (atoms + 1,) atom a owns features offsets[a] to offsets[a + 1]
    lengths: np.ndarray  # (features,) subwords
    labelled: np.ndarray  # (features,) subwords with a label

    @staticmethod
    def of(features: Sequence[Feature]) -> BatchUnits:
        """Return the atoms of features; those of one atom must stand side by side."""
        return BatchUnits.of_columns(
            atom=np.array([f.atom for f in features], dtype=np.int32),
            sentences=np.array([len(f.examples) for f in features], dtype=np.int32),
            lengths=np.array([len(f) for f in features], dtype=np.int32),
            labelled=np.array([int((f.labels != IGNORE).sum()) for f in features], dtype=np.int32),
        )

    @staticmethod
    def of_columns(atom: np.ndarray, sentences: np.ndarray, lengths: np.ndarray, labelled: np.ndarray) -> BatchUnits:
        """Return the atoms of features of which this is known, each (features,): int32 to be small."""
        firsts = np.flatnonzero(np.diff(atom, prepend=atom[:1] - 1)).astype(np.int32)
        return BatchUnits(
            sentences=sentences[firsts],
            offsets=np.append(firsts, np.int32(len(atom))),
            lengths=lengths,
            labelled=labelled,
        )

    def features_of(self, atoms: Sequence[int] | np.ndarray) -> list[int]:
        """Return the indices of the features of some atoms, in that order."""
        return [i for a in atoms for i in range(int(self.offsets[a]), int(self.offsets[a + 1]))]


@dataclass(frozen=True)
class Step:
    """One optimizer step: the features of the whole batch and of each micro-batch.

    `micro_batches[p][m]` holds the feature indices of the m-th forward on process p; all processes have as many
    forwards, and an empty one stands for a dummy row.
    """

    epoch: int
    num_sentences: int
    num_labelled: int  # labelled subwords of the whole batch: what the loss is divided by
    num_subwords: int
    micro_batches: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def features(self) -> list[int]:
        """Indices of all features of the batch."""
        return sorted(i for process in self.micro_batches for micro_batch in process for i in micro_batch)


@dataclass
class Plan:
    """The steps of a run; `plan[n]` is the step that `n` steps have gone before.

    `max_subwords` (cells of one micro-batch by `cost`) decides the number of micro-batches where it is given, else
    `gradient_accumulation_steps` does.
    """

    atoms: BatchUnits
    batch_size: int
    seed: int
    num_processes: int = 1
    gradient_accumulation_steps: int = 1
    max_subwords: int | None = None
    cost: Cost = sum
    _epoch: tuple[int, Sequence[np.ndarray]] = field(default=(-1, ()), repr=False)
    _first_steps: list[int] = field(default_factory=lambda: [0], repr=False)

    def num_steps(self, epochs: int) -> int:
        """Return the number of steps that so many epochs take."""
        while len(self._first_steps) <= epochs:
            epoch = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[-1] + self._num_steps_of(epoch))
        return self._first_steps[epochs]

    def epoch_of(self, step: int) -> int:
        """Return the epoch (from 0) that a step belongs to."""
        epoch = 0
        while self.num_steps(epoch + 1) <= step:
            epoch += 1
        return epoch

    def epoch_at(self, step: int) -> float:
        """Return how many epochs have passed when `step` steps are done: 1.5 is the middle of the second."""
        epoch = self.epoch_of(step)
        first, last = self.num_steps(epoch), self.num_steps(epoch + 1)
        return round(epoch + (step - first) / (last - first), 4)

    def __getitem__(self, step: int) -> Step:
        epoch = self.epoch_of(step)
        atoms = self._steps_of(epoch)[step - self.num_steps(epoch)]
        features = self.atoms.features_of(atoms)
        lengths = self.atoms.lengths[features]
        bins = self._split([int(n) for n in lengths])
        return Step(
            epoch=epoch,
            num_sentences=int(self.atoms.sentences[atoms].sum()),
            num_labelled=int(self.atoms.labelled[features].sum()),
            num_subwords=int(lengths.sum()),
            micro_batches=tuple(
                tuple(tuple(features[i] for i in bins[b]) for b in range(process, len(bins), self.num_processes))
                for process in range(self.num_processes)
            ),
        )

    def _num_steps_of(self, epoch: int) -> int:
        if (self.atoms.sentences == 1).all():  # in any order as many; an epoch is shuffled when it begins
            return -(-len(self.atoms.sentences) // self.batch_size)
        return len(self._steps_of(epoch))

    def _steps_of(self, epoch: int) -> Sequence[np.ndarray]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, shuffle_into_steps(self.atoms.sentences, self.batch_size, self.seed, epoch))
        return self._epoch[1]

    def _split(self, lengths: list[int]) -> list[list[int]]:
        most = -(-len(lengths) // self.num_processes)  # more micro-batches than this would leave all processes idle
        if self.max_subwords is None:
            return balance(lengths, self.num_processes * min(self.gradient_accumulation_steps, most))
        for num_micro_batches in range(1, most + 1):
            bins = balance(lengths, self.num_processes * num_micro_batches)
            if all(self.cost([lengths[i] for i in b]) <= self.max_subwords for b in bins if b):
                break
        return bins


@dataclass(frozen=True, eq=False)
class Pieces(Sequence[np.ndarray]):
    """An array in pieces, side by side; each is a view that is made when it is asked for."""

    values: np.ndarray
    stops: np.ndarray  # (pieces,) where each ends

    def __len__(self) -> int:
        return len(self.stops)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[index]
        return self.values[int(self.stops[i - 1]) if i else 0 : int(self.stops[i])]


def shuffle_into_steps(sentences: np.ndarray, batch_size: int, seed: int, epoch: int) -> Sequence[np.ndarray]:
    """Return the atoms of each step of an epoch: shuffled; each takes atoms until it holds `batch_size` sentences.

    `sentences` counts the sentences of each atom. The last step may hold fewer.
    """
    # RandomState's stream is frozen by NumPy's policy (NEP 19), the newer Generator's is not: checkpoints outlive it.
    order = np.arange(len(sentences), dtype=np.int32)  # shuffled as int64 would be, which `permutation` takes
    np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch]))).shuffle(order)
    if (sentences == 1).all():
        return Pieces(order, np.minimum(np.arange(0, len(order), batch_size) + batch_size, len(order)))
    ends = np.cumsum(sentences[order])
    stops, held = [], 0
    while held < ends[-1]:
        stops.append(min(int(np.searchsorted(ends, held + batch_size)) + 1, len(order)))
        held = int(ends[stops[-1] - 1])
    return Pieces(order, np.array(stops, dtype=np.int64))


def dropout_seed(seed: int, step: int, process: int) -> int:
    """Return the seed of a step's dropout on a process: what a resumed run needs in place of generator states."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def balance(lengths: Sequence[int], num_bins: int) -> list[list[int]]:
    """Return indices of `lengths` in bins of about equal sums, each bin in order: longest first into the lightest bin.

    [5, 3, 3, 1], 2 -> [[0, 3], [1, 2]]. Graham's LPT rule: the fullest bin is at most 4/3 of the best possible
    (Bounds on Multiprocessing Timing Anomalies, 1969).
    """
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    heap = [(0, b) for b in range(num_bins)]
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        load, b = heapq.heappop(heap)
        bins[b].append(i)
        heapq.heappush(heap, (load + lengths[i], b))
    return [sorted(b) for b in bins]


@dataclass(frozen=True, eq=False)
class InferenceBatches(Sequence[list[list[int]]]):
    """The groups in which features are scored: each holds whole atoms, as a list of forwards, made when asked for."""

    atoms: BatchUnits
    max_subwords: int
    cost: Cost
    members: Sequence[np.ndarray]  # the atoms of each group
    up_to: Sequence[int]  # how many groups there are up to each border

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> list[list[int]]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[list[int]]]: ...
    def __getitem__(self, index: int | slice) -> list[list[int]] | list[list[list[int]]]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        features = self.atoms.features_of(self.members[index])
        return list(_fill(features, self.atoms.lengths, self.max_subwords, self.cost))


def evaluation_batches(
    atoms: BatchUnits, max_subwords: int, cost: Cost, borders: Sequence[int] | None = None
) -> InferenceBatches:
    """Return the groups in which features are scored.

    No group crosses one of `borders`, so that what lies between two can be scored and written by itself: numbers of
    atoms, the last that of all (none: that one alone). Up to each, long atoms come first; a forward takes at most
    `max_subwords` cells, or one feature. It depends on nothing else, so the same features are scored in the same
    company whatever the number of processes and the batch of the training.
    """
    borders = [len(atoms.sentences)] if borders is None else borders
    orders: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    stops: list[int] = []
    up_to: list[int] = []
    for first, last in itertools.pairwise([0, *borders]):
        order, ends = _longest_first(atoms, first, last)
        start = 0
        while start < len(order):
            held = int(ends[start - 1]) if start else 0
            start = max(start + 1, int(np.searchsorted(ends, held + max_subwords, side="right")))
            stops.append(first + start)
        orders.append(order)
        up_to.append(len(stops))
    members = Pieces(np.concatenate(orders), np.array(stops, dtype=np.int64))
    return InferenceBatches(atoms, max_subwords, cost, members, up_to)


def _longest_first(atoms: BatchUnits, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms from `first` to `last`, long ones first, and the sum of subwords up to each of them."""
    if first == last:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    begin, end = atoms.offsets[first], atoms.offsets[last]
    offsets = atoms.offsets[first:last] - begin
    lengths = atoms.lengths[begin:end]
    order = np.argsort(-np.maximum.reduceat(lengths, offsets), kind="stable").astype(np.int32)
    return order + np.int32(first), np.cumsum(np.add.reduceat(lengths, offsets)[order])


def _fill(features: list[int], lengths: np.ndarray, max_subwords: int, cost: Cost) -> Iterator[list[int]]:
    forward: list[int] = []
    for i in features:
        if forward and cost([int(lengths[j]) for j in itertools.chain(forward, [i])]) > max_subwords:
            yield forward
            forward = []
        forward.append(i)
    if forward:
        yield forward
