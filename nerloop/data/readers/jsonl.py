"""Read records of tokens from JSON: one object a sentence, with a list of tokens and a list of tags."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from nerloop.data.checks import LOOK_AHEAD, TagStyle, as_example
from nerloop.data.column_names import TAG_COLUMNS, TOKEN_COLUMNS, document_of, pick_column
from nerloop.data.json_records import read_records
from nerloop.data.lines import look_ahead
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError
from nerloop.types import Example


def read_jsonl(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a JSON file: objects one after another, in an array, or in the list of one object.

    By default the token column is "tokens" or "words", and the tag column is "ner_tags", "tags", "labels" or "ner".
    Blank lines are skipped. Errors start with file:line.
    """
    head, records = look_ahead(read_records(path, options, warnings), LOOK_AHEAD)
    names = TAG_COLUMNS if options.tag_column is None else (options.tag_column,)
    first = (next((r[name] for name in names if name in r), None) for _, r in head if isinstance(r, dict))
    style = TagStyle.of_lists(first if options.with_tags else (), options.labels, warnings)
    yield from warnings.each(partial(_example, options, path, style), records)


def _example(options: ReadOptions, path: str, style: TagStyle, found: tuple[str, Any]) -> Example:
    where, record = found
    if not isinstance(record, dict):
        raise DataError(f"{where}: found {type(record).__name__}, expected an object such as {{'tokens': [...], ...}}")
    tokens = pick_column(options.token_column, TOKEN_COLUMNS, record, "data.token_column", where)
    tags = None
    if options.with_tags:
        tags = pick_column(options.tag_column, TAG_COLUMNS, record, "data.tag_column", where)
    gold = record[tags] if tags is not None else None
    document = document_of(record, path) or ""
    return as_example(record[tokens], gold, options.labels, where, (tokens, tags), document, style)
