"""The plan: which sentences make a step, and which process computes which of them.

It is a pure function, the same on every process. Only the seed, the epoch and the sentence counts decide which
sentences a step holds. Lengths, the number of processes and the micro-batch settings decide only how the batch is
divided. Every process plans the whole batch, so nothing has to be communicated. To resume at step n is to plan step n.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nerloop.types import IGNORE, Feature, LazySequence

Cost = Callable[[Sequence[int]], int]
"""Number of cells of a micro-batch that holds features of these lengths: the collator's `num_cells`."""


@dataclass(frozen=True, eq=False)
class BatchUnits:
    """The sizes of all atoms and features, as arrays; the plan needs nothing else.

    An atom is a group of features that must be in the same step, such as the windows of one long sentence. As int32 the
    arrays take 16 bytes a sentence; an epoch's order adds 12.
    """

    sentences: np.ndarray  # (atoms,) sentences of each atom
    offsets: np.ndarray  # (atoms + 1,) atom a holds features offsets[a] to offsets[a + 1]
    lengths: np.ndarray  # (features,) subwords
    labelled: np.ndarray  # (features,) subwords with a label

    @staticmethod
    def of(features: Sequence[Feature]) -> BatchUnits:
        """Return the atoms of features; the features of one atom must be consecutive."""
        return BatchUnits.of_columns(
            atom=np.array([f.atom for f in features], dtype=np.int32),
            sentences=np.array([len(f.examples) for f in features], dtype=np.int32),
            lengths=np.array([len(f) for f in features], dtype=np.int32),
            labelled=np.array([int((f.labels != IGNORE).sum()) for f in features], dtype=np.int32),
        )

    @staticmethod
    def of_columns(atom: np.ndarray, sentences: np.ndarray, lengths: np.ndarray, labelled: np.ndarray) -> BatchUnits:
        """Return the atoms of features, given as columns, each (features,); int32 saves memory."""
        # An atom begins where the atom number changes; the value put before the first one differs from it.
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
    """One optimizer step: the sizes of the whole batch, and the features of each micro-batch.

    `micro_batches[p][m]` holds the feature indices of the m-th forward on process p. All processes run the same number
    of forwards; for an empty micro-batch the forward runs on a dummy row without labels.
    """

    epoch: int
    num_sentences: int
    num_labelled: int  # subwords of the whole batch that have a label or a target: the divisor of the loss
    num_subwords: int
    micro_batches: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def features(self) -> list[int]:
        """Indices of all features of the batch."""
        return sorted(i for process in self.micro_batches for micro_batch in process for i in micro_batch)


@dataclass
class Plan:
    """The steps of a run: `plan[n]` is the step after `n` steps.

    If `max_subwords` is set, a step has as many micro-batches as are needed for each `cost` to stay within it.
    Otherwise `gradient_accumulation_steps` is their number.
    """

    atoms: BatchUnits
    batch_size: int
    seed: int
    num_processes: int = 1
    gradient_accumulation_steps: int = 1
    max_subwords: int | None = None
    cost: Cost = sum
    _epoch: tuple[int, Sequence[np.ndarray]] = field(default=(-1, ()), repr=False)  # the last epoch that was shuffled
    _first_steps: list[int] = field(default_factory=lambda: [0], repr=False)  # by epoch: the number of its first step

    def num_steps(self, epochs: int) -> int:
        """Return the number of steps of the first `epochs` epochs."""
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
        """Return how many epochs are done after `step` steps: 1.5 is the middle of the second."""
        epoch = self.epoch_of(step)
        first, last = self.num_steps(epoch), self.num_steps(epoch + 1)
        return round(epoch + (step - first) / (last - first), 4)

    def __getitem__(self, step: int) -> Step:
        epoch = self.epoch_of(step)
        atoms = self._steps_of(epoch)[step - self.num_steps(epoch)]
        features = self.atoms.features_of(atoms)
        lengths = self.atoms.lengths[features]
        # One bin a forward. Bin b goes to process b modulo num_processes, so each process gets equally many.
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
        if (self.atoms.sentences == 1).all():  # the order does not matter, so nothing is shuffled yet
            return -(-len(self.atoms.sentences) // self.batch_size)
        return len(self._steps_of(epoch))

    def _steps_of(self, epoch: int) -> Sequence[np.ndarray]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, shuffle_into_steps(self.atoms.sentences, self.batch_size, self.seed, epoch))
        return self._epoch[1]

    def _split(self, lengths: list[int]) -> list[list[int]]:
        """Return the features of each forward of a step, as indices into `lengths`."""
        max_micro_batches = -(-len(lengths) // self.num_processes)  # with more, some forward would be empty everywhere
        if self.max_subwords is None:
            return balance(lengths, self.num_processes * min(self.gradient_accumulation_steps, max_micro_batches))
        # The smallest number of micro-batches whose cost fits. If even single features don't fit, the last try stays.
        for num_micro_batches in range(1, max_micro_batches + 1):
            bins = balance(lengths, self.num_processes * num_micro_batches)
            if all(self.cost([lengths[i] for i in b]) <= self.max_subwords for b in bins if b):
                break
        return bins


@dataclass(frozen=True, eq=False)
class Pieces(LazySequence[np.ndarray]):
    """Consecutive slices of one array. Each is a view that is created on access, which saves memory."""

    values: np.ndarray
    stops: np.ndarray  # (pieces,) the end of each; it starts at the end of the one before

    def __len__(self) -> int:
        return len(self.stops)

    def item(self, i: int) -> np.ndarray:
        """Return slice `i`."""
        return self.values[int(self.stops[i - 1]) if i else 0 : int(self.stops[i])]


def shuffle_into_steps(sentences: np.ndarray, batch_size: int, seed: int, epoch: int) -> Sequence[np.ndarray]:
    """Return the atoms of each step of an epoch, in shuffled order.

    A step takes atoms until it holds at least `batch_size` sentences; the last step may hold fewer. `sentences` is the
    number of sentences of each atom.
    """
    # NumPy guarantees that RandomState's stream never changes (NEP 19). The newer Generator has no such guarantee, and
    # a run that is resumed with another NumPy must see the same order.
    order = np.arange(len(sentences), dtype=np.int32)  # same order as `permutation`, which makes int64
    np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch]))).shuffle(order)
    if (sentences == 1).all():
        return Pieces(order, np.minimum(np.arange(0, len(order), batch_size) + batch_size, len(order)))
    ends = np.cumsum(sentences[order])
    stops, held = [], 0  # held: sentences of all steps so far
    while held < ends[-1]:
        stops.append(min(int(np.searchsorted(ends, held + batch_size)) + 1, len(order)))
        held = int(ends[stops[-1] - 1])
    return Pieces(order, np.array(stops, dtype=np.int64))


def dropout_seed(seed: int, step: int, process: int) -> int:
    """Return the seed of a step's dropout on a process, so that a resumed run needs no generator states."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def balance(lengths: Sequence[int], num_bins: int) -> list[list[int]]:
    """Return the indices of `lengths` in bins of about equal sums; each bin is sorted.

    The longest goes first, always into the lightest bin: [5, 3, 3, 1], 2 -> [[0, 3], [1, 2]].
    By Graham's LPT rule the fullest bin is at most 4/3 of the best possible (Bounds on Multiprocessing Timing
    Anomalies, 1969).
    """
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    heap = [(0, b) for b in range(num_bins)]
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        load, b = heapq.heappop(heap)
        bins[b].append(i)
        heapq.heappush(heap, (load + lengths[i], b))
    return [sorted(b) for b in bins]


@dataclass(frozen=True, eq=False)
class InferenceBatches(LazySequence[list[list[int]]]):
    """The groups in which features are scored, each a list of forwards that is created on access.

    A group holds whole atoms, so its scores can be joined as soon as its forwards are done.
    """

    atoms: BatchUnits
    max_subwords: int
    cost: Cost
    members: Sequence[np.ndarray]  # the atoms of each group
    up_to: Sequence[int]  # the number of groups before each border

    def __len__(self) -> int:
        return len(self.members)

    def item(self, i: int) -> list[list[int]]:
        """Return the forwards of group `i`, each as indices of features."""
        features = self.atoms.features_of(self.members[i])
        return list(_fill(features, self.atoms.lengths, self.max_subwords, self.cost))


def evaluation_batches(
    atoms: BatchUnits, max_subwords: int, cost: Cost, borders: Sequence[int] | None = None
) -> InferenceBatches:
    """Return the groups in which features are scored.

    `borders` are cumulative numbers of atoms; the last one is the number of all atoms (default: only that). No group
    crosses a border, so the atoms between two borders can be scored and written by themselves. Between two borders the
    longest atoms come first. A forward holds at most `max_subwords` cells, or a single feature.

    The groups don't depend on the number of processes or on the batch size of training. Each feature is therefore
    always scored together with the same others, and rounding can't change its scores.
    """
    borders = [len(atoms.sentences)] if borders is None else borders
    orders: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    stops: list[int] = []
    up_to: list[int] = []
    for first, last in itertools.pairwise([0, *borders]):
        order, ends = _longest_first(atoms, first, last)
        start = 0
        while start < len(order):
            held = int(ends[start - 1]) if start else 0  # subwords of the groups before this one
            # A group ends before it would exceed max_subwords, but holds one atom at least.
            start = max(start + 1, int(np.searchsorted(ends, held + max_subwords, side="right")))
            stops.append(first + start)
        orders.append(order)
        up_to.append(len(stops))
    members = Pieces(np.concatenate(orders), np.array(stops, dtype=np.int64))
    return InferenceBatches(atoms, max_subwords, cost, members, up_to)


def _longest_first(atoms: BatchUnits, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms from `first` to `last`, those with the longest features first, and their cumulative subwords."""
    if first == last:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    begin, end = atoms.offsets[first], atoms.offsets[last]
    offsets = atoms.offsets[first:last] - begin
    lengths = atoms.lengths[begin:end]
    order = np.argsort(-np.maximum.reduceat(lengths, offsets), kind="stable").astype(np.int32)
    return order + np.int32(first), np.cumsum(np.add.reduceat(lengths, offsets)[order])


def _fill(features: list[int], lengths: np.ndarray, max_subwords: int, cost: Cost) -> Iterator[list[int]]:
    """Yield the features of each forward, in order, as many as cost at most `max_subwords` cells (one at least)."""
    forward: list[int] = []
    for i in features:
        if forward and cost([int(lengths[j]) for j in itertools.chain(forward, [i])]) > max_subwords:
            yield forward
            forward = []
        forward.append(i)
    if forward:
        yield forward
