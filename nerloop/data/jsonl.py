"""JSON lines: an object a line, with a list of tokens and a list of tags."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from nerloop.data.checks import as_example, shorten_message
from nerloop.data.lines import open_lines
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "ner")


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
    for number, text in open_lines(path):
        where = f"{path}:{number}"
        if not text.strip(" \t\r"):
            continue
        record = _parse(text, where)
        if not isinstance(record, dict):
            raise DataError(
                f"{where}: found {type(record).__name__}, expected an object such as {{'tokens': [...], ...}}"
            )
        tokens = pick_column(token_column, TOKEN_COLUMNS, record, "data.token_column", where)
        tags = pick_column(tag_column, TAG_COLUMNS, record, "data.tag_column", where) if with_tags else None
        gold = record[tags] if tags is not None else None
        yield as_example(record[tokens], gold, labels, where, (tokens, tags))


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


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _as_dict(pairs, where))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON at character {error.pos + 1}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting of thousands of levels
        raise DataError(f"{where}: JSON that can't be read: {shorten_message(str(error))}") from error


def _as_dict(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name, number in times.items() if number > 1)
        raise DataError(f"{where}: found the key {shorten(twice)} twice in one object, expected each once")
    return record
