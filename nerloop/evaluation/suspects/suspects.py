"""Collect the places where a model contradicts a file's labels, and rank them.

A suspect is a span of the file, of the model, or several that overlap: what `nerloop.evaluation.report.errors` calls an
error, with the model taken to be right. Spans are ranked rather than tokens, since people check spans, and one wrong
token more or less doesn't make a label more suspicious.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nerloop.evaluation.report.errors import errors_of
from nerloop.tags import split_tag, to_spans
from nerloop.types import Example, Span

LEAST = 1e-6
"""Probabilities below are taken as this much, so that one token can't outweigh all others of a span."""


class Suspects:
    """Collects suspects sentence by sentence; `to_json` ranks them."""

    def __init__(self, source: str, *, has_line_per_token: bool = False) -> None:
        """Take what the model's labels come from, in words, and whether each token has a line of its own."""
        self._source, self._has_lines = source, has_line_per_token
        self._num_sentences = self._num_spans = 0
        self._found: list[dict[str, Any]] = []

    def add(self, example: Example, model: Sequence[Span], doubts: Doubts | Mapping[Span, float]) -> None:
        """Add a sentence with labels.

        Args:
            example: the sentence
            model: the spans of the model, left to right
            doubts: the model's probabilities; or, where only these are known, how sure it is of its own spans, and of
                nothing being where a span of the file is
        """
        file = to_spans(example.tags)
        self._num_sentences += 1
        self._num_spans += len(file)
        sides = [[_as_json(example, span) for span in side] for side in (file, model)]
        for error in errors_of(file, model):
            of_file, of_model = [file[i] for i in error.gold], [model[i] for i in error.predicted]
            if isinstance(doubts, Doubts):
                confidence = doubts.confidence(of_file, of_model)
            else:
                confidence = max(doubts.get(span, 0.0) for span in of_model or of_file)
            self._found.append(
                {
                    "location": self._location(example, min(span.start for span in (*of_file, *of_model))),
                    "confidence": round(confidence, 6),
                    "kind": str(error.kind),
                    "file": [sides[0][i] for i in error.gold],
                    "model": [sides[1][i] for i in error.predicted],
                    "sentence": {
                        "location": example.location, "tokens": list(example.tokens), "file": sides[0],
                        "model": sides[1],
                    },
                }
            )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return all suspects, the most suspicious first; of equal ones the first in the file."""
        ranked = sorted(self._found, key=lambda suspect: -suspect["confidence"])
        return {
            "source": self._source, "sentences": self._num_sentences, "spans": self._num_spans, "suspects": ranked
        }  # fmt: skip

    def _location(self, example: Example, token: int) -> str:
        file, _, line = example.location.rpartition(":")
        return f"{file}:{int(line) + token}" if self._has_lines and line.isdecimal() else example.location


class Doubts:
    """How much more probable a model finds its own types than those of a file, for a sentence.

    Types rather than labels are compared: that an entity starts one token later changes the type of one token, but the
    labels of two. So files in another scheme than the model's are judged alike.
    """

    def __init__(self, labels: Sequence[str], probabilities: np.ndarray) -> None:
        """Take the label names by id, and the probabilities of a sentence's tokens, (tokens, labels)."""
        types = [split_tag(label)[1] for label in labels]
        self._ids = {type_: i for i, type_ in enumerate(dict.fromkeys(types))}
        of_type = np.eye(len(self._ids))[[self._ids[type_] for type_ in types]]  # (labels, types)
        self._logs = np.log(np.maximum(probabilities @ of_type, LEAST))  # (tokens, types)

    def confidence(self, file: Sequence[Span], model: Sequence[Span]) -> float:
        """Return from 0 to 1 how sure the model is of its spans, as opposed to those of the file at the same place.

        The odds are the geometric mean, over the tokens whose types differ, of P(model's type) / P(file's type). 0.5
        where no type differs, as of two neighbouring spans of one type that the model takes for one.
        """
        low = min(span.start for span in (*file, *model))
        high = max(span.end for span in (*file, *model))
        by_file, by_model = self._types(file, low, high), self._types(model, low, high)
        differ = by_file != by_model
        if not differ.any():
            return 0.5
        tokens = np.arange(low, high)[differ]
        ratios = self._logs[tokens, by_model[differ]] - self._logs[tokens, by_file[differ]]
        return float(1 / (1 + np.exp(-ratios.mean())))

    def _types(self, spans: Sequence[Span], low: int, high: int) -> np.ndarray:
        types = np.full(high - low, self._ids[""])
        for span in spans:
            types[span.start - low : span.end - low] = self._ids[span.type]
        return types


def _as_json(example: Example, span: Span) -> dict[str, Any]:
    return {**span._asdict(), "text": " ".join(example.tokens[span.start : span.end])}
