"""JSON lines, or one JSON array: an object a sentence, with a list of tokens and a list of tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nerloop.data.checks import as_example, shorten_message
from nerloop.data.json_stream import parse, read_values
from nerloop.data.lines import open_lines
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "ner")
LONGEST_ID = 200
DOCUMENT_COLUMNS = ("document_id", "doc_id", "document")


def read_jsonl(path: str, **options: Any) -> list[Example]:
    """Return what `iterate_jsonl` yields."""
    return list(iterate_jsonl(path, **options))


def iterate_jsonl(
    path: str,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
) -> Iterator[Example]:
    """Yield the sentences of a file of JSON lines.

    Without names, the token column is "tokens" or "words", the tag column "ner_tags", "tags", "labels" or "ner". Blank
    lines are skipped. Raises DataError with file:line.
    """
    columns = (token_column, tag_column)
    for number, text in open_lines(path):
        if text.strip(" \t\r"):
            where = f"{path}:{number}"
            yield _example(parse(text, where), columns, labels, path, where, with_tags=with_tags)


def read_json(
    path: str,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
) -> Iterator[Example]:
    """Yield the sentences of a JSON file that holds an array of such objects. Raises DataError with file:line."""
    for where, record in read_values(path):
        yield _example(record, (token_column, tag_column), labels, path, where, with_tags=with_tags)


def _example(
    record: Any, columns: tuple[str | None, str | None], labels: Sequence[str] | None, path: str, where: str, *,
    with_tags: bool,
) -> Example:  # fmt: skip
    if not isinstance(record, dict):
        raise DataError(f"{where}: found {type(record).__name__}, expected an object such as {{'tokens': [...], ...}}")
    tokens = pick_column(columns[0], TOKEN_COLUMNS, record, "data.token_column", where)
    tags = pick_column(columns[1], TAG_COLUMNS, record, "data.tag_column", where) if with_tags else None
    gold = record[tags] if tags is not None else None
    return as_example(record[tokens], gold, labels, where, (tokens, tags), document_of(record, path) or "")


def document_of(record: Mapping[str, Any], path: str) -> str | None:
    """Return the id of the document that a record names as its own, None where it names none."""
    found = next((record[name] for name in DOCUMENT_COLUMNS if name in record), None)
    if isinstance(found, bool) or not isinstance(found, str | int) or len(str(found)) > LONGEST_ID:
        return None
    return f"{path}#{found}"


def pick_column(
    name: str | None, usual: Sequence[str], columns: Sequence[str] | dict[str, Any], setting: str, where: str
) -> str:
    """Return the name of a column: the one asked for, else the first usual one there is. Raises DataError for none."""
    found = [name] if name is not None else list(usual)
    if (column := next((c for c in found if c in columns), None)) is not None:
        return column
    near = did_you_mean(name, columns) if name is not None else ""
    raise DataError(
        f"{where}: found no column {' or '.join(map(shorten, found))}{near}; "
        f"set {setting} to one of: {shorten_message(', '.join(map(str, columns)))}"
    )
