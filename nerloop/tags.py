"""Tags and spans: what a tag may be, which spans a tag sequence holds, which tag may follow which.

A tag is "O" or a prefix and a type, "B-PER"; the type is all behind the first hyphen ("B-CLUB-NAME": "CLUB-NAME").
Spans are read as seqeval's default mode reads them, alike in every scheme. That is conlleval's reading, but that
conlleval knows no S- and sees no border between E- and B- of one type: tests/evaluators/cases.jsonl has the cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from nerloop.errors import shorten
from nerloop.types import Span

OUTSIDE = "O"
PREFIXES = "BIES"
NO_COLUMN = frozenset(" \t\r\n\0")  # no column of a file could hold a type with one of these


class Scheme(StrEnum):
    """How a data set writes spans as tags."""

    IOB2 = "IOB2"  # B- at the start of each span
    IOB1 = "IOB1"  # I- everywhere; B- only where a span follows one of its own type
    BIOES = "BIOES"  # B- at the start, E- at the end, S- for spans of one token
    IOE2 = "IOE2"  # E- at the end of each span
    IOE1 = "IOE1"  # I- everywhere; E- only where one of its own type follows a span


PREFIXES_OF = {
    Scheme.IOB2: "IOB", Scheme.IOB1: "IOB", Scheme.BIOES: "BIOES", Scheme.IOE2: "IOE", Scheme.IOE1: "IOE"
}  # fmt: skip


def split_tag(tag: str) -> tuple[str, str]:
    """Return prefix and type: "B-PER" -> ("B", "PER"), "O" -> ("O", ""). Raises ValueError for anything else."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, type_ = tag.partition("-")
    if not hyphen or not type_ or len(prefix) != 1 or prefix not in PREFIXES or not NO_COLUMN.isdisjoint(type_):
        raise ValueError(
            f"{shorten(tag, 100)} is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"
        )
    return prefix, type_


def starts_span(previous: tuple[str, str], current: tuple[str, str]) -> bool:
    """Say whether a span starts at `current` (prefix, type) when `previous` is the tag before it."""
    prefix, type_ = current
    if prefix == OUTSIDE:
        return False
    return prefix in "BS" or previous[0] in (OUTSIDE, "E", "S") or previous[1] != type_


def to_spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one sentence's tags, left to right.

    An I- tag that continues nothing starts a span, as conlleval has it:
    ["I-PER", "I-LOC"] -> [Span(0, 1, "PER"), Span(1, 2, "LOC")]
    """
    spans, start, previous = [], 0, (OUTSIDE, "")
    for i, tag in enumerate([*tags, OUTSIDE]):
        current = split_tag(tag)
        begins = starts_span(previous, current)
        if previous[0] != OUTSIDE and (begins or current[0] == OUTSIDE):
            spans.append(Span(start, i, previous[1]))
        if begins:
            start = i
        previous = current
    return spans


def to_tags(spans: Iterable[Span], num_tokens: int) -> list[str]:
    """Return IOB2 tags of non-overlapping spans: [Span(0, 2, "PER")], 3 -> ["B-PER", "I-PER", "O"]."""
    tags = [OUTSIDE] * num_tokens
    for start, end, type_ in spans:
        tags[start:end] = [f"B-{type_}"] + [f"I-{type_}"] * (end - start - 1)
    return tags


def scheme_of(pairs: Mapping[tuple[str, str], int]) -> tuple[Scheme, int]:
    """Return the scheme that the fewest tags violate, and how many violate it; of equally good ones the commoner.

    `pairs` counts how often each tag follows each, with "O" before and after each sentence. A tag violates a scheme
    that lacks its prefix, or in which it may not follow the tag before: ["I-PER", "O"] has one against IOB2, none
    against IOB1.
    """
    against = {scheme: sum(n for pair, n in pairs.items() if not is_written(*pair, scheme)) for scheme in Scheme}
    has_ends = any(tag[0] in "ES" for _, tag in pairs)
    order = (Scheme.BIOES, Scheme.IOE2, Scheme.IOE1, Scheme.IOB2, Scheme.IOB1) if has_ends else Scheme
    scheme = min(order, key=lambda scheme: against[scheme])
    return scheme, against[scheme]


def is_written(before: str, tag: str, scheme: Scheme) -> bool:
    """Say whether a scheme has the prefix of a tag, and lets the tag follow the one before."""
    previous, current = split_tag(before), split_tag(tag)
    return current[0] in PREFIXES_OF[scheme] and is_legal(previous, current, scheme)


def is_legal(previous: tuple[str, str], current: tuple[str, str], scheme: Scheme) -> bool:
    """Say whether `current` (prefix, type) may follow `previous` in a scheme; ("O", "") stands for either border."""
    prefix, type_ = current
    continues = previous[0] in "BI" and previous[1] == type_
    if scheme is Scheme.IOB2:
        return prefix != "I" or continues
    if scheme is Scheme.IOB1:
        return prefix != "B" or continues
    if scheme is Scheme.IOE1:
        return previous[0] != "E" or previous[1] == type_
    if scheme is Scheme.IOE2:
        return (prefix in "IE" and continues) if previous[0] == "I" else prefix in "OIE"
    if previous[0] in "BI":  # BIOES: an open span must go on
        return prefix in "IE" and previous[1] == type_
    return prefix in "OBS"


def labels_of(sentences: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the labels of tag sequences, by id: "O" first, the others sorted."""
    found = {tag for tags in sentences for tag in tags}
    return (OUTSIDE, *sorted(found - {OUTSIDE}))
