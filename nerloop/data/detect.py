"""Which format a file is in: told by its suffix and its content. A file is opened once for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from nerloop.data.checks import as_tag
from nerloop.data.formats import FORMATS
from nerloop.data.json_stream import is_array, values_in
from nerloop.data.lines import decoded_lines, opened
from nerloop.data.options import ReadOptions
from nerloop.data.readers.brat import brat_files
from nerloop.data.readers.columns import DOCUMENT
from nerloop.data.readers.conllu import COLUMNS, NO_WORD, WORD
from nerloop.data.readers.jsonl import TAG_COLUMNS, TOKEN_COLUMNS
from nerloop.data.readers.spans import SPAN_COLUMNS, TEXT_COLUMNS, is_annotator_file
from nerloop.errors import DataError

SUFFIXES = {suffix: name for name, format_ in FORMATS.items() for suffix in format_.suffixes}
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
"""Suffixes of several formats; the records tell which one."""
MAX_LINES = 10_000
"""Lines of a file that are looked at to tell columns from plain text."""
MAX_RECORDS = 100
"""Records of a JSON file that are looked at until one tells the format."""


def format_of(path: str, options: ReadOptions = ReadOptions()) -> str:  # noqa: B008 (frozen)
    """Return the name of a file's format: that of the options, else by suffix and content.

    The column names of the options count: a record with them is one of tokens, or of text and spans. A file that can't
    be read gets the format of its suffix, or "conll": that reader will say what is wrong. Raises DataError for a file
    that fits two formats.

    For a prediction, a file whose suffix doesn't tell is plain text unless it clearly is something else.
    """
    if options.format != "auto":
        return options.format
    suffix = Path(path).suffix.lower()
    if _is_folder(path):
        return "brat" if brat_files(path) else "conll"
    if suffix == ".ann":
        raise DataError(f"{path}: found a file of brat's, expected its folder with .txt and .ann files")
    if SUFFIXES.get(suffix, "conll") != "conll":
        return SUFFIXES[suffix]
    try:
        with opened(path, options.encoding) as file:
            return _format_in(file, path, suffix, options)
    except _AmbiguousError:
        raise
    except DataError:
        if suffix in JSON_SUFFIXES:
            return "jsonl"
        return "text" if options.for_prediction and suffix not in SUFFIXES else "conll"


class _AmbiguousError(DataError):
    """A file that fits two formats."""


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _format_in(file: BinaryIO, path: str, suffix: str, options: ReadOptions) -> str:
    """Return the format of an open file whose suffix leaves several. Raises DataError for content that is not text."""
    may_be_json = suffix not in SUFFIXES
    if may_be_json and (suffix in JSON_SUFFIXES or is_array(file)):
        return _json_format(file, path, options)
    lines = (text for _, text in decoded_lines(file, path) if text.strip(" \t"))
    first = next(lines, "")
    if may_be_json and _is_json(first):
        return _json_format(file, path, options)
    if _is_conllu(chain([first], lines)):
        return "conllu"
    if may_be_json and options.for_prediction:
        file.seek(0)
        head = [text for _, text in islice(decoded_lines(file, path), MAX_LINES)]
        return "conll" if _has_tags(head, options) or _is_a_token_a_line(head) else "text"
    return "csv" if may_be_json and _is_csv(first) else "conll"


def _has_tags(lines: list[str], options: ReadOptions) -> bool:
    """Return whether all rows, two at least, have the same number of fields and one column holds tags alone."""
    rows = [text.split() for text in lines if text.strip() and not text.startswith(("# ", DOCUMENT))]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    return any(all(_is_tag(row[i], options) for row in rows) for i in range(len(rows[0])))


def _is_tag(cell: str, options: ReadOptions) -> bool:
    try:
        as_tag(cell, options.labels, "")
    except DataError:
        return False
    return True


def _is_a_token_a_line(lines: list[str]) -> bool:
    """Return whether lines are sentences of several tokens, each on its own line, with blank lines between them."""
    tokens = [text.strip() for text in lines if not text.startswith("# ")]
    has_border = "" in tokens[tokens.index(next(filter(None, tokens), "")) :] if tokens else False
    has_neighbours = any(a and b for a, b in pairwise(tokens))
    # A line of Chinese is one field, too; but it has the full stop and other words before it.
    return (
        has_border and has_neighbours and not any(re.search(r"\s|[^\W\d_][。！？，、؟।።။។]", token) for token in tokens)
    )


def _is_json(line: str) -> bool:
    return re.match(r"[ \t]*({\s*[\"}]|\[[ \t]*\")", line) is not None  # "{ O" is a token with its tag


def _is_conllu(lines: Iterator[str]) -> bool:
    """Return whether the first row has CoNLL-U's ten columns, and no tag in the last one."""
    rows = (text for text in lines if not text.startswith(("#", DOCUMENT)))
    fields = next(rows, "").split("\t")
    if len(fields) != len(COLUMNS) or not (WORD.fullmatch(fields[0]) or NO_WORD.fullmatch(fields[0])):
        return False
    try:
        as_tag(fields[-1], None, "")
    except DataError:
        return True
    return False


def _is_csv(line: str) -> bool:
    """Return whether commas or semicolons separate the fields of a line; in columns, white space does."""
    return not re.search(r"[ \t]", line.strip()) and re.search(r"[,;]", line) is not None


def _json_format(file: BinaryIO, path: str, options: ReadOptions) -> str:
    """Return the format of the first record that fits exactly one. Raises DataError if all that fit any fit two."""
    tokens = "json" if is_array(file) else "jsonl"
    ambiguous = None
    for where, value in islice(values_in(file, path), MAX_RECORDS):
        found = _formats_of(value, tokens, options)
        if len(found) == 1:
            return found[0]
        if found and ambiguous is None:
            ambiguous = (where, found)
    if ambiguous is None:
        return tokens
    where, found = ambiguous
    raise _AmbiguousError(f"{where}: can be read as {' and as '.join(found)}; set data.format to one of them")


def _formats_of(value: Any, tokens: str, options: ReadOptions) -> list[str]:
    """Return the formats that a JSON value fits; `tokens` is the one of records with tokens and tags."""
    if isinstance(value, list):
        return ["spacy"] if len(value) == 2 and isinstance(value[0], str) else []
    if not isinstance(value, dict):
        return []
    if is_annotator_file(value):
        return ["spacy"]
    if isinstance(value.get("data"), dict) and ("annotations" in value or "completions" in value):
        return ["label_studio"]
    found = []
    if _has_tokens(value, options):
        found.append(tokens)
    texts = TEXT_COLUMNS if options.token_column is None else (options.token_column,)
    spans = SPAN_COLUMNS if options.tag_column is None else (options.tag_column,)
    if any(isinstance(value.get(name), str) for name in texts):
        has_spans = any(_is_list_of(value.get(name), dict | list) for name in spans) or "answer" in value
        # A text without spans counts too, unless the record has tokens.
        if has_spans or not any(isinstance(value.get(name), list) for name in TOKEN_COLUMNS):
            found.append("doccano" if "label" in value or "entities" in value or "labels" in value else "prodigy")
    return found


def _has_tokens(value: Mapping[str, Any], options: ReadOptions) -> bool:
    tokens = TOKEN_COLUMNS if options.token_column is None else (options.token_column,)
    tags = TAG_COLUMNS if options.tag_column is None else (options.tag_column,)
    has_tags = any(_is_list_of(value.get(name), str | int) for name in tags)
    has_text = any(isinstance(value.get(name), str) for name in TEXT_COLUMNS)
    return any(_is_list_of(value.get(name), str) for name in tokens) and (has_tags or not has_text)


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value[:3])
