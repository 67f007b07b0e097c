"""Write examples and texts as CoNLL columns, JSON lines, Label Studio tasks, or brat annotations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nerloop.data.escapes import DOCUMENT, escape
from nerloop.data.records import TextRecord
from nerloop.types import Example


def conll_lines(
    sentences: Iterable[tuple[Example, Sequence[Sequence[str]]]], document: str | None = ""
) -> Iterator[str]:
    """Yield the lines of sentences in columns: the escaped token, then one column a sequence of tags.

    A blank line ends each sentence. A -DOCSTART- line and a blank one begin each document that differs from the one of
    the sentence before, which for the first sentence is `document` (None: no such lines).
    """
    for example, columns in sentences:
        if document is not None and example.document != document:
            document = example.document
            yield f"{DOCUMENT}{' O' * len(columns)}\n\n"
        for token, *tags in zip(example.tokens, *columns, strict=True):
            yield f"{' '.join((escape(token), *tags))}\n"
        yield "\n"


def token_lines(examples: Iterable[Example]) -> Iterator[str]:
    """Yield a JSON object a sentence: tokens, tags and, where known, the id of the document."""
    for example in examples:
        record = {"tokens": example.tokens, "tags": example.tags}
        yield _json(record | ({"document": example.document} if example.document else {}))


def span_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield a JSON object a text, with spans in Prodigy's form; null if nobody annotated it."""
    for record in records:
        spans = None
        if record.spans is not None:
            spans = [
                {"start": s.start, "end": s.end, "text": record.text[s.start : s.end], "label": s.type}
                for s in sorted(record.spans)
            ]
        value: dict[str, Any] = {"text": record.text, "spans": spans}
        if record.tokens:
            value["tokens"] = [
                {"text": record.text[start:end], "start": start, "end": end, "id": i}
                for i, (start, end) in enumerate(record.tokens)
            ]
        yield _json(value)


def task_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield the lines of an array of Label Studio tasks, for <Labels name="label" toName="text"> and $text."""
    separator = "["
    for number, record in enumerate(records, start=1):
        result = [
            {
                "id": f"{number}-{i}", "type": "labels", "from_name": "label", "to_name": "text",
                "value": {"start": s.start, "end": s.end, "text": record.text[s.start : s.end], "labels": [s.type]},
            }
            for i, s in enumerate(sorted(record.spans or ()), start=1)
        ]  # fmt: skip
        annotations = [] if record.spans is None else [{"was_cancelled": False, "result": result}]
        yield f"{separator}\n"
        task = {"id": number, "data": {"text": record.text}, "annotations": annotations}
        yield _json(task).removesuffix("\n")
        separator = ","
    yield "\n]\n" if separator == "," else "[]\n"


def annotation_lines(record: TextRecord) -> Iterator[str]:
    """Yield the lines of the .ann file of a text, as brat writes it: line breaks within a span become spaces."""
    for i, span in enumerate(sorted(record.spans or ()), start=1):
        text = "".join(" " if c in "\r\n\t" else c for c in record.text[span.start : span.end])
        yield f"T{i}\t{span.type} {span.start} {span.end}\t{text}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
