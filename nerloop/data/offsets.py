"""Convert the offsets of a record to code points; they may count UTF-16 units, as JavaScript does."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nerloop.errors import DataError, shorten
from nerloop.types import Span


class Slice(NamedTuple):
    """The offsets of a part of a text as stated in a record and, if the record has it, the text of that part."""

    start: int
    end: int
    text: str | None = None


class Stated(NamedTuple):
    """A span as stated in a record. Its offsets may count code points or UTF-16 units."""

    start: int
    end: int
    type: str
    text: str | None = None


def to_code_points(
    text: str, spans: Sequence[Stated], where: str, *, unit: str = "auto", others: Sequence[Slice] = ()
) -> tuple[list[Span], list[tuple[int, int]]]:
    """Return spans, and `others` (the record's tokens), in code points of a text.

    With `unit` "auto", the right reading is the one under which every part has the text that the record states. Some
    readings count CR LF as one character. If several readings fit, the one with the most spans at word borders is used.
    Raises DataError, starting with `where`, if no reading fits or two are equally good.
    """
    stated = [*(Slice(s.start, s.end, s.text) for s in spans), *others]
    for place in stated:
        if not 0 <= place.start <= place.end:
            raise DataError(f"{where}: found offsets {place.start} to {place.end}, expected a start before its end")
    found: dict[tuple[tuple[int, int], ...], str] = {}
    for name, positions in _readings(text, stated, unit).items():
        located = _locate(text, stated, positions)
        if located is not None:
            found.setdefault(located, name)
    if not found:
        raise DataError(_mismatch(text, stated, unit, where))
    if len(found) > 1:
        at_borders = {places: sum(_is_at_borders(text, *place) for place in places) for places in found}
        likely = [places for places, number in at_borders.items() if number == max(at_borders.values())]
        if len(likely) != 1:
            raise DataError(_ambiguity(text, found, where))
        found = {likely[0]: found[likely[0]]}
    places = next(iter(found))
    located_spans = [Span(*place, span.type) for place, span in zip(places, spans)]
    return located_spans, list(places[len(spans) :])


def _readings(text: str, stated: Sequence[Slice], unit: str) -> dict[str, list[int] | None]:
    """Return the readings to try, by name: the offset of each code point and of the end, or None for plain indices."""
    is_wide = not text.isascii() and max(text) > "\uffff"
    readings: dict[str, list[int] | None] = {}
    if unit != "utf16" or not is_wide:
        readings["codepoints"] = None
    if unit != "codepoints" and is_wide:
        readings["utf16"] = _positions(text, wide=2, is_line_end_one=False)
    if "\r\n" in text and stated and all(place.text is not None for place in stated):
        if unit != "utf16":
            readings["codepoints, CR LF as one"] = _positions(text, wide=1, is_line_end_one=True)
        if unit != "codepoints" and is_wide:
            readings["utf16, CR LF as one"] = _positions(text, wide=2, is_line_end_one=True)
    return readings


def _positions(text: str, *, wide: int, is_line_end_one: bool) -> list[int]:
    widths = [wide if c > "\uffff" else 1 for c in text]
    if is_line_end_one:
        widths = [0 if pair == ("\r", "\n") else w for pair, w in zip(itertools.pairwise([*text, ""]), widths)]
    return [0, *itertools.accumulate(widths)]


def _locate(text: str, stated: Sequence[Slice], positions: list[int] | None) -> tuple[tuple[int, int], ...] | None:
    """Return the places in code points; None if one is outside the text, inside a character, or has another text."""
    places = []
    for place in stated:
        start, end = (_index(offset, text, positions) for offset in place[:2])
        if start is None or end is None or not (place.text is None or _is_same(text[start:end], place.text)):
            return None
        places.append((start, end))
    return tuple(places)


def _index(offset: int, text: str, positions: list[int] | None) -> int | None:
    if positions is None:
        return offset if offset <= len(text) else None
    index = bisect.bisect_left(positions, offset)
    return index if index < len(positions) and positions[index] == offset else None


def _is_same(found: str, stated: str) -> bool:
    r"""Whether a slice is what a record says it is; tools write a line end as "\n", a space, or "\\n"."""
    return found == stated or found.split() == stated.replace("\\n", "\n").split()


def _is_at_borders(text: str, start: int, end: int) -> bool:
    """Whether a slice is a plausible span: it is not empty, and neither end is at white space or within a word."""
    if start == end or text[start].isspace() or text[end - 1].isspace():
        return False
    return not any(0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (start, end))


def _mismatch(text: str, stated: Sequence[Slice], unit: str, where: str) -> str:
    positions = next(iter(_readings(text, stated, unit).values()))
    for place in stated:
        if _locate(text, [place], positions) is not None:
            continue
        start, end = (_index(offset, text, positions) for offset in place[:2])
        if start is None or end is None:
            return (
                f"{where}: found offsets {place.start} to {place.end} in a text of {len(text)} characters, "
                "expected them within it"
            )
        return (
            f"{where}: the text from {place.start} to {place.end} is {shorten(text[start:end])}, but the record says "
            f"{shorten(place.text)}: was the text changed after it was annotated?"
        )
    return f"{where}: no way of counting offsets fits all that the record says of its text; set data.offsets"


def _ambiguity(text: str, found: Mapping[tuple[tuple[int, int], ...], str], where: str) -> str:
    first, second = next(pair for pair in zip(*list(found)[:2]) if pair[0] != pair[1])
    names = list(found.values())
    return (
        f"{where}: the text holds an emoji or another character beyond U+FFFF, and the offsets of a span can mean "
        f"{shorten(text[slice(*first)])} ({names[0]}) or {shorten(text[slice(*second)])} ({names[1]}); "
        "set data.offsets to codepoints or utf16"
    )
