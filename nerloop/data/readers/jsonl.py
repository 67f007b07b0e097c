"""Read JSON lines or a JSON array: one object a sentence, with a list of tokens and a list of tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nerloop.data.checks import as_example, shorten_message
from nerloop.data.json_stream import parse, read_values
from nerloop.data.lines import open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "ner")
LONGEST_ID = 200
DOCUMENT_COLUMNS = ("document_id", "doc_id", "document")


def read_jsonl(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a file of JSON lines.

    By default the token column is "tokens" or "words", and the tag column is "ner_tags", "tags", "labels" or "ner".
    Blank lines are skipped. Raises DataError with file:line.
    """
    for number, text in open_lines(path, options.encoding):
        if text.strip(" \t\r"):
            where = f"{path}:{number}"
            yield _example(parse(text, where), options, path, where)


def read_json(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a JSON file that holds an array of such objects. Raises DataError with file:line."""
    for where, record in read_values(path, options.encoding):
        yield _example(record, options, path, where)


def _example(record: Any, options: ReadOptions, path: str, where: str) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"{where}: found {type(record).__name__}, expected an object such as {{'tokens': [...], ...}}")
    tokens = pick_column(options.token_column, TOKEN_COLUMNS, record, "data.token_column", where)
    tags = None
    if options.with_tags:
        tags = pick_column(options.tag_column, TAG_COLUMNS, record, "data.tag_column", where)
    gold = record[tags] if tags is not None else None
    return as_example(record[tokens], gold, options.labels, where, (tokens, tags), document_of(record, path) or "")


def document_of(record: Mapping[str, Any], path: str) -> str | None:
    """Return the id of a record's document, or None if it names none."""
    document = next((record[name] for name in DOCUMENT_COLUMNS if name in record), None)
    if isinstance(document, bool) or not isinstance(document, str | int) or len(str(document)) > LONGEST_ID:
        return None
    return f"{path}#{document}"


def pick_column(
    name: str | None, usual: Sequence[str], columns: Sequence[str] | dict[str, Any], setting: str, where: str
) -> str:
    """Return the name of a column: `name`, or by default the first of `usual` in `columns`. Raises DataError."""
    wanted = [name] if name is not None else list(usual)
    if (column := next((c for c in wanted if c in columns), None)) is not None:
        return column
    near = did_you_mean(name, columns) if name is not None else ""
    raise DataError(
        f"{where}: found no column {' or '.join(map(shorten, wanted))}{near}; "
        f"set {setting} to one of: {shorten_message(', '.join(map(str, columns)))}"
    )
