"""Store the teachers' probabilities for the tags of each token on disk, and add them to features as targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nerloop.batching.features import Features, mapped
from nerloop.data.arrow_cache import ROWS, Cache, Table, batched
from nerloop.types import IGNORE, Feature, LazySequence, MicroBatch

if TYPE_CHECKING:
    import pyarrow as pa


class Spreads(Protocol):
    """An alignment that spreads the probabilities of tokens over their subwords; see `nerloop.alignment`."""

    def spread(self, features: Sequence[Feature], probabilities: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of each feature's subwords, (subwords, labels) each."""
        ...


def store_probabilities(sentences: Callable[[], Iterable[np.ndarray]], cache: Cache, key: str | None) -> Table:
    """Return the table of one teacher's probabilities, one row per sentence; from the cache if it is there.

    `sentences` computes the probabilities, (tokens, labels) for each sentence; they are stored as float32. The facts of
    the table are the number of labels, and how many seconds the computation took.
    """
    import pyarrow as pa

    schema = pa.schema([("probabilities", pa.large_list(pa.float32()))])

    def write(add: Callable[[pa.RecordBatch], None]) -> dict[str, Any]:
        start, num_labels = time.perf_counter(), 0
        for rows in batched(sentences()):
            num_labels = rows[0].shape[1]
            offsets = np.cumsum([0, *(row.size for row in rows)], dtype=np.int64)
            flat = pa.array(np.concatenate([row.ravel() for row in rows]).astype(np.float32))
            add(pa.record_batch([pa.LargeListArray.from_arrays(offsets, flat)], schema=schema))
        return {"num_labels": num_labels, "seconds": time.perf_counter() - start}

    return cache.table("teacher", key, schema, write)


class Probabilities(LazySequence[np.ndarray]):
    """The mean of the probabilities of several teachers: (tokens, labels) per sentence, read on access.

    A token for which no teacher has subwords gets zeros.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        """Take the tables that `store_probabilities` wrote for the same sentences."""
        self._tables = tables
        self._num_labels = int(tables[0].about["facts"]["num_labels"])
        self._views: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # by table and batch: values, offsets

    @property
    def seconds(self) -> float:
        """How many seconds the teachers took to compute them, now or when they were cached."""
        return float(sum(table.about["facts"]["seconds"] for table in self._tables))

    def __len__(self) -> int:
        return self._tables[0].num_rows

    def item(self, i: int) -> np.ndarray:
        """Return the probabilities for sentence `i`."""
        total = np.sum([self._of_table(number, i) for number in range(len(self._tables))], axis=0)
        sums = np.sum(total, axis=1, keepdims=True)
        # A teacher without subwords for a token has zeros there. Normalising gives the mean of the other teachers.
        mean: np.ndarray = np.divide(total, sums, out=np.zeros_like(total), where=sums > 0)
        return mean

    def _of_table(self, number: int, row: int) -> np.ndarray:
        """Return one teacher's probabilities for a sentence, in float64."""
        batch, within = divmod(row, ROWS)
        if (view := self._views.get((number, batch))) is None:
            column = self._tables[number].batch(batch).column(0)
            view = mapped(column.values, np.float32), mapped(column.offsets, np.int64)
            self._views[number, batch] = view
        values, offsets = view
        start, stop = offsets[within : within + 2]
        return values[start:stop].reshape(-1, self._num_labels).astype(np.float64)


class TargetFeatures(LazySequence[Feature]):
    """The training features with the probabilities of teachers as targets, created on access.

    `features` of unlabelled sentences have placeholder labels, which mark the subwords that get a target. Here these
    labels are replaced by IGNORE.
    """

    def __init__(
        self, features: Features, alignment: Spreads, probabilities: Sequence[np.ndarray], num_labelled: int
    ) -> None:
        """Take the features of `num_labelled` sentences and of unlabelled ones, and the probabilities of each."""
        self._features, self._alignment = features, alignment
        self._probabilities, self._num_labelled = probabilities, num_labelled

    def __len__(self) -> int:
        return len(self._features)

    def item(self, i: int) -> Feature:
        """Return feature `i` with its targets."""
        offsets = self._features.atoms.offsets
        atom = int(np.searchsorted(offsets, i, side="right")) - 1
        first = int(offsets[atom])
        of_atom = self._features[first : int(offsets[atom + 1])]
        feature = of_atom[i - first]
        targets = self._alignment.spread(of_atom, {e: self._probabilities[e] for e in feature.examples})[i - first]
        is_unlabelled = feature.examples[0] >= self._num_labelled  # no window holds sentences of both kinds
        labels = np.full_like(feature.labels, IGNORE) if is_unlabelled else feature.labels
        return replace(feature, labels=labels, targets=targets.astype(np.float32))


def lay_out_targets(batch: MicroBatch) -> MicroBatch:
    """Return the micro-batch with the targets of its features laid out as its labels are; unchanged without targets."""
    given = [(place, f.targets) for place, f in zip(batch.places, batch.features, strict=True) if f.targets is not None]
    if not given:
        return batch
    import torch

    targets = torch.zeros(*batch.labels.shape, given[0][1].shape[1])
    for (row, start, length), of_feature in given:
        targets[row, start : start + length] = torch.from_numpy(of_feature)
    return replace(batch, targets=targets)
