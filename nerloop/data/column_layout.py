"""Find out how to read a file of columns: what splits its lines, which are comments, which columns hold what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nerloop.data.checks import are_bare, is_tag
from nerloop.data.column_roles import MAX_COLUMNS, MAX_WIDTHS, TOKEN_NAMES, Rows, is_header, kinds_of, names_of
from nerloop.data.escapes import DOCUMENT
from nerloop.data.lines import look_ahead, open_lines
from nerloop.data.options import ReadOptions
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean

MAX_HEAD_LINES = 1_000
"""The first lines decide whether only tabs split the columns."""


@dataclass(frozen=True)
class Split:
    """How a line is split into fields: at spaces and tabs, or at tabs alone."""

    num_tabs: int = 0  # in each row, if one tab separates two columns; else 0
    only_tabs: bool = False

    @staticmethod
    def of(lines: Iterable[str]) -> Split:
        """Return how to split the lines of a file, given its first ones.

        If all rows have the same number of tabs, but different numbers of fields, only tabs split them.
        """
        fields_of = ((text, _fields(text)) for text in lines)
        rows = [(text.count("\t"), len(f)) for text, f in fields_of if f and f[0] != DOCUMENT and not _is_hash(f[0])]
        tabs = {num_tabs for num_tabs, _ in rows}
        if len(tabs) == 1 and len(set(rows)) > 1 and tabs != {0}:
            return Split(rows[0][0], only_tabs=True)
        return Split(rows[0][0] if rows and rows[0][1] == rows[0][0] + 1 else 0)

    def __call__(self, text: str) -> list[str]:
        """Return the fields of a line, none for a blank line."""
        fields = _fields(text)
        if not fields or fields[0] == DOCUMENT:
            return fields
        if self.only_tabs and "\t" in text:
            return [cell.strip(" ") or cell for cell in text.split("\t")]
        # Some rows of a tab-separated file may have an empty cell, or one with spaces.
        if self.num_tabs and len(fields) != self.num_tabs + 1 and text.count("\t") == self.num_tabs:
            return text.split("\t")
        return fields

    def is_comment(self, text: str) -> bool:
        """Return whether a line starts with "#" and a space and has no tab, although all rows have tabs."""
        return self.num_tabs > 0 and "\t" not in text and re.match("[ ]*#+ ", text) is not None


@dataclass(frozen=True)
class Layout:
    """How to split the lines of a file, and which columns hold the tokens and the tags."""

    path: str
    split: Split
    rows: Rows  # counts of the rows with the commonest number of fields
    token_index: int = 0
    tag_index: int | None = None  # None: tags are not read
    is_ragged: bool = False  # rows may have other numbers of fields
    has_bare_tags: bool = False
    header: tuple[str, ...] = ()
    header_line: int = 0
    labels: Sequence[str] | None = None
    is_tag_given: bool = False

    @staticmethod
    def of(path: str, options: ReadOptions) -> Layout:
        """Return the layout of a file after looking at all of its lines.

        Columns that the options don't give are inferred. Raises DataError if several columns are possible, if a given
        one is missing, and for a file that can't be read.
        """
        layout = _first_pass(path, options)
        width = len(layout.header) or layout.num_columns
        if not width:  # no rows, or too many columns, which the reader reports
            return replace(layout, tag_index=-1 if options.with_tags else None)
        given = layout.given(options, width)
        if not layout.rows.num_rows:
            return layout
        if layout.num_columns != width:
            raise DataError(
                f"{path}:{layout.rows.first_line}: {count(layout.num_columns)} where the header in line "
                f"{layout.header_line} has {width}: {shorten(' '.join(layout.rows.first))}"
            )
        if width == 1 and options.with_tags:
            cell = next(iter(layout.rows.columns[0].values))
            raise DataError(f"{layout.where}: found one column only, {shorten(cell)}, expected a token and a tag")
        if len(given) < 1 + options.with_tags:
            layout.check_borders()
        kinds = kinds_of(layout.rows, options.labels, [given["tag"] % width] if "tag" in given else ())
        named = [i for i, name in enumerate(layout.header) if name.lower() in TOKEN_NAMES and i < layout.num_columns]
        token = given.get("token", (named or kinds.tokens)[0])
        if not ("token" in given or named) and (doubtful := [i for i in kinds.doubtful if i < token]):
            raise layout.undecided(
                "token", [*doubtful, token], layout.rows.first_line, layout.rows.first, [doubtful[0], token]
            )
        layout = replace(layout, token_index=token)
        if options.with_tags:
            candidates = [i for i in kinds.entities if i != token % width]
            tag = given.get("tag", candidates[-1] if candidates else width - 1)
            values = layout.rows.columns[tag].values
            layout = replace(layout, tag_index=tag, has_bare_tags=are_bare(names_of(values, options.labels)))
            if "tag" not in given and len(candidates) > 1:
                layout.check_equal(candidates, options)
        is_index = [column is not None and _is_index(column) for column in (options.token_column, options.tag_column)]
        return replace(layout, is_ragged=is_index[0] and (is_index[1] or not options.with_tags))

    @property
    def num_columns(self) -> int:
        """The commonest number of columns, 0 for a file without rows."""
        return len(self.rows.columns)

    @property
    def is_one_sentence(self) -> bool:
        """Whether no blank line separates the rows."""
        return self.rows.num_rows - self.rows.num_continued == 1

    @property
    def where(self) -> str:
        """file:line of the header, else of the first row with the commonest number of columns."""
        return f"{self.path}:{self.header_line or self.rows.first_line}"

    def given(self, options: ReadOptions, width: int) -> dict[str, int]:
        """Return the indices of the columns that the options give. Raises DataError if one is missing."""
        found = {}
        for name, column in (("token", options.token_column), ("tag", options.tag_column)):
            if column is None or (name == "tag" and not options.with_tags):
                continue
            found[name] = index = find_column(column, self.header, self.where)
            if not -width <= index < width:
                raise DataError(
                    f"{self.where}: data.{name}_column is {index}, but the line has {count(width)} (counted from 0)"
                )
        return found

    def check_borders(self) -> None:
        """Raise DataError if only a column of numbers, and no blank line, separates the sentences."""
        numbering = (i for i, column in enumerate(self.rows.columns) if column.numbers_sentences)
        if self.is_one_sentence and (index := next(numbering, None)) is not None:
            raise DataError(
                f"{self.where}: found no blank line between sentences, but column {index} (from 0) seems to number "
                "them. Put blank lines in, or set data.format to csv (for tabs), or both data.token_column and "
                "data.tag_column if the file is one sentence"
            )

    def check_equal(self, indices: Sequence[int], options: ReadOptions) -> None:
        """Raise DataError about the first row in which these columns differ, if there is one."""
        for number, text in open_lines(self.path, options.encoding):
            fields = self.split(text)
            if (
                number == self.header_line
                or len(fields) != self.num_columns
                or self.is_comment(text, fields, in_sentence=False)
            ):
                continue
            if other := next((i for i in indices if fields[i] != fields[indices[0]]), None):
                raise self.undecided("tag", indices, number, fields, (indices[0], other))

    def undecided(
        self, what: str, indices: Sequence[int], number: int, fields: Sequence[str], shown: Sequence[int]
    ) -> DataError:
        """Return the error about several columns that may hold tokens or tags, with a row as example."""
        names = [f"{i} ({shorten(self.header[i], 30)})" if self.header else str(i) for i in indices]
        a, b = (shorten(fields[i], 40) for i in shown)
        token = "" if what == "token" else f"{shorten(fields[self.token_index], 40)} has "
        return DataError(
            f"{self.path}:{number}: columns {', '.join(names[:-1])} and {names[-1]} (from 0) may hold the {what}s: "
            f"{token}{a} in column {shown[0]} and {b} in column {shown[1]}. Set data.{what}_column to one of them"
        )

    def is_comment(self, text: str, fields: Sequence[str], *, in_sentence: bool) -> bool:
        """Return whether a line that may be a row is a comment: it starts with "#", and does not look like a row.

        A row has a tag in its place, or the right number of columns and no mark of a comment ("#" and white space).
        If tags are not read, the cells of a row are like those of other rows. Within a sentence, a line is a comment
        only if it has the mark and no tab, although rows have tabs.
        """
        if not fields[0].startswith("#"):
            return False
        if in_sentence:
            return self.split.is_comment(text)
        has_mark, width = _is_hash(fields[0].split(" ")[0]), self.num_columns
        fits = len(fields) == width or (self.is_ragged and self.token_index < len(fields))
        if self.tag_index is not None:
            is_there = fits and -len(fields) <= self.tag_index < len(fields)
            cell = fields[self.tag_index] if is_there else fields[-1]
            if is_tag(cell, self.labels) or (self.has_bare_tags and cell in self.rows.columns[self.tag_index].values):
                return len(fields) == 1  # such as "#O": no column is left for a token
            # In a file of two columns, "#Paris b-loc" is a token with a misspelt tag, but "# newdoc" is a comment.
            return has_mark or not fits
        if len(fields) != width:
            return not self.is_ragged or has_mark
        others = [(c, cell) for i, (c, cell) in enumerate(zip(self.rows.columns, fields)) if i != self.token_index]
        if has_mark:
            return not all(column.has(cell) or cell == fields[self.token_index] for column, cell in others)
        return any(
            not column.has(cell) for column, cell in others if self.rows.num_rows > 1 and len(column.values) == 1
        )

    def hint(self, fields: Sequence[str]) -> str:
        """Return the end of a message about a row without a tag: the columns that hold one, unless the user chose."""
        others = [str(i) for i, cell in enumerate(fields[1:], start=1) if is_tag(cell, self.labels)]
        return (
            ""
            if self.is_tag_given or not others
            else f". Is it column {' or '.join(others)} (from 0)? Set data.tag_column"
        )


def count(num_columns: int) -> str:
    """Return the number of columns in words: "2 columns"."""
    return f"{num_columns} column{'s' * (num_columns != 1)}"


def find_column(column: str, header: Sequence[str], where: str) -> int:
    """Return the index of a column, given by name or index. Raises DataError for an unknown name."""
    if _is_index(column):
        return int(column)
    if column not in header:
        raise DataError(
            f"{where}: found no column {shorten(column)}{did_you_mean(column, header)}, "
            f"expected a header line that names it; found {shorten(' '.join(header))}"
        )
    return header.index(column)


def _is_index(column: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}", column) is not None


def _fields(text: str) -> list[str]:
    """Return the parts of a line between spaces and tabs; the first one is empty if the line starts with a tab."""
    fields = [part for part in text.replace("\t", " ").split(" ") if part]
    return ["", *fields] if fields and text.startswith("\t") else fields


def _is_hash(text: str) -> bool:
    """Return whether a text consists of "#" only, as the first field of most comments does."""
    return text.startswith("#") and not text.strip("#")


def _first_pass(path: str, options: ReadOptions) -> Layout:
    """Return a layout that does not know yet which columns hold what: how lines split, the header, and row counts."""
    head, lines = look_ahead(open_lines(path, options.encoding), MAX_HEAD_LINES)
    split = Split.of(text for _, text in head)
    is_named = any(not _is_index(column) for column in (options.token_column, options.tag_column) if column is not None)
    by_width: dict[int, Rows] = {}
    maybe_comments: dict[int, Rows] = {}
    header: tuple[str, ...] = ()
    header_line = 0
    in_sentence = follows_unread = False
    for number, text in lines:
        if "\r" in text:  # a file of old Mac line ends would be read as one row of many columns
            raise DataError(
                f"{path}:{number}: found a CR within the line, expected LF or CRLF at its end. Convert the file first."
            )
        fields = split(text)
        if not fields or fields[0] == DOCUMENT:
            in_sentence = follows_unread = False
        elif fields[0].startswith("#") and split.is_comment(text):
            continue
        elif fields[0].startswith("#") and not in_sentence:
            if len(fields) > 1 or not options.with_tags:
                _add(maybe_comments, number, fields, is_first=True, follows_unread=True)
            follows_unread = True
        elif not by_width and not header and (
            is_named or is_header(fields, options.labels, with_tags=options.with_tags)
        ):  # fmt: skip
            header, header_line = tuple(fields), number
        else:
            _add(by_width, number, fields, is_first=not in_sentence, follows_unread=follows_unread)
            in_sentence, follows_unread = True, False
    counts = by_width or maybe_comments  # only if all rows begin with "#", these are no comments
    rows = max(counts.values(), key=lambda rows: rows.num_rows) if counts else Rows.of(0, [])
    return Layout(
        path,
        split,
        rows,
        header=header,
        header_line=header_line,
        labels=options.labels,
        is_tag_given=options.tag_column is not None,
    )


def _add(by_width: dict[int, Rows], number: int, fields: list[str], *, is_first: bool, follows_unread: bool) -> None:
    width = len(fields)
    if width not in by_width:
        if len(by_width) == MAX_WIDTHS or width > MAX_COLUMNS:
            return
        by_width[width] = Rows.of(number, fields)
    by_width[width].add(fields, is_first=is_first, follows_unread=follows_unread)
