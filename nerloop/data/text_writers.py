"""Write texts with character spans for annotation tools: JSON lines, brat, Label Studio, Prodigy, doccano, CSV.

Predicted spans are marked as predictions. Everything in the source record except its annotations is kept, such as id,
data, hashes and meta, so the files can be imported next to the source.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any

from nerloop.data.checks import has_surrogate
from nerloop.data.readers.label_studio import HYPERTEXT
from nerloop.data.records import MODEL_VERSION, TextRecord
from nerloop.types import Span


def span_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield a JSON object for each text, with spans in Prodigy's form, or null if nobody annotated it."""
    for record in records:
        spans = None
        if record.spans is not None:
            spans = [{**_piece(record, span), "label": span.type} for span, _ in _sorted(record)]
        value: dict[str, Any] = {"text": record.text, "spans": spans}
        if record.tokens:
            value["tokens"] = [
                {"text": record.text[start:end], "start": start, "end": end, "id": i}
                for i, (start, end) in enumerate(record.tokens)
            ]
        yield _json(value)


def prodigy_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield a task of Prodigy for each text. Gold tasks have an answer; predicted ones don't, for `ner.correct`.

    Tasks without an answer have MODEL_VERSION, by which a reader knows that nobody has answered yet.

    A source record of Prodigy keeps its hashes, tokens and meta.
    """
    for record in records:
        task = _record_of(record, "prodigy")
        for name in ("answer", "spans", "_timestamp", "_annotator_id", "_session_id"):
            task.pop(name, None)
        task.setdefault("text", record.text)
        own = task.get("tokens")
        tokens = [token for token in own if isinstance(token, dict)] if isinstance(own, list) else []
        starts = {token.get("start"): i for i, token in enumerate(tokens)}
        ends = {token.get("end"): i for i, token in enumerate(tokens)}
        spans = []
        for span, confidence in _sorted(record):
            value = {"start": span.start, "end": span.end, "label": span.type}
            if span.start in starts and span.end in ends:
                value |= {"token_start": starts[span.start], "token_end": ends[span.end]}
            spans.append(value if confidence is None else value | {"score": confidence})
        is_gold = record.spans is not None and record.confidences is None
        yield _json({**task, "spans": spans, **({"answer": "accept"} if is_gold else {"model_version": MODEL_VERSION})})


def doccano_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield a JSON object for each text, as doccano imports it (JSONL): id, text, and triples under "label"."""
    for number, record in enumerate(records, start=1):
        source = _record_of(record, "doccano")
        rest = {k: v for k, v in source.items() if k not in ("id", "text", "label", "labels", "entities", "relations")}
        label = [[span.start, span.end, span.type] for span, _ in _sorted(record)]
        yield _json({"id": source.get("id", number), "text": record.text, **rest, "label": label})


def task_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield the lines of an array of Label Studio tasks, gold spans as `annotations`, predicted ones as `predictions`.

    The labels are those of <Labels name="label" toName="text"> and $text, unless the source has tasks with others.
    """
    names = dict(_LABELS)
    yield from _array(_task(number, record, names) for number, record in enumerate(records, start=1))


def review_lines(texts: Iterable[tuple[TextRecord, TextRecord, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of an array of Label Studio tasks for a second look at labels.

    Each item has the text with its gold spans (written as `annotations`), the text with the predicted spans (written as
    `predictions`), and further fields for `data`, which Label Studio can show and filter by.
    """
    names = dict(_LABELS)

    def task(number: int, gold: TextRecord, predicted: TextRecord, more: Mapping[str, Any]) -> dict[str, Any]:
        found = _task(number, gold, names) | {"predictions": _task(number, predicted, names)["predictions"]}
        return found | {"data": {**found["data"], **more}}

    yield from _array(task(number, *of_text) for number, of_text in enumerate(texts, start=1))


_LABELS = {"from_name": "label", "to_name": "text", "type": "labels"}


def _task(number: int, record: TextRecord, names: dict[str, str]) -> dict[str, Any]:
    """Return a task of Label Studio; `names` are those of the task before and become those of this one."""
    task = _record_of(record, "label_studio")
    # A task without regions does not tell the names. It keeps those of the task before, since a project shares them.
    names |= {name: str((record.source or {}).get(name, default)) for name, default in names.items()}
    result = []
    for i, (span, confidence) in enumerate(_sorted(record), start=1):
        region: dict[str, Any] = {
            "id": f"{number}-{i}", **names, "value": _region_value(_piece(record, span), names["type"], span.type)
        }  # fmt: skip
        result.append(region if confidence is None else region | {"score": confidence})
    for name in ("annotations", "completions", "predictions", "drafts"):
        task.pop(name, None)
    task = {"id": number, "data": {"text": record.text}} | task
    if record.confidences is not None:
        score = fmean(record.confidences) if record.confidences else 1.0
        task["predictions"] = [{"model_version": MODEL_VERSION, "score": round(score, 6), "result": result}]
    else:
        task["annotations"] = [] if record.spans is None else [{"was_cancelled": False, "result": result}]
    return task


def _array(values: Iterable[Any]) -> Iterator[str]:
    """Yield the lines of a JSON array, a value each."""
    separator = "["
    for value in values:
        yield f"{separator}\n"
        yield _json(value).removesuffix("\n")
        separator = ","
    yield "\n]\n" if separator == "," else "[]\n"


def csv_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield the rows of a CSV table: the columns of the source, else id and text; and spans as JSON in "entities"."""
    columns: list[str] = []
    for number, record in enumerate(records, start=1):
        row = _record_of(record, "csv")
        if not row:
            source = record.source or {}
            id_ = _record_of(record, source.get("format", "")).get("id", source.get("name", number))
            row = {"id": id_, "text": record.text}
        if not columns:
            name = next(n for n in ("entities", "entities_of_nerloop") if n not in row)
            columns = [*row, name]
            yield _row(columns)
        entities = [
            {**_piece(record, span), "label": span.type} | ({} if confidence is None else {"score": confidence})
            for span, confidence in _sorted(record)
        ]
        spans = "" if record.spans is None else json.dumps(entities, ensure_ascii=False)
        yield _row([*(row.get(column, "") for column in columns[:-1]), spans])


def annotation_lines(record: TextRecord) -> Iterator[str]:
    """Yield the lines of the .ann file of a text. As brat does, it writes line breaks within a span as spaces.

    A note at each predicted span says that it is predicted, with its confidence.
    """
    for i, (span, confidence) in enumerate(_sorted(record), start=1):
        text = "".join(" " if c in "\r\n\t" else c for c in record.text[span.start : span.end])
        yield f"T{i}\t{span.type} {span.start} {span.end}\t{text}\n"
        if confidence is not None:
            yield f"#{i}\tAnnotatorNotes T{i}\tpredicted by {MODEL_VERSION}, confidence {confidence}\n"


def _sorted(record: TextRecord) -> list[tuple[Span, float | None]]:
    """Return the spans with their confidences (None: gold), left to right."""
    spans = record.spans or ()
    confidences = record.confidences if record.confidences is not None else [None] * len(spans)
    return sorted(zip(spans, confidences, strict=True), key=lambda pair: pair[0])


def _piece(record: TextRecord, span: Span) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "text": record.text[span.start : span.end]}


def _record_of(record: TextRecord, format_: str) -> dict[str, Any]:
    """Return a copy of the source record if it has this format, else {}."""
    source = record.source or {}
    found = source.get("record")
    return dict(found) if source.get("format") == format_ and isinstance(found, Mapping) else {}


def _region_value(piece: Mapping[str, Any], kind: str, label: str) -> dict[str, Any]:
    """Return the value of a region of Label Studio. In HTML, offsets are those in its text."""
    if kind != HYPERTEXT:
        return {**piece, kind: [label]}
    offsets = {"start": piece["start"], "end": piece["end"]}
    return {"globalOffsets": offsets, "text": piece["text"], kind: [label]}


def _row(values: Iterable[Any]) -> str:
    cells = [value if isinstance(value, str) or value is None else json.dumps(value) for value in values]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair in some field of the source can only be written as an escape.
    return (json.dumps(value) if has_surrogate(text) else text) + "\n"
