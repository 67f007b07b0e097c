"""Write suspects as tasks for a review in Label Studio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nerloop.data.readers.predictions import lay_out
from nerloop.data.records import TextRecord
from nerloop.data.text_writers import review_lines
from nerloop.evaluation.suspects.as_text import spans_text
from nerloop.types import Span


def tasks(found: Mapping[str, Any], number: int) -> Iterator[str]:
    """Yield the lines of a file of tasks, one for each sentence with one of the first `number` suspects.

    The annotations are the labels of the file. The predictions are the same, except that suspects are replaced by the
    spans of the model. `data` has the location in the file, and what is suspicious there. The text is the tokens joined
    with spaces.
    """
    by_sentence: dict[str, list[Mapping[str, Any]]] = {}
    for suspect in found["suspects"][:number]:
        by_sentence.setdefault(suspect["sentence"]["location"], []).append(suspect)
    return review_lines(map(_texts, by_sentence.values()))


def _texts(suspects: Sequence[Mapping[str, Any]]) -> tuple[TextRecord, TextRecord, dict[str, Any]]:
    sentence = suspects[0]["sentence"]
    text, location = " ".join(sentence["tokens"]), sentence["location"]
    offsets = lay_out(sentence["tokens"], 0)

    def record(sure: Mapping[Span, float], *, is_predicted: bool) -> TextRecord:
        placed = {Span(offsets[s.start][0], offsets[s.end - 1][1], s.type): c for s, c in sorted(sure.items())}
        confidences = tuple(placed.values()) if is_predicted else None
        return TextRecord(text, tuple(placed), location, location, confidences=confidences)

    # Spans that the model does not contradict get confidence 1. No other span overlaps a suspect, so its spans in the
    # file can be replaced by the model's.
    file = {_span(s): 1.0 for s in sentence["file"]}
    model = {span: 1.0 for span in file if all(span != _span(s) for x in suspects for s in x["file"])}
    model |= {_span(s): x["confidence"] for x in suspects for s in x["model"]}
    lines = [f"{s['location']}: {spans_text(s['file'])} -> {spans_text(s['model'])}?" for s in suspects]
    more = {"location": location, "suspect": "; ".join(lines), "confidence": suspects[0]["confidence"]}
    return record(file, is_predicted=False), record(model, is_predicted=True), more


def _span(values: Mapping[str, Any]) -> Span:
    return Span(values["start"], values["end"], values["type"])
