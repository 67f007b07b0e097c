"""Read CoNLL-2012 (OntoNotes): columns with entities as brackets, `(ORG*`, `*`, `*)`, `(GPE)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nerloop.data.column_layout import find_column
from nerloop.data.lines import look_ahead, open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.tags import NO_COLUMN, to_tags
from nerloop.types import Example, Span

BRACKET = re.compile(r"\*|\*\)|\(([^()*\s]+)(\*\)?|\))")
BEGIN = re.compile(r"#begin document\b\s*(.*)")
WORD, ENTITY = 3, 10
"""Columns of the word and of the entity, from 0, in the full rows of CoNLL-2012."""
FEWEST = 12
"""Columns that a full row has at least. More come with arguments of predicates, before the last one, coreference."""
MAX_ROWS = 1_000
"""The first rows decide whether a file has brackets, and in which column."""


def is_conll2012(lines: Iterable[str]) -> bool:
    """Return whether some lines, the first ones of a file, have `#begin document` or one column of brackets."""
    rows = []
    for line in lines:
        if BEGIN.match(line):
            return True
        if fields := _fields(line):
            rows.append(fields)
    return bool(_bracket_columns(rows))


def read_conll2012(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a file with entities as brackets.

    In full rows of CoNLL-2012 the word is in column 3 and the entity in column 10 (from 0). In shorter rows the entity
    is in the only column of brackets, and the word in the first column without brackets. `token_column` and
    `tag_column` give other indices. `#begin document` begins a document. A sentence with brackets that don't match is a
    bad record. Raises DataError with file:line if the columns are not clear.
    """
    head, lines = look_ahead(open_lines(path, options.encoding), MAX_ROWS)
    token, tag = _columns(path, [fields for _, text in head if (fields := _fields(text))], options)
    document, rows = "", list[tuple[int, list[str]]]()

    def sentence() -> Iterator[Example]:
        try:
            if rows:
                yield _example(path, rows, token, tag if options.with_tags else None, document)
        except DataError as error:
            warnings.bad_record(error)

    for number, text in lines:
        if fields := _fields(text):
            rows.append((number, fields))
            continue
        yield from sentence()
        rows.clear()
        if BEGIN.match(text):
            document = f"{path}:{number}"
    yield from sentence()


def _fields(line: str) -> list[str]:
    """Return the fields of a row; none for a blank line and for one that begins or ends a document."""
    return [] if re.match(r"#(begin|end) document\b", line) else [f for f in re.split("[ \t]+", line) if f]


def _bracket_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns that hold brackets in every row, and at least one type."""
    width = min(map(len, rows), default=0)
    return [
        i
        for i in range(width)
        if all(BRACKET.fullmatch(row[i]) for row in rows) and any(row[i].startswith("(") for row in rows)
        and any("*" in row[i] for row in rows)
    ]  # fmt: skip


def _columns(path: str, rows: Sequence[Sequence[str]], options: ReadOptions) -> tuple[int, int]:
    """Return the indices of the token and entity columns. Raises DataError if there is not exactly one for entities."""
    where, first = path, rows[0] if rows else ()
    given = [
        None if column is None else find_column(column, first, where)
        for column in (options.token_column, options.tag_column)
    ]
    if len(first) >= FEWEST:
        token, tag = WORD, ENTITY
    else:
        brackets = _bracket_columns(rows)
        words = [
            i for i in range(len(first)) if i not in brackets and any(row[i] != "*" for row in rows if i < len(row))
        ]
        if rows and given[1] is None and options.with_tags and len(brackets) != 1:
            raise DataError(
                f"{path}: found {len(brackets)} columns of brackets such as (ORG*, expected one; set data.tag_column"
            )
        token, tag = words[0] if words else 0, brackets[0] if brackets else -1
    return token if given[0] is None else given[0], tag if given[1] is None else given[1]


def _example(
    path: str, rows: Sequence[tuple[int, Sequence[str]]], token: int, tag: int | None, document: str
) -> Example:
    """Return the example of a sentence's rows. Raises DataError for brackets that don't match."""
    tokens, spans = [], []
    opened: tuple[int, str, str] | None = None  # first token, type and place of the span that is open
    for i, (number, fields) in enumerate(rows):
        where = f"{path}:{number}"
        for name, index in (("token", token), ("tag", tag)):
            if index is not None and not -len(fields) <= index < len(fields):
                raise DataError(f"{where}: data.{name}_column is {index}, but the line has {len(fields)} columns")
        tokens.append(fields[token])
        if tag is None:
            continue
        match = BRACKET.fullmatch(fields[tag])
        if match is None or not NO_COLUMN.isdisjoint(match[1] or ""):
            raise DataError(f"{where}: found {shorten(fields[tag])}, expected one of (ORG*, *, *) and (ORG)")
        if match[1]:
            if opened is not None:
                raise DataError(f"{where}: found {shorten(fields[tag])} within {opened[1]} of {opened[2]}, expected *)")
            opened = (i, match[1], where)
        if fields[tag].endswith(")"):
            if opened is None:
                raise DataError(f"{where}: found {shorten(fields[tag])}, but no bracket is open in this sentence")
            spans.append(Span(opened[0], i + 1, opened[1]))
            opened = None
    if opened is not None:
        raise DataError(f"{opened[2]}: found ({opened[1]}* without *) in the rest of its sentence")
    return Example(
        tuple(tokens), tuple(to_tags(spans, len(tokens))) if tag is not None else (), f"{path}:{rows[0][0]}", document
    )
