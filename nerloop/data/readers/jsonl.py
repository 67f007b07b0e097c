"""Read records of tokens from JSON: one object a sentence, with a list of tokens and a list of tags."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from nerloop.data.checks import as_example
from nerloop.data.column_names import TAG_COLUMNS, TOKEN_COLUMNS, document_of, pick_column
from nerloop.data.json_records import read_records
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError
from nerloop.types import Example


def read_jsonl(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a JSON file: objects one after another, in an array, or in the list of one object.

    By default the token column is "tokens" or "words", and the tag column is "ner_tags", "tags", "labels" or "ner".
    Blank lines are skipped. Errors start with file:line.
    """
    yield from warnings.each(partial(_example, options, path), read_records(path, options, warnings))


def _example(options: ReadOptions, path: str, found: tuple[str, Any]) -> Example:
    where, record = found
    if not isinstance(record, dict):
        raise DataError(f"{where}: found {type(record).__name__}, expected an object such as {{'tokens': [...], ...}}")
    tokens = pick_column(options.token_column, TOKEN_COLUMNS, record, "data.token_column", where)
    tags = None
    if options.with_tags:
        tags = pick_column(options.tag_column, TAG_COLUMNS, record, "data.tag_column", where)
    gold = record[tags] if tags is not None else None
    return as_example(record[tokens], gold, options.labels, where, (tokens, tags), document_of(record, path) or "")
