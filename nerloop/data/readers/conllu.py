"""Read CoNLL-U: ten columns; entities are in MISC (`name=B-PER`, `NER=B-PER`, or another key) or in a column."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from nerloop.data.checks import TagStyle, as_tag
from nerloop.data.column_layout import find_column
from nerloop.data.lines import open_lines
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.tags import OUTSIDE
from nerloop.types import Example

COLUMNS = ["ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC"]
KEYS = ("name", "NER", "ner")
BRACKETS = re.compile(r"\bEntity=[^|]*")
WORD, NO_WORD = re.compile(r"\d{1,9}"), re.compile(r"\d{1,9}[-.]\d{1,9}")


def read_conllu(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a CoNLL-U (or CoNLL-U Plus) file.

    Tokens are the words in the FORM column. Multiword tokens (1-2) are skipped, since their words follow; so are empty
    nodes (3.1). `tag_column` is the index or name of a column (also one of `# global.columns`), or a key in MISC. By
    default it is the key "name", "NER" or "ner". A word without that key has the tag O.

    `# newdoc` begins a document. A sentence has offsets if its `# text` consists of its words and white space. They
    count from the start of its document, whose text has one line for each sentence. In a file without documents, they
    count from the start of the sentence's `# text`. Raises DataError with file:line.
    """
    columns = COLUMNS
    style = TagStyle(warnings=warnings)
    rows: list[tuple[str, list[str]]] = []  # place and fields of each word
    error: DataError | None = None  # about the first row of the sentence that can't be read
    document = ""
    raw_text = ""
    line_start = 0  # offset of the sentence in the text of its document
    was_found = not options.with_tags
    brackets = ""  # place and text of the first coreference brackets, which are no tags
    last = [(0, "")]  # one more blank line, which ends the last sentence
    for number, text in itertools.chain(open_lines(path, options.encoding), last):
        where = f"{path}:{number}"
        if not text.strip(" \t"):
            try:
                if error is not None:
                    raise error
                if rows:
                    example = _example(rows, columns, options, style, document, raw_text, line_start)
                    yield example
                    if document:  # if `# text` doesn't match, the line is the words with spaces between them
                        line_start += len(raw_text if example.offsets else " ".join(example.tokens)) + 1
            except DataError as found:
                warnings.bad_record(found)
                if document:
                    line_start += len(raw_text) + 1
            rows, error, raw_text = [], None, ""
            continue
        if text.startswith("#") and not rows and error is None:
            if match := re.match(r"#\s*global\.columns\s*=\s*(.+)", text):
                columns = match[1].split()
            elif re.match(r"#\s*newdoc\b", text):
                document, line_start = where, 0
            elif match := re.match(r"#\s*text\s*= ?(.*)", text):
                raw_text = match[1]
            continue
        fields = text.split("\t")
        if len(fields) != len(columns):
            error = error or DataError(
                f"{where}: found {len(fields)} fields between tabs, expected {len(columns)}: {shorten(text)}"
            )
            continue
        if NO_WORD.fullmatch(fields[0]):
            continue
        if columns[0] == "ID" and not WORD.fullmatch(fields[0]):
            error = error or DataError(
                f"{where}: found the ID {shorten(fields[0])}, expected a number such as 7, 7-8 or 7.1"
            )
            continue
        if not rows:
            _column(options.token_column or "FORM", columns, where)  # a missing column ends the reading, here
        rows.append((where, fields))
        if options.with_tags:
            was_found = was_found or _tag_of(fields, columns, options.tag_column, where) is not None
            if not (was_found or brackets) and (match := BRACKETS.search(text)):
                brackets = f"{where}: found {shorten(match[0])}"
    if not was_found and brackets:
        raise DataError(
            f"{brackets}: brackets of coreference (CorefUD, GUM), which nest and overlap; expected a tag a word, "
            "such as NER=B-PER. Convert the file first"
        )
    if not was_found:
        expected = f"{options.tag_column}=" if options.tag_column else "name= or NER="
        raise DataError(
            f"{path}: found no {expected} in the MISC column of any word, expected entities there; "
            "set data.tag_column to their key, or to a column's name"
        )


def _example(
    rows: Sequence[tuple[str, Sequence[str]]], columns: Sequence[str], options: ReadOptions, style: TagStyle,
    document: str, raw_text: str, line_start: int,
) -> Example:  # fmt: skip
    """Return the example of a sentence's rows. Raises DataError for a cell that is no tag."""
    token_index = _column(options.token_column or "FORM", columns, rows[0][0])
    tokens = tuple(fields[token_index] for _, fields in rows)
    tags = []
    for where, fields in rows if options.with_tags else ():
        tag = _tag_of(fields, columns, options.tag_column, where)
        tags.append(OUTSIDE if tag is None else as_tag(tag, options.labels, where, style))
    return Example(tokens, tuple(tags), rows[0][0], document, _offsets(tokens, raw_text, line_start))


def _offsets(tokens: Sequence[str], text: str, start: int) -> tuple[tuple[int, int], ...]:
    """Return the offsets of tokens in a text that begins at `start`, or () unless it is only tokens and white space."""
    offsets, at = [], 0
    for token in tokens:
        at = len(text) - len(text[at:].lstrip())
        if not token or not text.startswith(token, at):
            return ()
        offsets.append((start + at, start + at + len(token)))
        at += len(token)
    return () if text[at:].strip() else tuple(offsets)


def _column(name: str, columns: Sequence[str], where: str) -> int:
    by_lower_case = {c.lower(): c for c in columns}
    index = find_column(by_lower_case.get(name.lower(), name), list(columns), where)
    if not -len(columns) <= index < len(columns):
        raise DataError(f"{where}: found column {index}, but a line has {len(columns)} (counted from 0)")
    return index


def _tag_of(fields: Sequence[str], columns: Sequence[str], name: str | None, where: str) -> str | None:
    """Return the tag of a word, or None if the line holds no tag."""
    is_column = name is not None and (
        re.fullmatch(r"-?\d{1,9}", name) or name.lower() in [c.lower() for c in columns] or "MISC" not in columns
    )
    if is_column:
        assert name is not None
        tag = fields[_column(name, columns, where)]
        return None if tag == "*" else OUTSIDE if tag == "_" else tag
    if "MISC" not in columns:
        raise DataError(f"{where}: found columns {' '.join(columns)}; set data.tag_column to the one with entities")
    misc = dict(item.partition("=")[::2] for item in fields[columns.index("MISC")].split("|"))
    for key in KEYS if name is None else (name,):
        if key in misc:
            return misc[key].strip()
    return None
