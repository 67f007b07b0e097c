"""Turn examples into features with an alignment, chunk by chunk, and store them in a file that is memory-mapped."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.alignment import Alignment
from nerloop.batching.plan import BatchUnits
from nerloop.config import Plugin
from nerloop.data.arrow_cache import ROWS, Cache, Table, batched, code_fingerprint, fingerprint
from nerloop.types import IGNORE, Example, Feature, LazySequence, Tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 10_000
"""Number of examples in one call of `Alignment.split`."""
LONGEST_DOCUMENT = 100_000
"""Maximum number of examples in one call, also for an alignment that needs whole documents."""
LISTS = ("input_ids", "labels", "tokens", "examples", "num_tokens")
NUMBERS = ("atom", "num_examples", "length", "num_labelled")
"""The columns of the table, a row for each feature: lists of numbers, and single numbers."""


class Features(LazySequence[Feature]):
    """The features in a table. Each one is created on access; `atoms` holds the counts that the plan needs."""

    def __init__(self, table: Table) -> None:
        """Take a table that `build_features` wrote."""
        self._table = table
        self._views: dict[int, dict[str, np.ndarray]] = {}  # by batch: its columns; lists as values and offsets

    def __len__(self) -> int:
        return self._table.num_rows

    def item(self, i: int) -> Feature:
        """Return feature `i`."""
        batch, row = divmod(i, ROWS)
        if (views := self._views.get(batch)) is None:
            views = self._views[batch] = _views(self._table.batch(batch))
        lists = {}
        for name in LISTS:
            start, stop = views[f"{name}.offsets"][row : row + 2]
            lists[name] = views[name][start:stop]
        return Feature(
            input_ids=lists["input_ids"].astype(np.int64),  # stored as int32, which halves the file
            labels=lists["labels"].astype(np.int64),
            tokens=lists["tokens"].astype(np.int64),
            atom=int(views["atom"][row]),
            examples=tuple(lists["examples"].tolist()),
            num_tokens=tuple(lists["num_tokens"].tolist()),
        )

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """The cumulative numbers of examples and of atoms at the end of each chunk."""
        return [(num_examples, num_atoms) for num_examples, num_atoms in self._table.about["facts"]["chunks"]]

    @property
    def used_ids(self) -> np.ndarray:
        """The sorted ids of all subwords that occur in the features."""
        return np.array(self._table.about["facts"]["used_ids"], dtype=np.int64)

    @cached_property
    def num_tokens(self) -> np.ndarray:
        """The number of tokens of each example, (examples,)."""
        lengths = np.zeros(self.chunks[-1][0] if self.chunks else 0, dtype=np.int64)
        for batch in self._table.batches():
            columns = [batch.column(name).values for name in ("examples", "num_tokens")]
            examples, numbers = map(mapped, columns)
            lengths[examples] = numbers
        return lengths

    @cached_property
    def atoms(self) -> BatchUnits:
        """The atoms, read from columns without creating features: 16 bytes of memory a sentence."""
        columns: dict[str, list[np.ndarray]] = {name: [np.zeros(0, dtype=np.int32)] for name in NUMBERS}
        for batch in self._table.batches():
            for name in NUMBERS:
                columns[name].append(mapped(batch.column(name)))
        atom, sentences, lengths, labelled = (np.concatenate(columns.pop(name)) for name in NUMBERS)
        return BatchUnits.of_columns(atom, sentences, lengths, labelled)


def build_features(
    examples: Sequence[Example], alignment: Alignment, cache: Cache | None = None, made_by: str | None = None
) -> Features:
    """Return the features of examples, from the cache if they are there.

    They are cached if both the examples and `made_by` (see `recipe`) have a fingerprint. Otherwise they are deleted
    together with the returned object.
    """
    import pyarrow as pa

    schema = pa.schema([(name, pa.list_(pa.int32())) for name in LISTS] + [(name, pa.int32()) for name in NUMBERS])

    def write(add: Callable[[pa.RecordBatch], None]) -> dict[str, Any]:
        chunks: list[tuple[int, int]] = []
        is_used = np.zeros(0, dtype=bool)  # by subword id; grows with the largest id seen
        for rows in batched(split_in_chunks(examples, alignment, chunks)):
            add(pa.record_batch(columns := _arrays(rows), schema=schema))
            ids = mapped(columns[LISTS.index("input_ids")].values)
            is_used = np.pad(is_used, (0, max(0, ids.max(initial=-1) + 1 - len(is_used))))
            is_used[ids] = True
        return {"chunks": chunks, "used_ids": is_used.nonzero()[0].tolist()}

    data = getattr(examples, "key", None)
    key = fingerprint(data, made_by) if data and made_by else None
    return Features((cache or Cache.temporary()).table("features", key, schema, write))


def split_in_chunks(
    examples: Iterable[Example], alignment: Alignment, ends: list[tuple[int, int]] | None = None
) -> Iterator[Feature]:
    """Yield the features of examples, splitting one chunk of examples at a time.

    `alignment.split` numbers atoms and examples from 0 in each call; here they are numbered through. The cumulative
    numbers of examples and of atoms at the end of each chunk are appended to `ends`.
    """
    first_example = first_atom = num_atoms = 0
    for chunk in in_chunks(examples, alignment):
        atom = last_atom = -1
        for feature in alignment.split(chunk):
            num_atoms += feature.atom != atom  # features of one atom are consecutive; atom numbers may have gaps
            atom, last_atom = feature.atom, max(last_atom, feature.atom)
            yield replace(
                feature,
                atom=first_atom + feature.atom,
                examples=tuple(first_example + e for e in feature.examples),
            )
        first_example += len(chunk)
        first_atom += last_atom + 1
        if ends is not None:
            ends.append((first_example, num_atoms))


def recipe(plugin: Plugin, alignment: Alignment, tokenizer: Tokenizer, labels: Sequence[str]) -> str | None:
    """Return the fingerprint of everything besides the examples that decides the features, or None if it is unknown.

    A custom alignment is cached only if its own class, not a base class, defines `fingerprint`: a string that changes
    whenever its features would. A custom tokenizer's code has no fingerprint, so its features are never cached.
    """
    kind = type(alignment)
    if "fingerprint" not in vars(kind):
        return None
    if not type(tokenizer).__module__.startswith("transformers."):  # code that comes with the model
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # state left by earlier calls; each call sets its own
    backend.no_padding()
    return fingerprint(
        code_fingerprint("alignment", "batching", "data/arrow_cache.py", "types.py"),
        {name: importlib.metadata.version(name) for name in ("numpy", "tokenizers", "transformers")},
        [kind.__module__, kind.__qualname__, plugin.options, str(getattr(alignment, "fingerprint", ""))],
        list(labels),
        [type(tokenizer).__name__, tokenizer.model_max_length, backend.to_str()],
    )


def in_chunks(examples: Iterable[Example], alignment: Alignment) -> Iterator[list[Example]]:
    """Yield examples in chunks for `Alignment.split`.

    If the alignment's `needs_documents` is true, no document is cut (up to LONGEST_DOCUMENT sentences a chunk).
    """
    whole_documents = getattr(alignment, "needs_documents", False)
    chunk: list[Example] = []
    for example in examples:
        is_full = len(chunk) >= CHUNK
        if is_full and whole_documents and len(chunk) < LONGEST_DOCUMENT:
            is_full = not example.document or example.document != chunk[-1].document
        if is_full:
            yield chunk
            chunk = []
        chunk.append(example)
    if chunk:
        yield chunk


def _arrays(features: Sequence[Feature]) -> list[pa.Array]:
    """Return the Arrow columns of a batch of features."""
    import pyarrow as pa

    columns: list[pa.Array] = []
    for name in LISTS:
        values = [getattr(f, name) for f in features]
        offsets = np.fromiter(itertools.accumulate(map(len, values), initial=0), dtype=np.int64, count=len(values) + 1)
        flat = np.concatenate([np.asarray(v, dtype=np.int64) for v in values])
        columns.append(pa.ListArray.from_arrays(_int32_column(offsets), _int32_column(flat)))
    numbers = {
        "atom": [f.atom for f in features],
        "num_examples": [len(f.examples) for f in features],
        "length": [len(f) for f in features],
        "num_labelled": [int(np.count_nonzero(f.labels != IGNORE)) for f in features],
    }
    return columns + [_int32_column(np.array(numbers[name], dtype=np.int64)) for name in NUMBERS]


def _int32_column(values: np.ndarray) -> pa.Array:
    """Return int64 values as an Arrow column of 32 bits. `pa.array` would import pandas, which takes 0.4 s."""
    import pyarrow as pa

    assert not values.size or -(2**31) <= values.min() <= values.max() < 2**31, "32 bits hold no such number"
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values.astype(np.int32))])


def _views(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Return the columns of a batch as NumPy arrays over the mapped file, without copying."""
    views = {"atom": mapped(batch.column("atom"))}
    for name in LISTS:
        column = batch.column(name)
        views[name], views[f"{name}.offsets"] = mapped(column.values), mapped(column.offsets)
    return views


def mapped(column: pa.Array, dtype: type = np.int32) -> np.ndarray:
    """Return a column of numbers as an array that shares its memory. `to_numpy` would import pandas."""
    if not len(column):
        return np.zeros(0, dtype=dtype)
    values: np.ndarray = np.frombuffer(column.buffers()[1], dtype=dtype)
    return values[column.offset : column.offset + len(column)]
