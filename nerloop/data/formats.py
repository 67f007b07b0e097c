"""The formats by name: which reader is whose, and which one a file is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from nerloop.data.checks import as_tag
from nerloop.data.json_stream import is_array, read_values
from nerloop.data.lines import open_lines
from nerloop.data.read_warnings import Notes
from nerloop.data.readers.brat import brat_files, read_brat
from nerloop.data.readers.columns import DOCUMENT, iterate_columns
from nerloop.data.readers.conllu import COLUMNS, NO_WORD, WORD, read_conllu
from nerloop.data.readers.jsonl import TAG_COLUMNS, TOKEN_COLUMNS, iterate_jsonl, read_json
from nerloop.data.readers.label_studio import read_label_studio
from nerloop.data.readers.tables import read_csv, read_parquet
from nerloop.data.records import TextOptions, TextRecord, read_examples
from nerloop.data.spans import SPAN_COLUMNS, TEXT_COLUMNS, is_annotator_file, read_spacy, read_spans
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example


class TokenReader(Protocol):
    """Reads a file whose sentences are cut into tokens already."""

    def __call__(  # noqa: D102
        self, path: str, *, token_column: str | None, tag_column: str | None, labels: Sequence[str] | None,
        with_tags: bool,
    ) -> Iterable[Example]: ...  # fmt: skip


class TextReader(Protocol):
    """Reads texts with character spans."""

    def __call__(  # noqa: D102
        self, path: str, options: TextOptions, notes: Notes, *, token_column: str | None, tag_column: str | None,
        with_tags: bool,
    ) -> Iterator[TextRecord]: ...  # fmt: skip


TOKEN_READERS: dict[str, TokenReader] = {
    "conll": iterate_columns,
    "conllu": read_conllu,
    "jsonl": iterate_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
}
TEXT_READERS: dict[str, TextReader] = {
    "prodigy": read_spans,
    "doccano": read_spans,
    "spacy": read_spacy,
    "label_studio": read_label_studio,
    "brat": read_brat,
}
FORMATS = (*TOKEN_READERS, *TEXT_READERS)
SUFFIXES = {
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".tsv"), "conll"),
    ".conllu": "conllu",
    ".conllup": "conllu",
    ".csv": "csv",
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
MOST_LOOKED_AT = 100
"""Records of a JSON file, until one tells the format."""


def read_format(
    path: str,
    format: str,  # noqa: A002 (the setting's name)
    options: TextOptions,
    notes: Notes,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
) -> Iterator[Example]:
    """Yield the sentences of a file (or brat folder) in one of FORMATS. Raises DataError."""
    if reader := TOKEN_READERS.get(format):
        yield from reader(path, token_column=token_column, tag_column=tag_column, labels=labels, with_tags=with_tags)
    else:
        records = read_records(
            path, format, options, notes, token_column=token_column, tag_column=tag_column, with_tags=with_tags
        )
        yield from read_examples(records, options, notes, with_tags=with_tags)


def read_records(
    path: str,
    format: str,  # noqa: A002
    options: TextOptions,
    notes: Notes,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    with_tags: bool = True,
) -> Iterator[TextRecord]:
    """Yield the texts of a file (or brat folder) in one of TEXT_READERS, their spans as they are. Raises DataError."""
    return TEXT_READERS[format](
        path, options, notes, token_column=token_column, tag_column=tag_column, with_tags=with_tags
    )


def check_format(name: str) -> str:
    """Return the name of a format. Raises DataError for none."""
    if name not in FORMATS:
        raise DataError(
            f"data.format: found {shorten(name)}{did_you_mean(name, FORMATS)}, expected auto, {', '.join(FORMATS)}"
        )
    return name


def files_of(path: str) -> list[str]:
    """Return the files that a path stands for: itself, or those of a brat folder."""
    return brat_files(path) if Path(path).is_dir() else [path]


def format_of(path: str, token_column: str | None = None, tag_column: str | None = None) -> str:
    """Return the name of a file's format, by its suffix and by what is in it. Raises DataError where it is two.

    A file that is none of them, or can't be read, is taken for columns, or for JSON lines by its suffix: their readers
    say what is wrong.
    """
    suffix = Path(path).suffix.lower()
    if _is_folder(path):
        return "brat" if brat_files(path) else "conll"
    if suffix == ".ann":
        raise DataError(f"{path}: found a file of brat's, expected its folder with .txt and .ann files")
    try:
        if suffix in SUFFIXES:
            return "conllu" if SUFFIXES[suffix] == "conll" and _is_conllu(path) else SUFFIXES[suffix]
        if suffix in JSON_SUFFIXES or is_array(path) or _is_json(path):
            return _json_format(path, token_column, tag_column)
        return "conllu" if _is_conllu(path) else "csv" if _is_csv(path) else "conll"
    except _AmbiguousError:
        raise
    except DataError:
        return "jsonl" if suffix in JSON_SUFFIXES else SUFFIXES.get(suffix, "conll")


class _AmbiguousError(DataError):
    """A file that is in two formats at once."""


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _first_lines(path: str) -> Iterator[str]:
    return (text for _, text in open_lines(path) if text.strip(" \t"))


def _is_json(path: str) -> bool:
    first = next(_first_lines(path), "")
    return re.match(r"[ \t]*({\s*[\"}]|\[[ \t]*\")", first) is not None  # "{ O" is a token with its tag


def _is_conllu(path: str) -> bool:
    """Whether the first row has CoNLL-U's ten columns, and no tag in the last one."""
    rows = (text for text in _first_lines(path) if not text.startswith(("#", DOCUMENT)))
    fields = next(rows, "").split("\t")
    if len(fields) != len(COLUMNS) or not (WORD.fullmatch(fields[0]) or NO_WORD.fullmatch(fields[0])):
        return False
    try:
        as_tag(fields[-1], None, "")
    except DataError:
        return True
    return False


def _is_csv(path: str) -> bool:
    """Whether the first line parts its fields with commas or semicolons, where columns have white space."""
    first = next(_first_lines(path), "")
    return not re.search(r"[ \t]", first.strip()) and re.search(r"[,;]", first) is not None


def _json_format(path: str, token_column: str | None, tag_column: str | None) -> str:
    tokens = "json" if is_array(path) else "jsonl"
    both = None
    for where, value in islice(read_values(path), MOST_LOOKED_AT):
        found = _formats_of(value, token_column, tag_column, tokens)
        if len(found) == 1:
            return found[0]
        if found and both is None:
            both = (where, found)
    if both is None:
        return tokens
    raise _AmbiguousError(f"{both[0]}: can be read as {' and as '.join(both[1])}; set data.format to one of them")


def _formats_of(value: Any, token_column: str | None, tag_column: str | None, tokens: str) -> list[str]:
    """Return the formats that a JSON value fits."""
    if isinstance(value, list):
        return ["spacy"] if len(value) == 2 and isinstance(value[0], str) else []
    if not isinstance(value, dict):
        return []
    if is_annotator_file(value):
        return ["spacy"]
    if isinstance(value.get("data"), dict) and ("annotations" in value or "completions" in value):
        return ["label_studio"]
    found = []
    if _has_tokens(value, token_column, tag_column):
        found.append(tokens)
    texts = TEXT_COLUMNS if token_column is None else (token_column,)
    spans = SPAN_COLUMNS if tag_column is None else (tag_column,)
    if any(isinstance(value.get(name), str) for name in texts):
        has_spans = any(_is_list_of(value.get(name), dict | list) for name in spans) or "answer" in value
        if has_spans or not any(isinstance(value.get(name), list) for name in TOKEN_COLUMNS):  # or a text by itself
            found.append("doccano" if "label" in value or "entities" in value or "labels" in value else "prodigy")
    return found


def _has_tokens(value: Mapping[str, Any], token_column: str | None, tag_column: str | None) -> bool:
    tokens = TOKEN_COLUMNS if token_column is None else (token_column,)
    tags = TAG_COLUMNS if tag_column is None else (tag_column,)
    has_tags = any(_is_list_of(value.get(name), str | int) for name in tags)
    has_text = any(isinstance(value.get(name), str) for name in TEXT_COLUMNS)
    return any(_is_list_of(value.get(name), str) for name in tokens) and (has_tags or not has_text)


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value[:3])
