"""Texts with character spans, as annotation tools write them, and how they become sentences of tagged tokens.

Texts are cut without regard to their spans, in every split: a cut at a gold border would leak the answer. A gold span
that then begins or ends inside a token is widened to whole tokens for training, and counts as missed in evaluation.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nerloop.data.checks import has_surrogate
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.segmentation import Offsets, Rule
from nerloop.errors import DataError, shorten
from nerloop.tags import NO_COLUMN, OUTSIDE, to_tags
from nerloop.types import Example, Span

MODEL_VERSION = "nerloop"
"""The name of nerloop's predictions in the tasks of annotation tools, and in brat's notes."""

INVISIBLE = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + (
    "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""White space, soft hyphens, and characters without width: no span should begin or end with them."""


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A text and its spans in code points; `spans` is None where nobody annotated it.

    `tokens` are the record's own, where it has some. `location` is file:line, or the file whose whole text this is.

    `source` serves to write predictions back to the record: "format", and "record" (the parsed record of JSON, the row
    of a table by column) or "folder" and "name" (of the file, for plain text and brat). Examples also get its "text".
    """

    text: str
    spans: tuple[Span, ...] | None
    location: str
    document: str
    tokens: tuple[Offsets, ...] = ()
    is_file: bool = False
    hulls: frozenset[Span] = frozenset()  # those of `spans` that are the hulls of discontinuous ones
    source: Mapping[str, Any] | None = None
    start: int = 0  # offset of the text in its file, where that is counted through
    confidences: tuple[float, ...] | None = None  # of `spans`, if they are predicted


def as_offset(value: Any, where: str) -> int:
    """Return an offset. Raises DataError, starting with `where`, unless it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where}: found the offset {shorten(value)}, expected a whole number")
    return value


def as_type(value: Any, where: str, warnings: ReadWarnings) -> str:
    """Return the type of a span as a tag can hold it: white space becomes "_". Raises DataError unless it is a name."""
    if not isinstance(value, str) or not value.strip() or has_surrogate(value):
        raise DataError(f"{where}: found the type {shorten(value)}, expected a name such as 'PER'")
    if value == OUTSIDE or re.match("[BIOESLUMW]-.", value):
        warnings.add("types of spans that look like tags; expected names such as 'PER'", f"{where} {shorten(value)}")
    if NO_COLUMN.isdisjoint(value):
        return value
    warnings.add("types written with _ for white space", f"{where} {shorten(value)}")
    return "".join("_" if c in NO_COLUMN else c for c in value.strip())


def as_text(value: Any, name: str, where: str) -> str:
    """Return a text. Raises DataError, starting with `where`, unless it is a string without half surrogate pairs."""
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {shorten(value)}, expected a text")
    if has_surrogate(value):
        raise DataError(f"{where}: {name!r} is {shorten(value)}: half a surrogate pair is no character")
    return value


def cut(record: TextRecord, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of a text, with offsets and, where it is annotated and they are asked for, with tags."""
    if not options.with_tags or record.spans is None:
        yield from cut_untagged(record, options.rule)
        return
    sentences = _sentences(record, options.rule)
    placing = _Placing(record, sentences, warnings)
    for span in without_overlaps(record, options.overlaps, warnings):
        placing.add(span)
    for i, example in enumerate(_examples(record, sentences)):
        yield replace(
            example,
            tags=tuple(to_tags(placing.tagged[i], len(example.tokens))),
            missed=tuple(_shifted(span, record.start) for span in placing.missed[i]),
            widened=tuple(placing.widened[i]),
        )


def cut_untagged(record: TextRecord, rule: Rule) -> Iterator[Example]:
    """Yield the sentences of a text without tags, with offsets."""
    return _examples(record, _sentences(record, rule))


def without_overlaps(record: TextRecord, which: str, warnings: ReadWarnings) -> list[Span]:
    """Return the spans of a record without overlaps or white space at their edges, left to right.

    Keeps the longest, or the shortest ("innermost"); of equally long spans the leftmost, of equal ones the first. The
    hull of a discontinuous span is kept only where it overlaps no other span. Empty spans are left out. Raises
    DataError if `which` is "error" and two spans overlap.
    """
    hulls: set[Span] = set()
    distinct: dict[Span, None] = {}
    has_odd = False
    for span in record.spans or ():
        trimmed = _trimmed(record.text, span)
        if trimmed != span:
            warnings.add(
                "spans read without the white space at their edges", f"{record.location} {_describe(record, span)}"
            )
        if span in record.hulls:
            hulls.add(trimmed)
        if trimmed.start == trimmed.end or trimmed in distinct:
            has_odd = True
        else:
            distinct[trimmed] = None
    if has_odd:
        warnings.add("records with spans that are empty or written twice", record.location)
    sign = 1 if which == "innermost" else -1
    kept: list[Span] = []  # sorted and disjoint
    for span in sorted(distinct, key=lambda s: (s in hulls, sign * (s.end - s.start), s.start)):
        at = bisect.bisect_left(kept, span.end, key=lambda s: s.start)  # the first one that starts at or after its end
        if at == 0 or kept[at - 1].end <= span.start:
            kept.insert(at, span)
            continue
        place = f"{record.location} {_describe(record, span)} in {_describe(record, kept[at - 1])}"
        if which == "error":
            raise DataError(f"{place}: found spans that overlap, expected none; set data.overlaps to outermost")
        what = "hulls of discontinuous spans" if span in hulls else "nested or overlapping spans"
        warnings.add(f"{what} left out", place)
    return kept


def _trimmed(text: str, span: Span) -> Span:
    """Return a span without the white space at its edges; a span of white space alone is returned as it is."""
    inside = text[span.start : span.end]
    if not inside.strip(INVISIBLE):
        return span
    start = span.start + len(inside) - len(inside.lstrip(INVISIBLE))
    return Span(start, start + len(inside.strip(INVISIBLE)), span.type)


@dataclass
class _Placing:
    """Puts the spans of a record into the tags of its sentences, as far as whole tokens can express them."""

    record: TextRecord
    sentences: Sequence[Sequence[Offsets]]
    warnings: ReadWarnings
    tagged: list[list[Span]] = field(init=False)  # by sentence, in tokens: the spans that become tags
    widened: list[list[Span]] = field(init=False)  # by sentence, in tokens: those of `tagged` that are not gold
    missed: list[list[Span]] = field(init=False)  # by sentence, in characters: gold spans that tags can't express
    free: int = 0  # the first token that may still get a tag: spans come from left to right

    def __post_init__(self) -> None:
        self.tokens = list(itertools.chain.from_iterable(self.sentences))
        self.starts = [start for start, _ in self.tokens]
        self.ends = [end for _, end in self.tokens]
        self.firsts = [0, *itertools.accumulate(len(tokens) for tokens in self.sentences)]
        self.tagged = [[] for _ in self.sentences]
        self.widened = [[] for _ in self.sentences]
        self.missed = [[] for _ in self.sentences]

    def add(self, span: Span) -> None:
        """Put a span into the tags; if it is not made of whole tokens, also into `missed` and `widened`."""
        first = bisect.bisect_right(self.ends, span.start)  # the first token that ends after its start
        last = bisect.bisect_left(self.starts, span.end)  # one after the last token that starts before its end
        sentence = max(bisect.bisect_right(self.firsts, min(first, len(self.tokens) - 1)) - 1, 0)
        place = f"{self.record.location} {_describe(self.record, span)}"
        if not self.tokens:
            self.warnings.add("spans in texts without any token left out", place)
            return
        is_exact = first < last and (self.starts[first], self.ends[last - 1]) == (span.start, span.end)
        is_inside = last <= self.firsts[sentence + 1]
        if is_exact and is_inside and first >= self.free:
            self.tagged[sentence].append(self._of_tokens(sentence, first, last, span.type))
            self.free = last
            return
        self.missed[sentence].append(span)
        if first >= last:
            what = "spans of white space alone can't be trained on"
        elif last <= self.free:
            what = "spans in a token that another span has already can't be trained on"
        elif not is_inside:
            what = "spans that continue after the end of a sentence are trained on in pieces"
        else:
            what = "spans off the borders of tokens are widened to them for training"
        self.warnings.add(f"{what} and count as missed in evaluation", place)
        for i in range(sentence, len(self.sentences)):
            start, end = max(first, self.free, self.firsts[i]), min(last, self.firsts[i + 1])
            if start < end:
                part = self._of_tokens(i, start, end, span.type)
                self.tagged[i].append(part)
                self.widened[i].append(part)
            if last <= self.firsts[i + 1]:
                break
        self.free = max(self.free, last)

    def _of_tokens(self, sentence: int, first: int, last: int, type_: str) -> Span:
        return Span(first - self.firsts[sentence], last - self.firsts[sentence], type_)


def _sentences(record: TextRecord, rule: Rule) -> list[Sequence[Offsets]]:
    sentences = list(rule(record.text))
    if not record.tokens:
        return sentences
    # The record's own tokens, in the sentences that the rule finds: each belongs where its start does.
    starts = [start for start, _ in record.tokens]
    cuts = [bisect.bisect_left(starts, sentence[0][0]) for sentence in sentences[1:]]
    borders = [0, *cuts, len(starts)]
    return [record.tokens[a:b] for a, b in itertools.pairwise(borders) if a < b]


def _examples(record: TextRecord, sentences: Iterable[Sequence[Offsets]]) -> Iterator[Example]:
    source = record.source
    if source is not None and "text" not in source:
        source = {**source, "text": record.text}
    line, at = 1, 0  # of the sentence before
    for tokens in sentences:
        words = tuple(record.text[start:end] for start, end in tokens)
        location = record.location
        if record.is_file:
            line, at = line + record.text.count("\n", at, tokens[0][0]), tokens[0][0]
            location = f"{location}:{line}"
        offsets = tuple((start + record.start, end + record.start) for start, end in tokens)
        yield Example(words, (), location, record.document, offsets, source=source)
        source = None


def _shifted(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.type) if by else span


def _describe(record: TextRecord, span: Span) -> str:
    return f"{span.type} {shorten(record.text[span.start : span.end], 40)} at {span.start}"


def _without_prefix(example: Example, prefix: str) -> Example:
    return replace(example, tokens=tuple(token.removeprefix(prefix) for token in example.tokens))


def read_examples(
    records: Iterable[Example | TextRecord], options: ReadOptions, warnings: ReadWarnings
) -> Iterator[Example]:
    """Yield a reader's sentences, and its texts cut into sentences; with tags, only texts that somebody annotated.

    A text that can't be cut as the options ask is a bad record.
    """
    for record in records:
        if isinstance(record, Example):
            yield _without_prefix(record, options.token_prefix) if options.token_prefix else record
        elif options.with_tags and record.spans is None:
            warnings.note("records that nobody annotated are left out", record.location)
        else:
            try:
                examples = list(cut(record, options, warnings))
            except DataError as error:
                warnings.bad_record(error)
            else:
                yield from examples
