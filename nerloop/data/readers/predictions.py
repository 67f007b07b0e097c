"""Read predictions.*.jsonl files of nerloop back, as texts with character spans."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from nerloop.data.json_stream import read_values
from nerloop.data.records import TextRecord
from nerloop.data.segmentation import Offsets
from nerloop.errors import DataError, shorten
from nerloop.tags import to_spans
from nerloop.types import Example, Span

MAX_GAP = 1_000_000
"""Maximum number of characters between two tokens; larger gaps mean that the offsets are wrong."""
MAX_RECORDS = 100
"""Number of sentences that `is_predictions` looks at."""


def is_predictions(path: str) -> bool:
    """Return whether a file of JSON lines holds predictions for sentences of texts."""
    first = (value for _, value in itertools.islice(read_values(path), MAX_RECORDS))
    return any(isinstance(value, dict) and {"tokens", "tags", "offsets", "document"} <= value.keys() for value in first)


def read_predictions(path: str) -> Iterator[TextRecord]:
    """Yield the documents of a predictions file; spaces and line breaks fill the gaps between tokens.

    A sentence without a document is a text by itself. A sentence without offsets, as some of CoNLL-U, continues the
    document of the sentence before, with spaces between its tokens. Raises DataError with file:line for anything that
    nerloop doesn't write.
    """
    for document, group in itertools.groupby(_sentences_of(path), key=lambda pair: pair[1].document):
        text, spans, location = "", [], ""
        for where, example in group:
            location = location or where
            if not example.offsets:
                places = lay_out(example.tokens, len(text) + bool(text))
                example = replace(example, offsets=tuple(places))
            if example.offsets and example.offsets[0][0] < len(text):
                raise DataError(
                    f"{where}: found offset {example.offsets[0][0]} after offset {len(text)} of the same document"
                )
            for i, (token, (start, _)) in enumerate(zip(example.tokens, example.offsets)):
                gap = start - len(text)
                if gap > MAX_GAP:
                    raise DataError(f"{where}: found a gap of {gap} characters between two tokens, expected a text")
                # The gap before a sentence begins with the line break that ended the one before.
                text += ("\n" + " " * (gap - 1) if gap and text and i == 0 else " " * gap) + token
            spans += in_characters(example.tags, example.offsets)
        yield TextRecord(text, tuple(spans), location, document)


def lay_out(tokens: Sequence[str], start: int) -> list[Offsets]:
    """Return the offsets of tokens with one space between them: ["Anna", "Li"], 5 -> [(5, 9), (10, 12)]."""
    ends = list(itertools.accumulate((len(token) + 1 for token in tokens), initial=start))
    return [(at, at + len(token)) for at, token in zip(ends, tokens)]


def in_characters(tags: Sequence[str], offsets: Sequence[Offsets]) -> list[Span]:
    """Return the spans of tags in characters, given the offsets of the tokens."""
    return [Span(offsets[start][0], offsets[end - 1][1], type_) for start, end, type_ in to_spans(tags)]


def _sentences_of(path: str) -> Iterator[tuple[str, Example]]:
    document = ""
    for where, value in read_values(path):
        example = _sentence_of(value, where)
        document = example.document if example.offsets else document
        yield where, replace(example, document=document or where)


def _sentence_of(value: Any, where: str) -> Example:
    try:
        tokens, tags = tuple(map(str, value["tokens"])), tuple(map(str, value["tags"]))
        offsets = tuple((int(start), int(end)) for start, end in value.get("offsets", ()))
        to_spans(tags)
        borders = [at for offset in offsets for at in offset]
        fits = [end - start for start, end in offsets] == list(map(len, tokens)) and borders == sorted(borders)
        if not (fits or not offsets) or len(tags) != len(tokens):
            raise ValueError("tokens, tags and offsets don't match")
        return Example(tokens, tags, where, str(value["document"] if offsets else ""), offsets)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise DataError(f"{where}: not a prediction that nerloop wrote: {shorten(str(error))}") from error
