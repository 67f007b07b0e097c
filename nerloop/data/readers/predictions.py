"""Read nerloop's own predictions.*.jsonl files as texts with character spans."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from nerloop.data.json_stream import read_values
from nerloop.data.records import TextRecord
from nerloop.data.segmentation import Offsets
from nerloop.errors import DataError, shorten
from nerloop.tags import to_spans
from nerloop.types import Example, Span

MAX_GAP = 1_000_000
"""Maximum number of characters between two tokens; larger gaps mean that the offsets are wrong."""
MAX_RECORDS = 100
"""Number of sentences in which `kind_of_predictions` looks for offsets."""


class _Sentence(NamedTuple):
    where: str
    example: Example
    confidence_of: Mapping[tuple[int, int], float]  # by start and end in tokens


def kind_of_predictions(path: str) -> Literal["texts", "tokens", ""]:
    """Return what the predictions in a file of JSON lines are for: "texts", which have offsets, or bare "tokens".

    "" means that the file holds no predictions of nerloop. Only those have spans with confidences beside their tags.
    """
    values = (value for _, value in read_values(path))
    first = list(itertools.islice(values, MAX_RECORDS))
    tagged = [value for value in first if isinstance(value, dict) and {"tokens", "tags"} <= value.keys()]
    if any({"offsets", "document"} <= value.keys() for value in tagged):
        return "texts"
    is_empty = True
    for value in itertools.chain(first, values):
        is_empty = False
        spans = value.get("spans") if isinstance(value, dict) and {"tokens", "tags"} <= value.keys() else None
        if spans != []:  # sentences without a span tell nothing, however many there are
            return "tokens" if _has_confidences(spans) else ""
    return "" if is_empty else "tokens"


def _has_confidences(spans: Any) -> bool:
    return isinstance(spans, list) and any(isinstance(span, dict) and "confidence" in span for span in spans)


def read_predictions(path: str, *, whole_files: bool = False) -> Iterator[TextRecord]:
    """Yield the texts of a predictions file, each with its source if the predictions name one.

    If the source is plain text, a text is a document or, with `whole_files`, a file. For other sources, it is a record.
    Without a source, the text of a document is put together from its tokens, with spaces and line breaks in the gaps. A
    sentence without offsets, as CoNLL-U may have, then continues the document of the previous one. Raises DataError
    with file:line for anything that nerloop doesn't write.
    """
    for _, group in itertools.groupby(_records_of(path), key=lambda record: _place(record, whole_files)):
        yield _end_to_end(list(group), whole_files)


def _records_of(path: str) -> Iterator[TextRecord]:
    held: list[_Sentence] = []
    for sentence in _sentences_of(path):
        if held and (sentence.example.source is not None or sentence.example.document != held[0].example.document):
            yield _record_of(held)
            held = []
        held.append(sentence)
    if held:
        yield _record_of(held)


def _record_of(sentences: Sequence[_Sentence]) -> TextRecord:
    first = sentences[0]
    source = first.example.source
    text, start = ("", 0) if source is None else (source["text"], source.get("start", 0))
    spans: list[Span] = []
    confidences: list[float] = []
    for where, example, confidence_of in sentences:
        if source is None:
            example = _laid_out(example, len(text) + bool(text))
            text = _with_tokens(text, example, where)
        spans_in_tokens = to_spans(example.tags)
        for in_tokens, span in zip(spans_in_tokens, in_characters(example.tags, example.offsets), strict=True):
            inside = Span(span.start - start, span.end - start, span.type)
            if not 0 <= inside.start < inside.end <= len(text):
                raise DataError(
                    f"{where}: found a span at {span.start} to {span.end}, which is not in the source's text"
                )
            spans.append(inside)
            confidences.append(confidence_of.get((in_tokens.start, in_tokens.end), 1.0))
    record = TextRecord(text, tuple(spans), first.where, first.example.document, source=source, start=start)
    return replace(record, confidences=tuple(confidences))


def _place(record: TextRecord, whole_files: bool) -> tuple[Any, ...]:
    """Return a key: equal for records of plain text that belong together, different for all others."""
    source = record.source
    if source is None or source["format"] != "text":
        return (id(record), record.location)
    return (source.get("folder"), source.get("name"), None if whole_files else record.document)


def _end_to_end(records: Sequence[TextRecord], whole_files: bool) -> TextRecord:
    """Join the records of a plain text, which must follow each other without a gap, into one."""
    first = records[0]
    if first.source is None or first.source["format"] != "text":
        return first
    at, spans = first.start, list[Span]()
    for record in records:
        if record.start != at:
            raise DataError(
                f"{record.location}: found text from offset {record.start}, expected {at}: is a part missing?"
            )
        shift = at - first.start
        spans += [Span(span.start + shift, span.end + shift, span.type) for span in record.spans or ()]
        at += len(record.text)
    text = "".join(record.text for record in records)
    text = text if whole_files else text.rstrip()
    confidences = tuple(itertools.chain.from_iterable(record.confidences or () for record in records))
    return replace(first, text=text, spans=tuple(spans), confidences=confidences)


def _laid_out(example: Example, start: int) -> Example:
    return example if example.offsets else replace(example, offsets=tuple(lay_out(example.tokens, start)))


def _with_tokens(text: str, example: Example, where: str) -> str:
    """Return a text continued by the tokens of the next sentence, with its gaps filled."""
    if example.offsets and example.offsets[0][0] < len(text):
        raise DataError(f"{where}: found offset {example.offsets[0][0]} after offset {len(text)} of the same document")
    for i, (token, (start, _)) in enumerate(zip(example.tokens, example.offsets)):
        gap = start - len(text)
        if gap > MAX_GAP:
            raise DataError(f"{where}: found a gap of {gap} characters between two tokens, expected a text")
        # The gap before a sentence begins with the line break that ended the one before.
        text += ("\n" + " " * (gap - 1) if gap and text and i == 0 else " " * gap) + token
    return text


def lay_out(tokens: Sequence[str], start: int) -> list[Offsets]:
    """Return the offsets of tokens with one space between them: ["Anna", "Li"], 5 -> [(5, 9), (10, 12)]."""
    ends = list(itertools.accumulate((len(token) + 1 for token in tokens), initial=start))
    return [(at, at + len(token)) for at, token in zip(ends, tokens)]


def in_characters(tags: Sequence[str], offsets: Sequence[Offsets]) -> list[Span]:
    """Return the spans of tags in characters, given the offsets of the tokens."""
    return [Span(offsets[start][0], offsets[end - 1][1], type_) for start, end, type_ in to_spans(tags)]


def _sentences_of(path: str) -> Iterator[_Sentence]:
    document = ""
    for where, value in read_values(path):
        sentence = _sentence_of(value, where)
        document = sentence.example.document if sentence.example.offsets else document
        yield sentence._replace(example=replace(sentence.example, document=document or where))


def _sentence_of(value: Any, where: str) -> _Sentence:
    try:
        tokens, tags = tuple(map(str, value["tokens"])), tuple(map(str, value["tags"]))
        offsets = tuple((int(start), int(end)) for start, end in value.get("offsets", ()))
        to_spans(tags)
        borders = [at for offset in offsets for at in offset]
        fits = [end - start for start, end in offsets] == list(map(len, tokens)) and borders == sorted(borders)
        if not (fits or not offsets) or len(tags) != len(tokens):
            raise ValueError("tokens, tags and offsets don't match")
        source = value.get("source")
        if source is not None:
            is_known = isinstance(source["text"], str) and isinstance(source["format"], str)
            names = [source.get("name", ""), source.get("folder", "")]
            if not (is_known and all(isinstance(n, str) for n in names) and isinstance(source.get("start", 0), int)):
                raise ValueError("the source has no format, text or name")
        spans = value.get("spans", ())
        confidence_of = {(int(s["start"]), int(s["end"])): float(s["confidence"]) for s in spans}
        example = Example(tokens, tags, where, str(value["document"] if offsets else ""), offsets, source=source)
        return _Sentence(where, example, confidence_of)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise DataError(f"{where}: not a prediction that nerloop wrote: {shorten(str(error))}") from error
