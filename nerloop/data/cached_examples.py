"""Keep examples on disk: written once, while a reader reads, then mapped."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nerloop.data.arrow_cache import ROWS, Cache, Table, batched, code_fingerprint, fingerprint
from nerloop.data.tag_counts import TagCounts
from nerloop.types import Example, LazySequence, Span

if TYPE_CHECKING:
    import pyarrow as pa

AT_A_TIME = 1_000
"""Examples that are converted together while iterating."""


def _as_pairs(values: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, values))


def _as_spans(values: Iterable[Mapping[str, Any]]) -> tuple[Span, ...]:
    return tuple(Span(**value) for value in values)


def _as_is(value: Any) -> Any:
    return value


@functools.cache
def _columns() -> dict[str, tuple[pa.DataType, Callable[[Any], Any]]]:
    """Return the Arrow type of each field of Example, and the function that converts it back. Add new fields here."""
    import pyarrow as pa

    strings = pa.list_(pa.string())
    spans = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "type": pa.string()}))
    return {
        "tokens": (strings, tuple),
        "tags": (strings, tuple),
        "location": (pa.string(), _as_is),
        "document": (pa.string(), _as_is),
        "offsets": (pa.list_(pa.list_(pa.int32(), 2)), _as_pairs),
        "missed": (spans, _as_spans),
        "widened": (spans, _as_spans),
        "source": (pa.string(), lambda value: None if value is None else json.loads(value)),
    }


class StoredExamples(LazySequence[Example]):
    """The examples of a table, each converted on access."""

    def __init__(self, table: Table, key: str | None) -> None:
        """Take a table that `store_examples` wrote, and its key in the cache."""
        self._table = table
        self.key = key
        self.statistics = TagCounts.from_json(table.about["facts"])
        self.warnings: list[str] = table.about["facts"].get("warnings", [])  # of the reader

    def __len__(self) -> int:
        return self._table.num_rows

    def item(self, i: int) -> Example:
        """Return example `i`."""
        return next(self._between(i, i + 1))

    def items(self, indices: range) -> list[Example]:
        """Return some examples; neighbours are converted together, which is faster."""
        return list(self._between(indices.start, indices.stop)) if indices.step == 1 else super().items(indices)

    def __iter__(self) -> Iterator[Example]:
        return self._between(0, len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _between(self, start: int, stop: int) -> Iterator[Example]:
        while start < stop:
            batch, row = divmod(start, ROWS)
            num_rows = min(stop - start, AT_A_TIME, ROWS - row)
            yield from _to_examples(self._table.batch(batch).slice(row, num_rows))
            start += num_rows


def examples_key(*parts: Any) -> str:
    """Return the key of examples that depend on some plain values, and on the code that reads them."""
    return fingerprint(code_fingerprint("data", "tags.py", "types.py"), *parts)


def store_examples(
    examples: Callable[[], Iterable[Example]], cache: Cache, key: str | None, warnings: Sequence[str] = ()
) -> StoredExamples:
    """Return examples from the cache. If it does not have them, call `examples` and store what it yields.

    The reader may append to `warnings` while it yields; they are stored with the examples. Without a key nothing is
    kept. Raises what `examples` raises, and DataError.
    """
    import pyarrow as pa

    schema = pa.schema({name: type_ for name, (type_, _) in _columns().items()})

    def write(add: Callable[[pa.RecordBatch], None]) -> dict[str, Any]:
        statistics = TagCounts()
        for rows in batched(statistics.counting(examples())):
            arrays = [
                pa.array([_plain(getattr(e, name)) for e in rows], schema.field(name).type) for name in schema.names
            ]
            add(pa.record_batch(arrays, schema=schema))
        return {**statistics.to_json(), "warnings": list(warnings)}

    return StoredExamples(cache.table("examples", key, schema, write), key)


def _plain(value: Any) -> Any:
    """Return spans as dicts, which Arrow stores as structures, and a source as JSON."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    return [span._asdict() for span in value] if value and isinstance(value[0], Span) else value


def _to_examples(batch: pa.RecordBatch) -> Iterator[Example]:
    values = [map(restore, batch.column(name).to_pylist()) for name, (_, restore) in _columns().items()]
    return (Example(**dict(zip(_columns(), row, strict=True))) for row in zip(*values, strict=True))
