"""Infer which columns of a file hold the tokens and the tags from the content of the whole file, in one pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nerloop.data.checks import are_bare, is_tag
from nerloop.tags import OUTSIDE, split_tag

CHUNKS = frozenset(
    (
        "NP",
        "VP",
        "PP",
        "ADVP",
        "ADJP",
        "SBAR",
        "PRT",
        "CONJP",
        "INTJ",
        "LST",
        "UCP",
        "WHNP",
        "WHPP",
        "QP",
        "NX",
        "FRAG",
        "NC",
        "VC",
        "PC",
    )
)
"""Types of chunks. CoNLL-2003 has a column of them beside the entities."""
TOKEN_NAMES = frozenset(("token", "tokens", "word", "words", "form"))
"""Names of token columns in a header, in lower case."""
TAG_NAMES = frozenset(("ner", "tag", "tags", "ner_tag", "ner_tags", "label", "labels", "entity", "iob", "bio", "ne"))
"""Names of tag columns in a header, in lower case."""
MAX_VALUES = 10_000
"""Distinct values of a column that are counted. A column with more can't hold tags."""
FEW_ROWS = 5
"""With at least this many rows, a column that is constant, in the file or in each sentence, holds no tokens."""
MAX_LENGTH = 200
"""Characters of a value that are compared."""
MAX_WIDTHS, MAX_COLUMNS = 20, 1_000
"""How many different numbers of columns are counted, and the largest one; other rows are not counted."""


@dataclass(slots=True)
class Column:
    """Describes the cells of one column, in bounded memory."""

    values: Counter[str] = field(default_factory=Counter)
    is_open: bool = False  # has more than MAX_VALUES different values; then `values` are only the first ones
    counts_up: bool = True  # each number is 0, 1, or one more than the number before
    num_steps: int = 0  # rows whose number is one more than that of the row before
    numbers_groups: bool = True  # each whole number is that of the row before, or one more
    num_repeats: int = 0  # rows whose whole number is that of the row before
    number: int | None = None  # in the row before
    is_steady: bool = True  # all rows of a sentence have the same value
    value: str = ""  # in the row before

    def add(self, cell: str, *, is_first: bool, follows_unread: bool) -> None:
        """Count a cell. `is_first`: it begins a sentence. `follows_unread`: possible rows were skipped before it."""
        if not self.is_open:
            cell = cell[:MAX_LENGTH]
            self.values[cell] += 1
            self.is_open = len(self.values) > MAX_VALUES
        if self.counts_up:
            match = re.search(r"\d{1,9}\Z", cell) if cell.isascii() else None
            number = int(match[0]) if match else -1
            if self.number is not None and number == self.number + 1:
                self.num_steps += 1
            elif number not in (0, 1) and not (number > 0 and follows_unread):
                self.counts_up = False
            self.number = number
        if self.numbers_groups:
            is_repeat = cell == self.value and cell.isdecimal()
            self.num_repeats += is_repeat
            self.numbers_groups = is_repeat or _is_next(self.value, cell)
        if self.is_steady:
            self.is_steady = is_first or cell == self.value
        self.value = cell

    @property
    def numbers_sentences(self) -> bool:
        """Whether the column numbers groups of rows, such as 0, 0, 1, 1, 1."""
        return self.numbers_groups and self.num_repeats > 0 and len(self.values) > 1

    def has(self, cell: str) -> bool:
        """Return whether a value was counted, or is a number in a column of numbers that count up."""
        return cell in self.values or (self.counts_up and cell.isdecimal())


@dataclass(slots=True)
class Rows:
    """The columns of all rows with the same number of fields."""

    first_line: int
    first: Sequence[str]  # the fields of the first row
    columns: list[Column]
    num_rows: int = 0
    num_continued: int = 0  # rows that are not the first of their sentence

    @staticmethod
    def of(first_line: int, first: Sequence[str]) -> Rows:
        """Return empty counts; the first row, not counted yet, gives the number of columns."""
        return Rows(first_line, first, [Column() for _ in first])

    def add(self, fields: Sequence[str], *, is_first: bool, follows_unread: bool = False) -> None:
        """Count a row."""
        self.num_rows += 1
        self.num_continued += not is_first
        for column, cell in zip(self.columns, fields):
            column.add(cell, is_first=is_first, follows_unread=follows_unread)


@dataclass(frozen=True)
class Kinds:
    """The indices of the columns that may hold tags, and of those that may hold tokens."""

    entities: Sequence[int]  # may hold the gold tags; if there are several, one has to be chosen
    tokens: Sequence[int]  # may hold the tokens; the first one is taken, since a lemma comes after its word
    doubtful: Sequence[int]  # left out of `tokens`, but too few rows make that uncertain


def kinds_of(rows: Rows, labels: Sequence[str] | None, not_tokens: Iterable[int] = ()) -> Kinds:
    """Return which columns may hold tags and tokens; those in `not_tokens` are known to hold no tokens.

    A rule that would leave no column is not applied: in a file with the only row "1 O", "1" is the token.
    """
    columns = rows.columns
    tags = [i for i in range(len(columns)) if is_tag_column(columns[i], labels, may_be_bare=i > 0)]
    few = rows.num_rows < FEW_ROWS
    if len(tags) > 1 and tags[0] == 0 and (few or len(tags) == len(columns) or set(columns[0].values) == {OUTSIDE}):
        tags = tags[1:]  # the tokens look like tags as well: they come first
    counting = [i for i, column in enumerate(columns) if column.counts_up and (column.num_steps or _is_plain(column))]
    entities = _unless_all(tags, counting)
    entities = _unless_all(entities, [i for i in entities if _are_chunks(columns[i])])
    if all_outside := [i for i in entities if set(columns[i].values) == {OUTSIDE}]:
        entities = _unless_all(entities, all_outside) if len(all_outside) < len(entities) else entities[-1:]
    constant = [i for i, column in enumerate(columns) if rows.num_rows > 1 and len(column.values) == 1]
    steady = [i for i, column in enumerate(columns) if rows.num_continued and column.is_steady]
    mostly_empty = [i for i, column in enumerate(columns) if 2 * column.values[""] > rows.num_rows and not few]
    numeric = [i for i, column in enumerate(columns) if _are_numeric(column, rows.first[i])]
    tokens = list(range(len(columns)))
    for others in (not_tokens, tags, constant, steady, mostly_empty, counting, numeric):
        tokens = _unless_all(tokens, others)
    no_tokens = {*constant, *steady, *counting, *numeric}
    doubtful = [i for i in no_tokens - {*tags, *not_tokens} if few and _may_be_text(columns[i])]
    return Kinds(entities, tokens, doubtful)


def is_tag_column(column: Column, labels: Sequence[str] | None, *, may_be_bare: bool) -> bool:
    """Return whether at least half of the cells are tags. Some may be misspelt; the reader reports those."""
    if column.is_open:
        return False
    num_tags = sum(n for value, n in column.values.items() if is_tag(value, labels))
    return 2 * num_tags >= column.values.total() > 0 or (may_be_bare and are_bare(names_of(column.values, labels)))


def names_of(values: Mapping[str, int], labels: Sequence[str] | None) -> Counter[str]:
    """Return the counts of values, with numbers of labels replaced by their names."""
    found: Counter[str] = Counter()
    for value, n in values.items():
        is_number = labels and value.isascii() and value.isdigit() and len(value) < 9 and int(value) < len(labels)
        found[labels[int(value)] if labels and is_number else value] += n
    return found


def is_header(fields: Sequence[str], labels: Sequence[str] | None, *, with_tags: bool) -> bool:
    """Return whether the first row of a file is a header: it has a name for tokens, and no tag."""
    names = [cell.lower() for cell in fields]
    if len(fields) < 2 or TOKEN_NAMES.isdisjoint(names) or any(is_tag(cell, labels) for cell in fields):
        return False
    return with_tags or not TAG_NAMES.isdisjoint(names) or "TOKEN" in fields


def _is_plain(column: Column) -> bool:
    """Return whether all values are whole numbers, as token numbers are even if every sentence has one token."""
    return all(value.isdecimal() for value in column.values)


def _are_numeric(column: Column, first: str) -> bool:
    """Return whether all values are numbers, such as offsets or scores; the first one may be a name instead."""
    return all(value == first or re.fullmatch(r"[-+]?\d+(?:[.,]\d+)?", value) for value in column.values) and (
        len(column.values) > 1
    )


def _is_next(number: str, cell: str) -> bool:
    """Return whether a cell is a number, one more than `number` of the row before if there is one."""
    if not (cell.isascii() and cell.isdecimal() and len(cell) < 10):
        return False
    return number == "" or (number.isdecimal() and int(cell) == int(number) + 1)


def _may_be_text(column: Column) -> bool:
    """Return whether a column may hold words: it has a letter or digit (not only "_"), and does not count up."""
    return not column.num_steps and any(any(map(str.isalnum, value)) for value in column.values)


def _are_chunks(column: Column) -> bool:
    types = {_type_of(value) for value in column.values} - {""}
    return bool(types) and {type_.upper() for type_ in types} <= CHUNKS


def _type_of(tag: str) -> str:
    try:
        return split_tag(tag)[1]
    except ValueError:
        return tag


def _unless_all(indices: Sequence[int], others: Iterable[int]) -> list[int]:
    """Return the indices without the others, or all of them if none would be left."""
    others = set(others)
    return [i for i in indices if i not in others] or list(indices)
