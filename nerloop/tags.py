"""Tags and spans: parse tags, convert between tags and spans, and tell which tag may follow which.

A tag is "O", or a prefix and a type such as "B-PER". The type is everything after the first hyphen: the type of
"B-CLUB-NAME" is "CLUB-NAME". Spans are read as in seqeval's default mode, by the same rules in every scheme. conlleval
reads the same spans with two exceptions: it has no S-, and it sees no border between an E- and a B- of the same type.
tests/evaluators/cases.jsonl has examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from nerloop.errors import shorten
from nerloop.types import Span

OUTSIDE = "O"
PREFIXES = "BIES"
STYLES = {"L": "E", "U": "S", "M": "I", "W": "S"}
"""Prefixes of BILOU (L-, U-), BMES (M-) and BMEWO (M-, W-), and the prefix of BIOES that means the same."""
NO_COLUMN = frozenset(" \t\r\n\0")  # characters that a type may not have, since no column of a file could hold it


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
    """Return whether a span starts at `current` (prefix, type) if `previous` is the tag before it."""
    prefix, type_ = current
    if prefix == OUTSIDE:
        return False
    return prefix in "BS" or previous[0] in (OUTSIDE, "E", "S") or previous[1] != type_


def to_spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one sentence's tags, left to right.

    An I- tag that continues no span starts one, as in conlleval:
    ["I-PER", "I-LOC"] -> [Span(0, 1, "PER"), Span(1, 2, "LOC")]
    """
    spans, start, previous = [], 0, (OUTSIDE, "")
    for i, tag in enumerate([*tags, OUTSIDE]):  # the added "O" ends a span at the end of the sentence
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
    """Return the scheme that the fewest tags violate, and their number. Of equally good schemes the commoner one wins.

    `pairs` counts how often each tag follows each other tag, with "O" before and after each sentence. A tag violates a
    scheme that lacks its prefix, or in which it may not follow the tag before. In ["I-PER", "O"] one tag violates IOB2
    and none violates IOB1.
    """
    violations = {scheme: sum(n for pair, n in pairs.items() if not is_written(*pair, scheme)) for scheme in Scheme}
    has_ends = any(tag[0] in "ES" for _, tag in pairs)
    order = (Scheme.BIOES, Scheme.IOE2, Scheme.IOE1, Scheme.IOB2, Scheme.IOB1) if has_ends else Scheme
    scheme = min(order, key=lambda scheme: violations[scheme])  # of equal ones, the first in `order`
    return scheme, violations[scheme]


def is_written(before: str, tag: str, scheme: Scheme) -> bool:
    """Return whether a scheme has the prefix of a tag and allows `tag` after `before`."""
    previous, current = split_tag(before), split_tag(tag)
    return current[0] in PREFIXES_OF[scheme] and is_legal(previous, current, scheme)


def is_legal(previous: tuple[str, str], current: tuple[str, str], scheme: Scheme) -> bool:
    """Return whether `current` (prefix, type) may follow `previous` in a scheme; ("O", "") is either sentence end."""
    prefix, type_ = current
    continues = previous[0] in "BI" and previous[1] == type_
    if scheme is Scheme.IOB2:
        return prefix != "I" or continues
    if scheme is Scheme.IOB1:
        return prefix != "B" or continues
    if scheme is Scheme.IOE1:  # E- only marks that another span of its own type follows
        return previous[0] != "E" or previous[1] == type_
    if scheme is Scheme.IOE2:  # after I- the span is open: it must go on to an E-
        return (prefix in "IE" and continues) if previous[0] == "I" else prefix in "OIE"
    if previous[0] in "BI":  # BIOES: an open span must continue
        return prefix in "IE" and previous[1] == type_
    return prefix in "OBS"


def labels_of(sentences: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the labels of tag sequences, by id: "O" first, the others sorted."""
    distinct = {tag for tags in sentences for tag in tags}
    return (OUTSIDE, *sorted(distinct - {OUTSIDE}))
