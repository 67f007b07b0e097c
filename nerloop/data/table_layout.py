"""Decide from names and content, before reading a table, what its rows are and which column holds what."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from nerloop.data.checks import are_bare, is_tag, shorten_message
from nerloop.data.column_names import (
    SPAN_COLUMNS,
    TAG_COLUMNS,
    TOKEN_COLUMNS,
    USUAL_TEXTS,
    find_texts,
    has_words,
    is_text,
    pick_column,
)  # fmt: skip
from nerloop.data.options import ReadOptions
from nerloop.data.printed_lists import looks_like_list, parse_list
from nerloop.errors import DataError, shorten

WORD_COLUMNS = (*TOKEN_COLUMNS, "token", "word", "form")
WORD_TAG_COLUMNS = (*TAG_COLUMNS, "tag", "ner_tag", "label", "entity")
SENTENCE_COLUMNS = ("sentence #", "sentence_id", "sentence_number", "sent_id", "sentence")
KNOWN = frozenset((*WORD_COLUMNS, *WORD_TAG_COLUMNS, *SENTENCE_COLUMNS, *SPAN_COLUMNS, *USUAL_TEXTS))
INDEX = r"-?\d{1,9}"
MIN_WORDS_OF_TEXT = 4
"""A cell of the first row with at least this many words is a text, not the name of a column."""


class Rows(Enum):
    """What a row of a table is."""

    TOKEN = auto()
    LISTS = auto()  # a sentence, as lists of tokens and tags
    WORDS = auto()  # a sentence, as tokens and tags with spaces between them
    TEXT = auto()


@dataclass(frozen=True)
class Layout:
    """What a row of a table is, and the indices of its columns."""

    rows: Rows
    token: int
    tag: int | None = None  # holds tags, or spans if rows are texts
    sentence: int | None = None
    has_header: bool = True
    note: str = ""  # what was decided from the content, for the log


@dataclass(frozen=True)
class Table:
    """The first rows of a table. `header` is the very first one: names of columns, or data."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    where: str

    def column(self, index: int) -> list[Any]:
        """Return the cells of a column that are not empty."""
        cells = (row[index] for row in self.rows if len(row) == len(self.header))
        return [cell for cell in cells if cell is not None and not (isinstance(cell, str) and not cell.strip())]

    @property
    def names(self) -> dict[str, int]:
        """The index of each column by its name in lower case."""
        lower = [name.strip().lower() for name in self.header]
        return {name: lower.index(name) for name in lower}

    @property
    def has_blank_row(self) -> bool:
        """Whether a row has nothing in any column."""
        return any(is_blank(row) for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        """Return the rows by the names of their columns."""
        return [dict(zip(self.header, row)) for row in self.rows]


def layout_of(table: Table, options: ReadOptions) -> Layout:
    """Return the layout of a table. Raises DataError, which lists the columns, if it is not clear what they hold."""
    names = table.names
    is_known = not KNOWN.isdisjoint(names)
    if options.token_column is not None:
        token = _find(options.token_column, (), table, "data.token_column")
        return _with_columns(table, options, token, has_header=_has_header(table, options))
    if not is_known and any(is_tag(cell.strip(), options.labels) for cell in table.header):
        return _by_content(table, options, has_header=False)
    if not is_known and any(map(_is_long_text, table.header)):
        return _without_names(table, options)
    if (name := next((name for name in WORD_COLUMNS if name in names), None)) is not None:
        return _with_columns(table, options, names[name])
    if (text := find_texts(table.records(), table.where)) is not None:
        return _with_columns(table, options, list(table.header).index(text))
    if not is_known:
        return _by_content(table, options, has_header=True)
    pick_column(None, (*WORD_COLUMNS, "text"), names, "data.token_column", table.where)
    return _with_columns(table, options, names["text"])


def _with_columns(table: Table, options: ReadOptions, token: int, *, has_header: bool = True) -> Layout:
    """Return the layout of a table whose column of tokens or texts is known."""
    cells, names = table.column(token), table.names
    if _are_lists(cells):
        return Layout(Rows.LISTS, token, _tag_column(table, options) if options.with_tags else None, None, has_header)
    tag = _tag_column(table, options, is_optional=True)
    are_tags = tag is not None and _are_tags(table.column(tag), options)
    if tag is not None and not are_tags and (note := _note_on_words_and_tags(table, token, tag, options)):
        return Layout(Rows.WORDS, token, tag if options.with_tags else None, None, has_header, note)
    sentence = next((names[n] for n in SENTENCE_COLUMNS if n in names and names[n] != token), None)
    note = ""
    if sentence is None:
        sentence = _numbering(table, [i for i in range(len(table.header)) if i not in (token, tag)])
        note = "" if sentence is None else f"tables with sentences by column {shorten(table.header[sentence])}"
    # Rows of one word may be texts, too, if neither names nor sentence borders suggest tokens.
    is_bare = sentence is None and table.header[token].strip().lower() not in WORD_COLUMNS and not table.has_blank_row
    is_text = has_words(cells) or (is_bare and (not options.with_tags or _span_column(table, options) is not None))
    if is_text and not are_tags:
        return _of_texts(table, options, token, has_header)
    tag = _tag_column(table, options) if options.with_tags else None
    return Layout(Rows.TOKEN, token, tag, sentence, has_header, note)


def _of_texts(table: Table, options: ReadOptions, token: int, has_header: bool) -> Layout:
    spans = _span_column(table, options)
    if options.with_tags and spans is None:
        raise DataError(
            f"{table.where}: texts are in column {shorten(table.header[token])}, but no column holds their spans; "
            f"set data.tag_column to one of: {shorten_message(', '.join(table.header))}"
        )
    note = (
        "" if options.token_column is not None else f"tables whose texts are in column {shorten(table.header[token])}"
    )
    return Layout(Rows.TEXT, token, spans if options.with_tags else None, None, has_header, note)


def _without_names(table: Table, options: ReadOptions) -> Layout:
    """Return the layout of a table without a header: its first row has a text where a name would be."""
    rows = [row for row in (table.header, *table.rows) if len(row) == len(table.header)]
    text = find_texts(({str(i): cell for i, cell in enumerate(row)} for row in rows), table.where)
    if text is None:
        return _by_content(table, options, has_header=False)
    layout = _with_columns(table, options, int(text), has_header=False)
    return replace(layout, note=f"tables whose texts are in column {text} (from 0), from the first row on")


def _by_content(table: Table, options: ReadOptions, *, has_header: bool) -> Layout:
    """Return the layout of a table without known names: one column of tags, one of tokens, else only row numbers."""
    rows = table.rows if has_header else [table.header, *table.rows]
    table = Table(table.header, rows, table.where)
    columns = {i: table.column(i) for i in range(len(table.header))}
    tags = [i for i, cells in columns.items() if cells and _are_tags(cells, options)]
    counting = [i for i, cells in columns.items() if i not in tags and _is_counting(cells)]
    sentence = _numbering(table, [i for i in columns if i not in tags])
    others = [i for i in columns if i not in tags and i not in counting and i != sentence]
    if len(tags) == 1 and len(others) == 1:
        note = (
            f"tables with tokens in column {others[0]} and tags in column {tags[0]} (from 0), judging by their content"
        )
        if sentence is not None:
            name = shorten(table.header[sentence]) if has_header else f"{sentence} (from 0)"
            note += f", and sentences by column {name}"
        return Layout(Rows.TOKEN, others[0], tags[0] if options.with_tags else None, sentence, has_header, note)
    shown = ", ".join(f"{i}: {shorten(cell, 30)}" for i, cell in enumerate(rows[0] if rows else table.header))
    found = "no header" if not has_header else "no usual names in the first row"
    raise DataError(
        f"{table.where}: found {found}, and several columns may hold the tokens ({shown}); "
        "set data.token_column and data.tag_column to their indices from 0"
    )


def _has_header(table: Table, options: ReadOptions) -> bool:
    """Return whether the first row names the columns: always, unless columns are indices and it looks like data."""
    token, tag = options.token_column, options.tag_column
    if not all(column is None or re.fullmatch(INDEX, column) for column in (token, tag)):
        return True
    if tag is None:
        return not is_text(table.header[_find(token, (), table, "data.token_column")])
    return not is_tag(table.header[_find(tag, (), table, "data.tag_column")].strip(), options.labels)


def _find(name: str | None, usual: Sequence[str], table: Table, setting: str) -> int:
    header, where = table.header, table.where
    if name is not None and re.fullmatch(INDEX, name):
        index = int(name)
        if not -len(header) <= index < len(header):
            raise DataError(f"{where}: {setting} is {index}, but the row has {len(header)} fields (counted from 0)")
        return index % len(header)
    if name is not None and name in header:
        return list(header).index(name)
    return table.names[pick_column(None if name is None else name.lower(), usual, table.names, setting, where)]


def _tag_column(table: Table, options: ReadOptions, *, is_optional: bool = False) -> int | None:
    """Return the column of tags. Raises DataError if there is none, unless it is optional or tags are not read."""
    usual = next((table.names[name] for name in WORD_TAG_COLUMNS if name in table.names), None)
    if options.tag_column is None and (is_optional or not options.with_tags):
        return usual
    return _find(options.tag_column, WORD_TAG_COLUMNS, table, "data.tag_column")


def _span_column(table: Table, options: ReadOptions) -> int | None:
    """Return the column of a table of texts that holds lists of spans, or None."""
    if options.tag_column is not None:
        return _find(options.tag_column, SPAN_COLUMNS, table, "data.tag_column")
    named = [table.names[name] for name in SPAN_COLUMNS if name in table.names]
    return next((i for i in named if (cells := table.column(i)) and _are_lists(cells)), None)


def _are_lists(cells: Sequence[Any]) -> bool:
    """Return whether most cells are lists or look like lists. A few are not enough: a token may be "[sic]"."""
    return sum(isinstance(c, list) or (isinstance(c, str) and looks_like_list(c)) for c in cells) * 2 > len(cells)


def _are_tags(cells: Sequence[Any], options: ReadOptions) -> bool:
    """Return whether all cells are tags (also only "O"), numbers of tags, or types without prefixes."""
    if not cells or not all(isinstance(cell, str | int) for cell in cells):
        return False
    values = [cell.strip() if isinstance(cell, str) else cell for cell in cells]
    return all(is_tag(value, options.labels) for value in values) or are_bare(Counter(map(str, values)))


def _note_on_words_and_tags(table: Table, token: int, tag: int, options: ReadOptions) -> str:
    """Return a note if each cell of column `tag` holds tags for the words in column `token`; else ""."""
    cells = table.column(tag)
    try:
        values = [split_cell(cell, "") for cell in cells]
    except DataError:
        return ""
    if not cells or not _are_tags([tag for tags in values for tag in tags], options):
        return ""
    word, tags = (shorten(table.header[i]) for i in (token, tag))
    return f"tables whose column {word} is cut at spaces, since {tags} holds tags of words"


def split_cell(cell: Any, where: str) -> list[Any]:
    """Return the tags in a cell: a list, or tags with spaces between them. Raises DataError for a broken list."""
    if isinstance(cell, list):
        return cell
    return parse_list(str(cell), where) if looks_like_list(str(cell)) else str(cell).split()


def _is_counting(cells: Sequence[Any]) -> bool:
    """Return whether a column counts its rows, from 0 or 1."""
    start = str(cells[0]).strip() if cells else ""
    if start not in ("0", "1"):
        return False
    return all(str(cell).strip() == str(number) for number, cell in zip(itertools.count(int(start)), cells))


def _numbering(table: Table, indices: Sequence[int]) -> int | None:
    """Return the column that numbers the sentences, such as 0, 0, 1, 1, 1, or None."""
    return next((i for i in indices if not table.has_blank_row and _is_numbering(table.column(i))), None)


def _is_numbering(cells: Sequence[Any]) -> bool:
    texts = [str(cell).strip() for cell in cells]
    if not texts or not all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts):
        return False
    steps = {int(after) - int(before) for before, after in itertools.pairwise(texts)}
    return steps == {0, 1}


def is_blank(row: Sequence[Any]) -> bool:
    """Return whether a row has nothing in any column."""
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in row)


def _is_long_text(cell: Any) -> bool:
    return isinstance(cell, str) and is_text(cell) and len(cell.split()) >= MIN_WORDS_OF_TEXT


def has_sentence_ids(cells: Sequence[str]) -> bool:
    """Return whether a row names a column of tokens and one of sentence ids."""
    names = {cell.strip().lower() for cell in cells}
    return not names.isdisjoint(WORD_COLUMNS) and not names.isdisjoint(SENTENCE_COLUMNS)
