"""Tags and spans: what a tag may be, which spans a tag sequence holds, which tag may follow which.

A tag is "O" or a prefix and a type, "B-PER"; the type is all behind the first hyphen ("B-CLUB-NAME": "CLUB-NAME").
Spans are read as conlleval and seqeval's default mode read them, alike for IOB1, IOB2 and BIOES.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from nerloop.types import Span

OUTSIDE = "O"
PREFIXES = "BIES"
BLANKS = frozenset(" \t\r\n")  # no column of a file could hold a type with one of these


class Scheme(StrEnum):
    """How a data set writes spans as tags."""

    IOB1 = "IOB1"  # I- everywhere; B- only where a span follows one of its own type
    IOB2 = "IOB2"  # B- at the start of each span
    BIOES = "BIOES"  # E- at the end, S- for spans of one token


def split_tag(tag: str) -> tuple[str, str]:
    """Return prefix and type: "B-PER" -> ("B", "PER"), "O" -> ("O", ""). Raises ValueError for anything else."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, type_ = tag.partition("-")
    if not hyphen or not type_ or len(prefix) != 1 or prefix not in PREFIXES or not BLANKS.isdisjoint(type_):
        raise ValueError(f"{tag!r} is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'")
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


def find_scheme(sentences: Iterable[Sequence[str]]) -> tuple[Scheme, int]:
    """Return the scheme of tag sequences, and how many spans are written against it.

    Any E- or S- makes it BIOES. Otherwise, spans that start with I- speak for IOB1, B- where IOB1 needs none for IOB2;
    the majority decides, and the minority is counted: [["I-PER", "O"]] -> (Scheme.IOB1, 0).
    """
    with_i = with_needless_b = 0
    ends = illegal_bioes = 0
    for tags in sentences:
        previous = (OUTSIDE, "")
        for tag in [*tags, OUTSIDE]:
            current = split_tag(tag)
            begins = starts_span(previous, current)
            ends += current[0] in "ES"
            with_i += begins and current[0] == "I"
            with_needless_b += begins and current[0] == "B" and previous[1] != current[1]
            illegal_bioes += not is_legal(previous, current, Scheme.BIOES)
            previous = current
    if ends:
        return Scheme.BIOES, illegal_bioes
    if with_i > with_needless_b:
        return Scheme.IOB1, with_needless_b
    return Scheme.IOB2, with_i


def is_legal(previous: tuple[str, str], current: tuple[str, str], scheme: Scheme) -> bool:
    """Say whether `current` (prefix, type) may follow `previous` in a scheme; ("O", "") stands for either border."""
    prefix, type_ = current
    continues = previous[0] in "BI" and previous[1] == type_
    if scheme is Scheme.IOB2:
        return prefix != "I" or continues
    if scheme is Scheme.IOB1:
        return prefix != "B" or continues
    if previous[0] in "BI":  # BIOES: an open span must go on
        return prefix in "IE" and previous[1] == type_
    return prefix in "OBS"


def labels_of(sentences: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the labels of tag sequences, by id: "O" first, the others sorted."""
    found = {tag for tags in sentences for tag in tags}
    return (OUTSIDE, *sorted(found - {OUTSIDE}))
