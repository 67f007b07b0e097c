"""Read CoNLL-like files: one token a line, its tag in a column, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nerloop.data.checks import as_tag
from nerloop.data.lines import look_ahead, open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example

DOCUMENT = "-DOCSTART-"
MAX_HEAD_LINES = 1_000
"""Number of first lines that decide whether only tabs split the columns."""


def read_columns(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a file of columns. Only spaces and tabs split columns.

    If all rows have the same number of tabs, but different numbers of fields between spaces and tabs, only tabs split
    columns. Cells may then be empty or contain spaces.

    `token_column` and `tag_column` are indices from 0 (negative: from the end; default: first and last), or names in a
    header line. Each `-DOCSTART-` line begins a document. A line that starts with a tab has an empty token.

    Comments are skipped: lines before a sentence that start with "#" and whose last field is no tag. When tags are not
    read, a comment is a line whose first field is "#", unless it has as many fields as there are columns. Raises
    DataError with file:line.
    """
    with_tags, labels = options.with_tags, options.labels
    tokens: list[str] = []
    tags: list[str] = []
    first_line = start_line = num_columns = 0
    token_index, tag_index = _index(options.token_column, 0), _index(options.tag_column, -1)
    document = ""  # until the first -DOCSTART-
    head, lines = look_ahead(open_lines(path, options.encoding), MAX_HEAD_LINES)
    tabs_split = _do_tabs_split(text for _, text in head)
    is_tabbed = False  # whether the first row has one tab between any two columns
    header_due = token_index is None or tag_index is None
    expected_columns = 0 if with_tags else _columns_of_first_row(path, options.encoding)
    for number, text in lines:
        if "\r" in text:  # a file of old Mac line ends would be read as one row of many columns
            raise DataError(
                f"{path}:{number}: found a CR within the line, expected LF or CRLF at its end. Convert the file first."
            )
        fields = _split(text)
        if not fields or fields[0] == DOCUMENT:
            if tokens:
                yield Example(tuple(tokens), tuple(tags), f"{path}:{start_line}", document)
            tokens, tags = [], []
            if fields:
                document = f"{path}:{number}"
            continue
        if tabs_split and "\t" in text:
            fields = [cell.strip(" ") for cell in text.split("\t")]
        elif (
            not tokens
            and fields[0].startswith("#")
            and _is_comment(fields, labels, with_tags, num_columns or expected_columns)
        ):
            continue
        if header_due:
            token_index = _find_column(options.token_column, fields, 0, f"{path}:{number}")
            tag_index = _find_column(options.tag_column, fields, -1, f"{path}:{number}")
            _check_columns(fields, token_index, tag_index, with_tags, f"{path}:{number}")
            first_line, num_columns, header_due = number, len(fields), False
            is_tabbed = text.count("\t") == num_columns - 1
            continue
        if not num_columns:
            first_line, num_columns = number, len(fields)
            is_tabbed = text.count("\t") == num_columns - 1
            _check_columns(fields, token_index, tag_index, with_tags, f"{path}:{number}")
        # Some rows of a tab-separated file may have an empty cell, or one with spaces.
        if is_tabbed and len(fields) != num_columns and text.count("\t") == num_columns - 1:
            fields = text.split("\t")
        if len(fields) != num_columns:
            raise DataError(
                f"{path}:{number}: {_count(len(fields))} where line {first_line} has {num_columns}: {shorten(text)}. "
                f"Is a column {'missing' if len(fields) < num_columns else 'too many'}?"
            )
        assert token_index is not None
        assert tag_index is not None
        if not tokens:
            start_line = number
        tokens.append(fields[token_index])
        if with_tags:
            try:
                tags.append(as_tag(fields[tag_index], labels, f"{path}:{number}"))
            except DataError as error:
                raise error if options.tag_column is not None else _with_hint(error, fields, labels) from error
    if tokens:
        yield Example(tuple(tokens), tuple(tags), f"{path}:{start_line}", document)


def _split(text: str) -> list[str]:
    fields = [f for f in re.split("[ \t]+", text) if f]
    return ["", *fields] if fields and text.startswith("\t") else fields


def _do_tabs_split(lines: Iterable[str]) -> bool:
    """Return whether all lines have the same number of tabs, but not the same number of fields."""
    shapes = set()
    for text in lines:
        fields = _split(text)
        if fields and fields[0] != DOCUMENT and not (fields[0].startswith("#") and "\t" not in text):
            shapes.add((text.count("\t"), len(fields)))
    tabs = {num_tabs for num_tabs, _ in shapes}
    return len(tabs) == 1 and len(shapes) > 1 and tabs != {0}


def _with_hint(error: DataError, fields: list[str], labels: Sequence[str] | None) -> DataError:
    """Return the error about the last column of a row, with a hint at other columns that hold tags."""
    others = [str(i) for i, cell in enumerate(fields[1:-1], start=1) if _is_tag(cell, labels)]
    return DataError(f"{error}. Is it column {' or '.join(others)} (from 0)? Set data.tag_column") if others else error


def _is_tag(cell: str, labels: Sequence[str] | None) -> bool:
    try:
        as_tag(cell, labels, "")
    except DataError:
        return False
    return True


def _columns_of_first_row(path: str, encoding: str) -> int:
    """Return the number of columns of the first line that can't be a comment, or 0 if there is none."""
    rows = (_split(text) for _, text in open_lines(path, encoding))
    return next((len(fields) for fields in rows if fields and fields[0] not in (DOCUMENT, "#")), 0)


def _is_comment(fields: list[str], labels: Sequence[str] | None, with_tags: bool, num_columns: int) -> bool:
    if not with_tags:  # comment and token look alike here: it is better to read a comment than to lose a token
        return fields[0] == "#" and len(fields) not in (1, num_columns)
    if not _is_tag(fields[-1], labels):
        # In a file of two columns, "#Paris b-loc" is a token with a misspelt tag, but "# newdoc" is a comment.
        return fields[0] == "#" or len(fields) != num_columns
    return len(fields) == 1  # such as "#O": there is no column for a token


def _index(column: str | None, default: int) -> int | None:
    """Return the index of a column, or None for a name, which needs a header line."""
    if column is None:
        return default
    return int(column) if re.fullmatch(r"-?\d{1,9}", column) else None


def _find_column(column: str | None, header: list[str], default: int, where: str) -> int:
    index = _index(column, default)
    if index is not None:
        return index
    assert column is not None
    return find_column(column, header, where)


def find_column(column: str, header: list[str], where: str) -> int:
    """Return the index of a column, given by name or index. Raises DataError for an unknown name."""
    if (index := _index(column, 0)) is not None:
        return index
    if column not in header:
        raise DataError(
            f"{where}: found no column {shorten(column)}{did_you_mean(column, header)}, "
            f"expected a header line that names it; found {shorten(' '.join(header))}"
        )
    return header.index(column)


def _check_columns(
    fields: list[str], token_index: int | None, tag_index: int | None, with_tags: bool, where: str
) -> None:
    if with_tags and len(fields) == 1:
        raise DataError(f"{where}: found one column only, {shorten(fields[0])}, expected a token and a tag")
    for name, index in (("token", token_index), ("tag", tag_index)):
        if index is not None and not -len(fields) <= index < len(fields) and (with_tags or name == "token"):
            raise DataError(
                f"{where}: data.{name}_column is {index}, but the line has {_count(len(fields))} (counted from 0)"
            )


def _count(num_columns: int) -> str:
    return f"{num_columns} column{'s' * (num_columns != 1)}"
