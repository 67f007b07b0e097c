"""Checks that all readers share: tags, tokens, and that there is one tag a token."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten
from nerloop.tags import OUTSIDE, PREFIXES, STYLES, split_tag
from nerloop.types import Example

MAX_TYPES = 100
"""Most types that a column of tags without prefixes may have; one with more holds something else."""
ONLY_TYPE = "ENTITY"
"""The type of tags that are prefixes alone, as in files with entities of one type: "B" is read as "B-ENTITY"."""
ALL_PREFIXES = frozenset(PREFIXES) | STYLES.keys()
BEGINNINGS = frozenset("BSU")
"""Prefixes that begin a span. A file of prefixes without types has at least one of them."""
LOOK_AHEAD = 1_000
"""First records of a file that tell whether its tags have prefixes."""


@dataclass(frozen=True, slots=True)
class TagStyle:
    """How the tags of a file are written; tags that are read as others are counted in `warnings`."""

    is_bare: bool = False  # types without prefixes ("PER"), or prefixes without types ("B")
    warnings: ReadWarnings | None = None

    @staticmethod
    def of_lists(lists: Iterable[Any], names: Sequence[str] | None, warnings: ReadWarnings) -> TagStyle:
        """Return the style of the tags in some lists, the first ones of a file; values that are no lists are ignored.

        `names` has the tag of each integer, if the tags are integers.
        """
        values: Counter[str] = Counter()
        for tags in lists:
            for tag in tags if isinstance(tags, list | tuple) else ():
                if isinstance(tag, str):
                    values[tag] += 1
                elif isinstance(tag, int) and names and 0 <= tag < len(names):
                    values[names[tag]] += 1
        return TagStyle(are_bare(values), warnings)


def are_bare(values: Mapping[str, int]) -> bool:
    """Return whether values, with the count of each, are "O" and types without prefixes, or prefixes without types.

    {"O": 9, "PER": 2}, or {"O": 9, "B": 2, "I": 1}. False if a value has a prefix and a type, or seems to be misspelt
    ("B_PER", "PER-B"). Types have two or more characters; they repeat, or most of the values are "O".
    """
    types = [value for value in values if value != OUTSIDE]
    if OUTSIDE in values and len(types) > 1 and BEGINNINGS.intersection(types) and set(types) <= ALL_PREFIXES:
        return True
    total = sum(values.values())
    return (
        0 < len(types) <= MAX_TYPES
        and OUTSIDE in values
        and (2 * values[OUTSIDE] > total or 4 * len(types) < total)
        and all(re.fullmatch(r"[^\W\d_][\w.:/&+-]*[\w+]", type_) for type_ in types)
        and not any(re.search(r"^.{1,2}[^\w]|^.{1,2}_|[-_][BIOESLUMW]$", type_) for type_ in types)
    )


def as_tag(value: Any, labels: Sequence[str] | None, where: str, style: TagStyle = TagStyle()) -> str:
    """Return a tag as a string; whole numbers (also written as text) are looked up in `labels`.

    Prefixes of BILOU and BMES become those of BIOES: "U-PER" -> "S-PER". Without prefixes, "PER" becomes "I-PER".
    Raises DataError, starting with `where`, unless the value is a tag.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: found {shorten(value)}, expected a tag such as 'B-PER'")
    tag = value
    if isinstance(value, int) or (labels and value.isascii() and value.isdigit()):
        if not labels:
            raise DataError(f"{where}: found the integer tag {shorten(value)}; set data.labels to the names, in order")
        if len(str(value)) > 9 or not 0 <= int(value) < len(labels):
            raise DataError(
                f"{where}: found tag {shorten(value)}, expected 0 to {len(labels) - 1}: data.labels has no more"
            )
        tag = labels[int(value)]
    tag = _with_prefix(str(tag), where, style)
    try:
        split_tag(tag)
    except ValueError as error:
        raise DataError(f"{where}: {shorten_message(str(error))}") from error
    if has_surrogate(tag):
        raise DataError(f"{where}: found {shorten(tag)}: half a surrogate pair is no character")
    return tag


def is_tag(value: Any, labels: Sequence[str] | None) -> bool:
    """Return whether a value is a tag: "O", one with a prefix such as "B-PER", or the number of a label."""
    try:
        as_tag(value, labels, "")
    except DataError:
        return False
    return True


def _with_prefix(tag: str, where: str, style: TagStyle) -> str:
    """Return a tag with the prefix that nerloop has for it, and count it if it had another one or none."""
    if style.is_bare and tag in ALL_PREFIXES:
        found, what = f"{STYLES.get(tag, tag)}-{ONLY_TYPE}", f"tags without types are read with the type {ONLY_TYPE}"
    elif style.is_bare and tag != OUTSIDE:
        found, what = f"I-{tag}", "tags without prefixes are read with I-, so spans of one type that touch are one"
    elif tag[1:2] == "-" and tag[0] in STYLES:
        found, what = STYLES[tag[0]] + tag[1:], "tags of BILOU or BMES are read as those of BIOES"
    else:
        return tag
    if style.warnings is not None:
        report = style.warnings.note if tag[1:2] == "-" else style.warnings.add  # BILOU is BIOES by another name
        report(what, f"{where} {shorten(tag, 40)} as {shorten(found, 40)}")
    return found


def as_example(
    tokens: Any, tags: Any, labels: Sequence[str] | None, where: str, names: tuple[str, str | None],
    document: str = "", style: TagStyle = TagStyle(),
) -> Example:  # fmt: skip
    """Return the example of a record's two lists, without tags where these have no name.

    Raises DataError, starting with `where`.
    """
    token_name, tag_name = names
    if not isinstance(tokens, list | tuple) or not all(isinstance(t, str) for t in tokens):
        raise DataError(f"{where}: {token_name!r} is {shorten(tokens)}, expected a list of strings")
    for i, token in enumerate(tokens):
        if has_surrogate(token):
            raise DataError(f"{where}: {token_name}[{i}] is {shorten(token)}: half a surrogate pair is no character")
    if tag_name is None:
        return Example(tuple(tokens), (), where, document)
    if not isinstance(tags, list | tuple):
        raise DataError(f"{where}: {tag_name!r} is {shorten(tags)}, expected a list of tags")
    if len(tokens) != len(tags):
        raise DataError(f"{where}: {len(tokens)} in {token_name!r} but {len(tags)} in {tag_name!r}; expected as many")
    gold = tuple(as_tag(t, labels, f"{where}: {tag_name}[{i}]", style) for i, t in enumerate(tags))
    return Example(tuple(tokens), gold, where, document)


def has_surrogate(text: str) -> bool:
    """Return whether a text holds half a surrogate pair, which is no character and can't be encoded."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def shorten_message(message: str) -> str:
    """Return a message cut to 200 characters, on one line."""
    line = " ".join(message.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
