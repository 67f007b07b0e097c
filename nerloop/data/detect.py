"""Find out which format a file is in, by its suffix and its content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from nerloop.data.checks import are_bare, is_tag
from nerloop.data.column_layout import Split
from nerloop.data.escapes import DOCUMENT
from nerloop.data.folders import COLUMN_FORMATS, files_of, is_brat, is_folder
from nerloop.data.foreign import RefusedError, refuse_bytes, refuse_header, refuse_record
from nerloop.data.formats import FORMATS
from nerloop.data.json_records import MAX_RECORDS, TOKENS, formats_of, unwrapped
from nerloop.data.json_stream import is_array, values_in
from nerloop.data.lines import decoded_lines, look_ahead, opened
from nerloop.data.options import ReadOptions
from nerloop.data.readers.conll2012 import MAX_ROWS, is_conll2012
from nerloop.data.readers.conllu import COLUMNS, NO_WORD, WORD
from nerloop.data.readers.tables import is_csv_of_texts, is_parquet_of_texts
from nerloop.data.table_layout import has_sentence_ids
from nerloop.errors import DataError, shorten

SUFFIXES = {suffix: name for name, format_ in FORMATS.items() for suffix in format_.suffixes}
MAX_HEAD = 4096
"""Bytes at the beginning of a file in which formats that are not read are recognised."""
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
"""Suffixes that several formats share; the records decide between these."""
MAX_LINES = 10_000
"""Lines of a file that are looked at to tell columns from plain text."""


def format_of(path: str, options: ReadOptions = ReadOptions()) -> str:  # noqa: B008 (frozen)
    """Return the name of a file's format: the one that the options name, else by suffix and content.

    The column names of the options count: a record with them is one of tokens, or of text and spans. A file that can't
    be read gets the format of its suffix, or "conll", and its reader reports what is wrong. Raises DataError for a file
    that fits two formats.

    For a prediction, a file whose suffix names no format is plain text unless it clearly is something else.
    """
    if options.format != "auto":
        return options.format
    suffix = Path(path).suffix.lower()
    if (files := files_of(path, options)) != [path]:
        return _common_format(path, files, options)
    if is_folder(path):
        return "brat" if is_brat(path, options) else "conll"
    if suffix == ".ann":
        raise DataError(f"{path}: found a file of brat's, expected its folder with .txt and .ann files")
    named = SUFFIXES.get(suffix, "conll")
    _refuse_foreign(path, may_be_any_text=named == "conll")
    if named in HAVE_TEXTS:
        return _table_format(named, path, options)
    if named != "conll":
        return named
    try:
        with opened(path, options.encoding) as file:
            return _format_in(file, path, suffix, options)
    except (_AmbiguousError, RefusedError):
        raise
    except DataError:
        if suffix in JSON_SUFFIXES:
            return "jsonl"
        return "text" if options.for_prediction and suffix not in SUFFIXES else "conll"


HAVE_TEXTS = {"csv": is_csv_of_texts, "parquet": is_parquet_of_texts}


class _AmbiguousError(DataError):
    """A file that fits two formats."""


def _refuse_foreign(path: str, *, may_be_any_text: bool) -> None:
    """Raise DataError for a file of a format that is recognised by its first bytes, but not read."""
    try:
        with opened(path) as file:
            head = file.read(MAX_HEAD)
    except DataError:  # can't be opened, which its reader reports
        return
    refuse_bytes(head, path, may_be_any_text=may_be_any_text)
    refuse_header(head[:200].decode("utf-8", "replace").removeprefix("\ufeff"), path)


def _common_format(path: str, files: Sequence[str], options: ReadOptions) -> str:
    """Return the format of all files of a folder or pattern. Raises DataError for more than one, and for texts."""
    by_format = {format_of(file, options): file for file in reversed(files)}
    if len(by_format) > 1:
        found = " and ".join(f"{name} ({file})" for name, file in sorted(by_format.items()))
        raise DataError(f"{path}: found files in {found}, expected one format; name the files that belong together")
    (name,) = by_format
    if name not in COLUMN_FORMATS:
        raise DataError(f"{path}: found {len(files)} files of {name}, expected columns; name one file after the other")
    return name


def _format_in(file: BinaryIO, path: str, suffix: str, options: ReadOptions) -> str:
    """Return the format of an open file whose suffix leaves several. Raises DataError for content that is not text."""
    may_be_json = suffix not in SUFFIXES
    if may_be_json and (suffix in JSON_SUFFIXES or is_array(file)):
        _refuse_columns(file, path, options)
        return _json_format(file, path, options)
    lines = (text for _, text in decoded_lines(file, path) if text.strip(" \t"))
    first, second = next(lines, ""), next(lines, "")
    if may_be_json and _is_json(f"{first}\n{second}"):
        return _json_format(file, path, options)
    head, _ = look_ahead(chain([first, second], lines), MAX_ROWS)
    if _is_conllu(iter(head)):
        return "conllu"
    if is_conll2012(head):
        return "conll2012"
    if may_be_json and options.for_prediction:
        return _format_to_be_tagged(file, path, first, options)
    is_table = _is_csv(first) if may_be_json else suffix == ".tsv" and _is_tsv_table(first, path, options)
    return _table_format("csv", path, options) if is_table else "conll"


def _refuse_columns(file: BinaryIO, path: str, options: ReadOptions) -> None:
    """Raise DataError if the first line of a file that should be JSON is a token with its tag."""
    first = next((text for _, text in decoded_lines(file, path) if text.strip()), "")
    file.seek(0)
    fields = first.split()
    if len(fields) > 1 and not _is_json(first) and is_tag(fields[-1], options.labels):
        raise RefusedError(f"{path}: found columns, not JSON: {shorten(first)}; set data.format to conll")


def _format_to_be_tagged(file: BinaryIO, path: str, first: str, options: ReadOptions) -> str:
    """Return the format of a file that is plain text unless it clearly is something else."""
    file.seek(0)
    head = [text for _, text in islice(decoded_lines(file, path), MAX_LINES)]
    if _has_tags(head, options):
        return "conll"
    if _is_csv(first) and any(_has_tags(head, options, separator) for separator in ",;|"):
        return "csv"
    if _is_a_token_a_line(head):
        return "conll"
    return "csv_texts" if "," in first and _table_format("csv", path, options) == "csv_texts" else "text"


def _has_tags(lines: list[str], options: ReadOptions, separator: str = "") -> bool:
    """Return whether a column, of the rows with the commonest number of fields, holds tags.

    These rows are two at least, and most of those that have more than one field. Without a separator, white space
    separates fields, as in columns.
    """
    split = Split.of(lines)
    filled = (text for text in lines if text.strip() and not text.startswith(("# ", DOCUMENT)))
    rows = [row for text in filled if len(row := text.split(separator) if separator else split(text)) > 1]
    width, number = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    if number < 2 or 2 * number <= len(rows):
        return False
    cells = zip(*(row for row in rows if len(row) == width), strict=True)
    columns = [Counter(cell.strip() for cell in column) for column in cells]
    num_tags = [sum(n for cell, n in values.items() if is_tag(cell, options.labels)) for values in columns]
    # A few tags may be misspelt, which the reader reports, and the first row may be a header.
    return 3 * max(num_tags, default=0) >= 2 * number or any(map(are_bare, columns[1:]))


def _is_tsv_table(first: str, path: str, options: ReadOptions) -> bool:
    """Return whether a .tsv file is a table rather than columns: it has a column of sentence ids, or of texts."""
    cells = first.split("\t")
    if len(cells) == 1 or any(is_tag(cell.strip(), options.labels) for cell in cells):
        return False
    return has_sentence_ids(cells) or _table_format("csv", path, options) == "csv_texts"


def _table_format(name: str, path: str, options: ReadOptions) -> str:
    """Return the format of a CSV or Parquet file: of texts or of tokens. If it can't be read, its reader says why."""
    try:
        return f"{name}_texts" if HAVE_TEXTS[name](path, options) else name
    except DataError:
        return name


def _is_json(text: str) -> bool:
    return re.match(r"[ \t]*({\s*[\"}]|\[[ \t]*\")", text) is not None  # "{ O" is a token with its tag


def _is_a_token_a_line(lines: list[str]) -> bool:
    """Return whether lines are sentences of several tokens, each on its own line, with blank lines between them.

    Without blank lines, a mark that has its own line tells: a list of names has none.
    """
    tokens = [text.strip() for text in lines if not text.startswith("# ")]
    has_border = "" in tokens[tokens.index(next(filter(None, tokens), "")) :] if tokens else False
    has_neighbours = any(a and b for a, b in pairwise(tokens))
    has_marks = any(re.fullmatch("[.,;:!?]", token) for token in tokens)
    # A line of Chinese is one field, too; but it has the full stop and other words before it.
    return (
        (has_border or has_marks)
        and has_neighbours
        and not any(re.search(r"\s|[^\W\d_][。！？，、؟।።။។]", token) for token in tokens)
    )


def _is_conllu(lines: Iterator[str]) -> bool:
    """Return whether the first row has CoNLL-U's ten columns, and no tag in the last one."""
    rows = (text for text in lines if not text.startswith(("#", DOCUMENT)))
    fields = next(rows, "").split("\t")
    if len(fields) != len(COLUMNS) or not (WORD.fullmatch(fields[0]) or NO_WORD.fullmatch(fields[0])):
        return False
    return not is_tag(fields[-1], None)


def _is_csv(line: str) -> bool:
    """Return whether commas, semicolons or bars separate the fields of a line; in columns, white space does."""
    return not re.search(r"[ \t]", line.strip()) and re.search(r"[,;|]", line) is not None


def _json_format(file: BinaryIO, path: str, options: ReadOptions) -> str:
    """Return the format of the first record that fits exactly one. Raises DataError if all that fit one fit two."""
    tokens = "json" if is_array(file) else "jsonl"
    ambiguous = None
    values = values_in(file, path, on_error=lambda _: None)  # the reader reports what can't be read
    for where, value in islice(_records_in(values, options), MAX_RECORDS):
        found = [tokens if name == TOKENS else name for name in formats_of(value, options)]
        if len(found) == 1:
            return found[0]
        if found and ambiguous is None:
            ambiguous = (where, found)
    if ambiguous is None:
        return tokens
    where, found = ambiguous
    raise _AmbiguousError(f"{where}: can be read as {' and as '.join(found)}; set data.format to one of them")


def _records_in(values: Iterator[tuple[str, Any]], options: ReadOptions) -> Iterator[tuple[str, Any]]:
    """Yield the records among JSON values. Raises DataError for one of a format that is recognised but not read."""
    for where, value in values:
        refuse_record(value, where)
        for at, record in unwrapped(value, where, options):
            if record is not value:
                refuse_record(record, at)
            elif isinstance(record, dict) and not formats_of(record, options):
                for inner in record.values():  # records of no format that is read were not unwrapped
                    refuse_record(inner[0] if isinstance(inner, list) and inner else None, where)
            yield at, record
