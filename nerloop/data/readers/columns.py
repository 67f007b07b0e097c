"""Read CoNLL-like files: one token a line, its tag in a column, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nerloop.data.checks import TagStyle, as_tag
from nerloop.data.column_layout import Layout, count
from nerloop.data.escapes import DOCUMENT, unescape
from nerloop.data.lines import open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.types import Example

MAX_TOKENS = 1_000
"""A sentence with more tokens suggests that blank lines between sentences are missing."""
MANY_TOKENS = 100
"""The same limit for a file without any blank line."""


class Row(NamedTuple):
    """The line of one token."""

    number: int
    text: str
    fields: Sequence[str]


def read_columns(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a file of columns. Only spaces and tabs split columns.

    If all rows have the same number of tabs, but different numbers of fields between spaces and tabs, only tabs split
    columns. Cells may then be empty or contain spaces.

    `token_column` and `tag_column` are indices from 0 (negative: from the end), or names in a header line. A column
    that is not given is inferred from a first pass over the whole file (see `nerloop.data.column_roles`). If both are
    indices, rows may have different numbers of fields.

    Each `-DOCSTART-` line begins a document. A line that starts with a tab has an empty token. Comments are skipped:
    lines before a sentence that start with "#" and don't look like rows. A sentence with a row that can't be read is a
    bad record. Raises DataError with file:line if the file as a whole can't be read.
    """
    layout = Layout.of(path, options)
    _report(layout, options, warnings)
    style = TagStyle(layout.has_bare_tags, warnings)
    limit = MANY_TOKENS if layout.is_one_sentence else MAX_TOKENS
    for document, rows in _sentences(path, options, layout):
        try:
            yield _example(path, document, rows, layout, style)
        except DataError as error:
            warnings.bad_record(error)
        if len(rows) > limit:
            warnings.add(
                f"sentences of more than {limit:,} tokens (if the file lacks blank lines between its sentences, "
                "put them in, or set data.format csv if a column numbers the sentences)",
                f"{path}:{rows[0].number} {len(rows):,} tokens",
            )


def _report(layout: Layout, options: ReadOptions, warnings: ReadWarnings) -> None:
    """Count in `warnings` a header line that is skipped, and columns that are left out."""
    if layout.header and all(column is None for column in (options.token_column, options.tag_column)):
        warnings.note("header lines are skipped", f"{layout.where} {shorten(' '.join(layout.header))}")
    indices = [index for index in (layout.token_index, layout.tag_index) if index is not None]
    used = {index % layout.num_columns for index in indices if layout.num_columns}
    for i, column in enumerate(layout.rows.columns):
        if i not in used and len(column.values) > 1 and not column.counts_up:
            some = ", ".join(shorten(value, 20) for value, _ in column.values.most_common(3))
            warnings.lose(
                "columns besides token and tag are left out", f"column {i} (from 0), with values such as {some}"
            )


def _sentences(path: str, options: ReadOptions, layout: Layout) -> Iterator[tuple[str, list[Row]]]:
    """Yield the document and the rows of each sentence."""
    document = ""  # until the first -DOCSTART-
    rows: list[Row] = []
    for number, text in open_lines(path, options.encoding):
        fields = layout.split(text)
        if not fields or fields[0] == DOCUMENT:
            if rows:
                yield document, rows
            rows = []
            if fields:
                document = f"{path}:{number}"
        elif not (number == layout.header_line or layout.is_comment(text, fields, in_sentence=bool(rows))):
            rows.append(Row(number, text, fields))
    if rows:
        yield document, rows


def _example(path: str, document: str, rows: Sequence[Row], layout: Layout, style: TagStyle) -> Example:
    """Return the example of a sentence's rows. Raises DataError about the first row that can't be read."""
    tokens, tags = [], []
    token_index, tag_index = layout.token_index, layout.tag_index
    for row in rows:
        if len(row.fields) != layout.num_columns:
            _check_width(row, f"{path}:{row.number}", layout)
        tokens.append(unescape(row.fields[token_index]))
        if tag_index is not None:
            where = f"{path}:{row.number}"
            try:
                tags.append(as_tag(row.fields[tag_index], layout.labels, where, style))
            except DataError as error:
                raise DataError(f"{error}{layout.hint(row.fields)}") from error
    return Example(tuple(tokens), tuple(tags), f"{path}:{rows[0].number}", document)


def _check_width(row: Row, where: str, layout: Layout) -> None:
    """Raise DataError for a row with another number of fields, unless rows may differ and it has both columns."""
    width = len(row.fields)
    if not layout.is_ragged:
        raise DataError(
            f"{where}: {count(width)} where line {layout.rows.first_line} has {layout.num_columns}: "
            f"{shorten(row.text)}. Is a column {'missing' if width < layout.num_columns else 'too many'}?"
        )
    for name, index in (("token", layout.token_index), ("tag", layout.tag_index)):
        if index is not None and not -width <= index < width:
            raise DataError(f"{where}: data.{name}_column is {index}, but the line has {count(width)} (counted from 0)")
    if layout.tag_index is not None and layout.token_index % width == layout.tag_index % width:
        raise DataError(f"{where}: found one column only, {shorten(row.text)}, expected a token and a tag")
