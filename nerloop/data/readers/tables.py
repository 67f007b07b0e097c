"""Read CSV and Parquet: a row is a token, a sentence as lists in cells, or a text with or without spans."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from nerloop.data.checks import TagStyle, as_example, as_tag, shorten_message
from nerloop.data.column_names import DOCUMENT_COLUMNS, document_of
from nerloop.data.lines import decoded_lines, file_errors, look_ahead, open_lines, opened
from nerloop.data.options import ReadOptions
from nerloop.data.printed_lists import parse_list
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.spans import SpanReader, TextNames
from nerloop.data.records import TextRecord
from nerloop.data.table_layout import Layout, Rows, Table, is_blank, layout_of, split_cell
from nerloop.errors import DataError, shorten
from nerloop.types import Example

LONGEST_CELL = 1 << 27
RECORD_COLUMNS = ("id", "annotation_id", "answer", "_is_binary", "tokens")  # that SpanReader looks at
MAX_ROWS = 1_000
"""The first rows decide what the columns hold."""
MANY_TOKENS = 100
"""A table with more tokens and no border between sentences gets a warning."""

Row = tuple[str, Sequence[Any]]  # file:line, and the cells


def read_csv(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example] | Iterator[TextRecord]:
    """Yield the sentences of a CSV file, or its texts. Commas, semicolons, tabs or bars separate its fields.

    If cells hold lists, or tokens and as many tags with spaces between them, each row is a sentence. If they hold
    texts, each row is a text, with spans if a column has lists of them. Otherwise each row is a token. A sentence then
    ends at an empty row, or where the column "sentence #", "sentence_id", "sentence_number", "sent_id" or "sentence"
    changes (empty cells don't count).

    The first row names the columns, with two exceptions, where it is data: if columns are given as indices and it holds
    a tag or a text; and if it has no usual name and holds a tag or a long text. Errors start with file:line.
    """
    table, rows = _csv_table(path, options)
    if table is not None:
        yield from _Reader(path, table, layout_of(table, options), options, warnings).read(rows)


def is_csv_of_texts(path: str, options: ReadOptions) -> bool:
    """Return whether each row of a CSV file is a text. Raises DataError."""
    table, _ = _csv_table(path, options)
    return table is not None and _is_of_texts(table, options)


def _is_of_texts(table: Table, options: ReadOptions) -> bool:
    # Ask for no tags, since a table of texts without spans counts, too.
    return layout_of(table, replace(options, with_tags=False)).rows is Rows.TEXT


def _csv_table(path: str, options: ReadOptions) -> tuple[Table | None, Iterator[Row]]:
    """Return the head of a CSV file, None if it is empty, and all its rows, the first one included."""
    head, rows = look_ahead(_csv_rows(path, options.encoding), MAX_ROWS)
    if not head:
        next(rows, None)  # raises the error of the first row, if there is one
        return None, rows
    return Table(head[0][1], [row for _, row in head[1:]], head[0][0]), rows


def _csv_rows(path: str, encoding: str) -> Iterator[Row]:
    with opened(path, encoding) as file:
        # A cell may be a text of several lines: their ends count in its offsets.
        yield from _rows_in(decoded_lines(file, path, keep_ends=True), path, encoding)


def _rows_in(lines: Iterator[tuple[int, str]], path: str, encoding: str) -> Iterator[Row]:
    first = next(((number, text) for number, text in lines if text.strip()), None)
    if first is None:
        return
    begin, header = first
    counts = {delimiter: header.count(delimiter) for delimiter in ",;\t|"}
    delimiter = max(counts, key=lambda d: counts[d])
    has_bare_quotes = _has_bare_quotes(path, encoding, delimiter, counts[delimiter])

    def feed() -> Iterator[str]:
        yield header
        for _, text in lines:
            yield text

    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(
        feed(), delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE if has_bare_quotes else csv.QUOTE_MINIMAL
    )
    number = begin
    try:
        for row in reader:
            yield f"{path}:{number}", row
            number = begin + reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}:{number}: not CSV: {error}. Is a quote missing?") from error


def _has_bare_quotes(path: str, encoding: str, delimiter: str, number: int) -> bool:
    """Return whether quotes are tokens rather than marks around a cell.

    They are if some cell is a single quote and all lines have as many delimiters as the first one. Taken as a mark,
    such a quote would join all rows up to the next quote.
    """
    has_one = False
    for _, text in open_lines(path, encoding):
        if text.strip() and text.count(delimiter) != number:
            return False
        has_one = has_one or (number > 0 and '"' in text and '"' in text.split(delimiter))
    return has_one


@dataclass
class _Reader:
    """Makes sentences or texts of the rows of a table."""

    path: str
    table: Table
    layout: Layout
    options: ReadOptions
    warnings: ReadWarnings
    labels: Sequence[str] | None = None
    format: str = "csv"

    def __post_init__(self) -> None:
        header, layout = self.table.header, self.layout
        self.labels = self.labels or self.options.labels
        self.names = list(header) if layout.has_header else [str(i) for i in range(len(header))]
        tag = None if layout.tag is None else self.names[layout.tag]
        self.token_name, self.tag_name = self.names[layout.token], tag
        self.style = TagStyle.of_lists(self._first_tags(), self.labels, self.warnings)
        options = replace(self.options, token_column=self.token_name, tag_column=tag)
        self.spans = SpanReader(options, self.warnings, TextNames(()))

    def read(self, rows: Iterator[Row]) -> Iterator[Example] | Iterator[TextRecord]:
        """Yield the sentences or texts of all rows, the first row included. Rows that can't be read are bad records."""
        if self.layout.note:
            self.warnings.note(self.layout.note, self.table.where)
        if self.layout.has_header:
            next(rows, None)
        if self.layout.rows is Rows.TOKEN:
            return self.warnings.each(self._sentence, self._groups(rows))
        filled = ((where, row) for where, row in rows if not is_blank(row))
        if self.layout.rows is Rows.TEXT:
            return (record for record in self.warnings.each(self._text, filled) if record is not None)
        make: Callable[[Row], Example] = self._lists if self.layout.rows is Rows.LISTS else self._words
        return self.warnings.each(make, filled)

    def _first_tags(self) -> Iterator[list[Any]]:
        """Yield the tags in the first rows, as far as they can be read."""
        if self.layout.tag is None or self.layout.rows is Rows.TEXT:
            return
        for cell in self.table.column(self.layout.tag):
            if self.layout.rows is Rows.TOKEN:
                yield [cell.strip() if isinstance(cell, str) else cell]
            else:
                with suppress(DataError):
                    yield split_cell(cell, "")

    @property
    def columns(self) -> set[str]:
        """The names of the columns that are read."""
        sentence = None if self.layout.sentence is None else self.names[self.layout.sentence]
        found = {self.token_name, self.tag_name, sentence, *(RECORD_COLUMNS if self.layout.rows is Rows.TEXT else ())}
        return {name for name in (*found, *DOCUMENT_COLUMNS) if name is not None}

    def _record(self, found: Row) -> dict[str, Any]:
        where, row = found
        if len(row) != len(self.names):
            raise DataError(f"{where}: found {len(row)} fields, expected {len(self.names)} as in the first row")
        return dict(zip(self.names, row))

    def _lists(self, found: Row) -> Example:
        record, where = self._record(found), found[0]
        tokens = record[self.token_name]
        return self._example(record, parse_list(tokens, where) if isinstance(tokens, str) else tokens, where)

    def _words(self, found: Row) -> Example:
        record, where = self._record(found), found[0]
        return self._example(record, str(record[self.token_name]).split(), where)

    def _example(self, record: dict[str, Any], tokens: Any, where: str) -> Example:
        cell = None if self.tag_name is None else record[self.tag_name]
        tags = split_cell(cell, where) if isinstance(cell, str) else cell
        document = document_of(record, self.path) or ""
        return as_example(tokens, tags, self.labels, where, (self.token_name, self.tag_name), document, self.style)

    def _text(self, found: Row) -> TextRecord | None:
        record, where = self._record(found), found[0]
        value = dict(record)
        if self.tag_name is not None:
            value[self.tag_name] = _spans_in(record, self.tag_name, where)
        if value[self.token_name] is None:
            self.warnings.add("rows without a text are left out", where)
            return None
        text = self.spans.record(value, where)
        if text is None or not self.options.for_prediction:
            return text
        return replace(
            text, source={"format": self.format, "record": {name: _plain(cell) for name, cell in record.items()}}
        )

    def _groups(self, rows: Iterator[Row]) -> Iterator[list[Row]]:
        """Yield the rows of each sentence."""
        group: list[Row] = []
        name, num_groups = "", 0
        for where, row in rows:
            is_border = is_blank(row)
            if (at := self.layout.sentence) is not None and at < len(row):
                cell = "" if row[at] is None else str(row[at]).strip()
                if cell not in ("", name):
                    is_border, name = True, cell
            if is_border and group:
                yield group
                group, num_groups = [], num_groups + 1
            if not is_blank(row):
                group.append((where, row))
        if not num_groups and len(group) > MANY_TOKENS:
            self.warnings.add(
                f"tables of more than {MANY_TOKENS} tokens without a border of sentences: add a column sentence_id, "
                "or empty rows between them",
                group[0][0],
            )
        if group:
            yield group

    def _sentence(self, rows: Sequence[Row]) -> Example:
        tokens, tags = [], []
        for row in rows:
            record, where = self._record(row), row[0]
            token = record[self.token_name]
            if not isinstance(token, str) or "\n" in token:
                raise DataError(f"{where}: found the token {shorten(token)}, expected a word. Is a quote missing?")
            tokens.append(token)
            if self.tag_name is not None:
                tag = record[self.tag_name]
                tags.append(as_tag(tag.strip() if isinstance(tag, str) else tag, self.labels, where, self.style))
        return Example(tuple(tokens), tuple(tags), rows[0][0])


def _spans_in(record: dict[str, Any], name: str, where: str) -> Any:
    """Return the spans in a cell: a list of objects or triples, or None if nobody annotated the row."""
    cell = record[name]
    if isinstance(cell, str) and cell.strip():
        cell = parse_list(cell, where)
    if isinstance(cell, list):
        return [list(span) if isinstance(span, tuple) else span for span in cell]
    return [] if record.get("annotation_id") else None  # Label Studio leaves the cell empty


def read_parquet(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example] | Iterator[TextRecord]:
    """Yield the sentences of a Parquet file, or its texts, as `read_csv` does.

    Integer tags are indices into `labels`, or into the names that `datasets` wrote into the file. Errors start with
    file:row.
    """
    with _opened_parquet(path) as (file, table):
        layout = layout_of(table, options)
        tags = None if layout.tag is None else table.header[layout.tag]
        labels = None if tags is None else _class_names(file.schema_arrow.metadata, tags)
        reader = _Reader(path, table, layout, options, warnings, options.labels or labels, "parquet")
        rows = _parquet_rows(file, path, None if options.for_prediction else reader.columns)
        yield from reader.read(itertools.chain([(path, table.header)] if layout.has_header else [], rows))


def is_parquet_of_texts(path: str, options: ReadOptions) -> bool:
    """Return whether each row of a Parquet file is a text. Raises DataError."""
    with _opened_parquet(path) as (_, table):
        return _is_of_texts(table, options)


@contextmanager
def _opened_parquet(path: str) -> Iterator[tuple[Any, Table]]:
    """Give an open Parquet file and its first rows. Raises DataError, also for damage found later in the block."""
    import pyarrow
    from pyarrow import parquet

    with file_errors(path), open(path, "rb") as opened:
        try:
            file = parquet.ParquetFile(opened)
            head = [row for _, row in itertools.islice(_parquet_rows(file, path, None), MAX_ROWS)]
            yield file, Table(file.schema_arrow.names, head, path)
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not Parquet, or damaged: {shorten_message(str(error))}") from error


def _parquet_rows(file: Any, path: str, wanted: Collection[str] | None) -> Iterator[Row]:
    """Yield the rows of a Parquet file. Columns that are not wanted are not read; their cells are None."""
    names = file.schema_arrow.names
    columns = [name for name in names if wanted is None or name in wanted]
    numbers = itertools.count(1)
    for batch in file.iter_batches(batch_size=MAX_ROWS, columns=columns):
        batch.validate(full=True)
        for row in batch.to_pylist():
            yield f"{path}:{next(numbers)}", [row.get(name) for name in names]


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold; others, such as dates, become text."""
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _class_names(metadata: Any, column: str) -> list[str] | None:
    """Return the names of a ClassLabel column, which `datasets` writes as JSON into the schema's metadata."""
    try:
        info = json.loads((metadata or {})[b"huggingface"])
        feature = info["info"]["features"][column]
        names = (feature.get("feature") or feature)["names"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
