"""Read CSV and Parquet: one sentence a row, with lists of tokens and tags; in CSV also one token a row."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nerloop.data.checks import as_example, as_tag, shorten_message
from nerloop.data.column_names import DOCUMENT_COLUMNS, TAG_COLUMNS, TOKEN_COLUMNS, document_of, pick_column
from nerloop.data.lines import file_errors, open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.columns import find_column
from nerloop.errors import DataError
from nerloop.types import Example

WORD_COLUMNS = (*TOKEN_COLUMNS, "token", "word", "text", "form")
WORD_TAG_COLUMNS = (*TAG_COLUMNS, "tag", "ner_tag", "label", "entity")
SENTENCE_COLUMNS = ("sentence #", "sentence_id", "sentence_number", "sent_id", "sentence")
LONGEST_CELL = 1 << 27


def read_csv(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a CSV file. Commas, semicolons or tabs separate its fields.

    If cells hold lists (of JSON or Python), each row is a sentence. Otherwise each row is a token. A sentence then ends
    at an empty row, or where the column "sentence #", "sentence_id", "sentence_number", "sent_id" or "sentence" changes
    (empty cells don't count).

    The first row names the columns. If both columns are given as indices and the first row holds a tag, it is data.
    Raises DataError with file:line.
    """
    rows = _csv_rows(path, options.encoding)
    first = next(rows, None)
    if first is None:
        return
    header = first[1]
    names = {name.strip().lower(): i for i, name in enumerate(header)}
    where = f"{path}:{first[0]}"
    token_index = _find(options.token_column, WORD_COLUMNS, header, "data.token_column", where)
    tag_index = None
    if options.with_tags:
        tag_index = _find(options.tag_column, WORD_TAG_COLUMNS, header, "data.tag_column", where)
    sentence_index = next((names[name] for name in SENTENCE_COLUMNS if name in names), None)
    pending = [] if _is_header(header, tag_index, options) else [first]
    sentence: list[tuple[int, str, str | None]] = []
    name = ""
    for number, row in (row for part in (pending, rows) for row in part):
        where = f"{path}:{number}"
        if not any(cell.strip() for cell in row):
            yield from _sentence(sentence, path)
            sentence = []
            continue
        if len(row) != len(header):
            raise DataError(f"{where}: found {len(row)} fields, expected {len(header)} as in the first row")
        if (tokens := _as_list(row[token_index])) is not None:
            tags = None if tag_index is None else _as_list(row[tag_index])
            columns = (header[token_index], None if tag_index is None else header[tag_index])
            yield as_example(tokens, tags, options.labels, where, columns)
            continue
        if sentence_index is not None and row[sentence_index].strip() not in ("", name):
            name = row[sentence_index].strip()
            yield from _sentence(sentence, path)
            sentence = []
        tag = None if tag_index is None else as_tag(row[tag_index].strip(), options.labels, where)
        sentence.append((number, row[token_index], tag))
    yield from _sentence(sentence, path)


def _csv_rows(path: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    lines = open_lines(path, encoding)
    first = next(((number, text) for number, text in lines if text.strip()), None)
    if first is None:
        return
    counts = {delimiter: first[1].count(delimiter) for delimiter in ",;\t"}
    delimiter = max(counts, key=lambda d: counts[d])
    begin = first[0]

    def feed() -> Iterator[str]:
        yield f"{first[1]}\n"
        for _, text in lines:
            yield f"{text}\n"

    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    number = begin
    try:
        for row in reader:
            yield number, row
            number = begin + reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}:{number}: not CSV: {error}. Is a quote missing?") from error


def _find(name: str | None, usual: Sequence[str], header: list[str], setting: str, where: str) -> int:
    by_lower_case = {column.strip().lower(): column for column in header}
    if name is not None and re.fullmatch(r"-?\d{1,9}", name):
        index = find_column(name, header, where)
        if not -len(header) <= index < len(header):
            raise DataError(f"{where}: {setting} is {index}, but the row has {len(header)} fields (counted from 0)")
        return index
    found = pick_column(None if name is None else name.lower(), usual, by_lower_case, setting, where)
    return header.index(by_lower_case[found])


def _is_header(row: list[str], tag_index: int | None, options: ReadOptions) -> bool:
    columns = (options.token_column, options.tag_column)
    if tag_index is None or not all(c and re.fullmatch(r"-?\d{1,9}", c) for c in columns):
        return True
    try:
        as_tag(row[tag_index].strip(), options.labels, "")
    except DataError:
        return True
    return False


def _as_list(cell: str) -> list[Any] | None:
    """Return the list in a cell, or None: '["A"]' and "['A', 'b']" are lists, "[" is none."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) < 2:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, list) else None
    return None


def _sentence(rows: Sequence[tuple[int, str, str | None]], path: str) -> Iterator[Example]:
    if rows:
        tags = tuple(tag for _, _, tag in rows if tag is not None)
        yield Example(tuple(token for _, token, _ in rows), tags, f"{path}:{rows[0][0]}")


def read_parquet(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a Parquet file, one a row.

    Integer tags are indices into `labels`, or into the names that `datasets` wrote into the file. Raises DataError with
    file:row.
    """
    import pyarrow
    from pyarrow import parquet

    with file_errors(path), open(path, "rb") as opened:
        try:
            file = parquet.ParquetFile(opened)
            schema = file.schema_arrow
            tokens = pick_column(options.token_column, TOKEN_COLUMNS, schema.names, "data.token_column", path)
            tags = None
            if options.with_tags:
                tags = pick_column(options.tag_column, TAG_COLUMNS, schema.names, "data.tag_column", path)
            names = options.labels or (_class_names(schema.metadata, tags) if tags is not None else None)
            wanted = {tokens, tags, *DOCUMENT_COLUMNS}
            columns = [name for name in schema.names if name in wanted]
            number = 0
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    number += 1
                    where = f"{path}:{number}"
                    gold = row[tags] if tags is not None else None
                    yield as_example(row[tokens], gold, names, where, (tokens, tags), document_of(row, path) or "")
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not Parquet, or damaged: {shorten_message(str(error))}") from error


def _class_names(metadata: Any, column: str) -> list[str] | None:
    """Return the names of a ClassLabel column, which `datasets` writes as JSON into the schema's metadata."""
    try:
        info = json.loads((metadata or {})[b"huggingface"])
        feature = info["info"]["features"][column]
        names = (feature.get("feature") or feature)["names"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
