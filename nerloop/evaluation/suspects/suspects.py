"""Collect the places where a model contradicts a file's labels, and rank them.

A suspect is a span of the file, a span of the model, or several that overlap: an error in the sense of
`nerloop.evaluation.report.errors`. Spans are ranked rather than tokens, because people check spans, and one wrong token
more or less doesn't make a label more suspicious.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nerloop.evaluation.report.errors import errors_of
from nerloop.tags import split_tag, to_spans
from nerloop.types import Example, Span

LEAST = 1e-6
"""Lower probabilities are raised to this value, so that one token can't outweigh all others of a span."""


class Suspects:
    """Collects suspects sentence by sentence; `to_json` ranks them."""

    def __init__(self, source: str, *, has_line_per_token: bool = False) -> None:
        """Set the source of the model's labels, in words, and whether each token has a line of its own."""
        self._source, self._has_lines = source, has_line_per_token
        self._num_sentences = self._num_spans = self._num_confirmed = 0
        self._found: list[tuple[dict[str, Any], Evidence]] = []
        self._agreement: np.ndarray | float = 0.0  # see Doubts.agreement

    def add(self, example: Example, model: Sequence[Span], doubts: Doubts | Mapping[Span, float]) -> None:
        """Add a sentence with labels.

        Args:
            example: the sentence
            model: the spans of the model, left to right
            doubts: the model's probabilities; or, if only these are known, its confidences in its own spans, and in no
                entity being where the file has a span
        """
        file = to_spans(example.tags)
        self._num_sentences += 1
        self._num_spans += len(file)
        self._num_confirmed += len(set(file) & set(model))
        if isinstance(doubts, Doubts):
            self._agreement = self._agreement + doubts.agreement(file)
        sides = [[_as_json(example, span) for span in side] for side in (file, model)]
        for error in errors_of(file, model):
            of_file, of_model = [file[i] for i in error.gold], [model[i] for i in error.predicted]
            if isinstance(doubts, Doubts):
                evidence = doubts.evidence(of_file, of_model)
            else:
                evidence = Evidence.of(max(doubts.get(span, 0.0) for span in of_model or of_file))
            suspect = {
                "location": self._location(example, min(span.start for span in (*of_file, *of_model))),
                "kind": str(error.kind),
                "file": [sides[0][i] for i in error.gold],
                "model": [sides[1][i] for i in error.predicted],
                "sentence": {
                    "location": example.location, "tokens": list(example.tokens), "file": sides[0], "model": sides[1]
                },
            }  # fmt: skip
            self._found.append((suspect, evidence))

    def to_json(self) -> dict[str, Any]:
        """Return all suspects, the most suspicious first; equal ones in the order of the file."""
        # usual: (types,), the log of the mean probability of a type where the file has it; 0 without probabilities.
        total, count = np.asarray(self._agreement).reshape(2, -1) if np.ndim(self._agreement) else np.ones((2, 1))
        usual = np.log(np.maximum(np.where(count > 0, total / np.maximum(count, 1), 1.0), LEAST))
        ranked = [{**suspect, "confidence": evidence.confidence(usual)} for suspect, evidence in self._found]
        ranked.sort(key=lambda suspect: -suspect["confidence"])
        return {
            "source": self._source, "sentences": self._num_sentences, "spans": self._num_spans,
            "confirmed": self._num_confirmed, "suspects": ranked,
        }  # fmt: skip

    def _location(self, example: Example, token: int) -> str:
        """Return the line of a token if each has one, else the location of its sentence."""
        file, _, line = example.location.rpartition(":")
        return f"{file}:{int(line) + token}" if self._has_lines and line.isdecimal() else example.location


class Evidence(NamedTuple):
    """The evidence for the model's spans and against the file's at one place."""

    log_odds: float  # of the model's types against the file's: the mean over the tokens whose types differ
    types: np.ndarray  # (types,) of these tokens: the share to which the model gives a type, minus the file's

    @staticmethod
    def of(confidence: float) -> Evidence:
        """Return the evidence from a model's confidence, from 0 to 1."""
        sure = min(max(confidence, LEAST), 1 - LEAST)
        return Evidence(float(np.log(sure / (1 - sure))), np.zeros(1))

    def confidence(self, usual: np.ndarray) -> float:
        """Return the model's confidence, from 0 to 1, given the log-probability that it usually gives to each type.

        A model that gives a type 0.4 on average where the file has it does not contradict the file when it gives 0.4.
        Source: confident learning (Northcutt, Jiang and Chuang, 2021), which compares probabilities with the mean of
        their class.
        """
        log_odds = self.log_odds - float((self.types * usual).sum())
        return round(float(1 / (1 + np.exp(-log_odds))), 6)


class Doubts:
    """How much more probable a model finds its own types than those of a file, for a sentence.

    Types are compared, not labels: if an entity starts one token later, one token has another type, but two tokens have
    another label. This also makes the result independent of the scheme of the file.
    """

    def __init__(self, labels: Sequence[str], probabilities: np.ndarray) -> None:
        """Take the label names by id, and the probabilities of a sentence's tokens, (tokens, labels)."""
        types = [split_tag(label)[1] for label in labels]
        self._ids = {type_: i for i, type_ in enumerate(dict.fromkeys(types))}
        of_type = np.eye(len(self._ids))[[self._ids[type_] for type_ in types]]  # (labels, types)
        self._probabilities = probabilities @ of_type  # (tokens, types)

    def agreement(self, file: Sequence[Span]) -> np.ndarray:
        """Return, for each type in the file, the summed probability over its tokens, and their number: (2, types)."""
        types = self._types(file, 0, len(self._probabilities))
        total, count = np.zeros((2, len(self._ids)))
        np.add.at(total, types, self._probabilities[np.arange(len(types)), types])
        np.add.at(count, types, 1)
        return np.stack([total, count])

    def evidence(self, file: Sequence[Span], model: Sequence[Span]) -> Evidence:
        """Return the evidence for spans of the model, and against the spans of the file that overlap them.

        It is 0 if no token differs in type, as when the model joins two neighbouring spans of one type.
        """
        low = min(span.start for span in (*file, *model))
        high = max(span.end for span in (*file, *model))
        by_file, by_model = self._types(file, low, high), self._types(model, low, high)
        differ = by_file != by_model
        by_file, by_model = by_file[differ], by_model[differ]
        if not len(by_file):
            return Evidence(0.0, np.zeros(len(self._ids)))
        logs = np.log(np.maximum(self._probabilities[low:high][differ], LEAST))
        tokens, of_type = np.arange(len(logs)), np.eye(len(self._ids))
        log_odds = float((logs[tokens, by_model] - logs[tokens, by_file]).mean())
        return Evidence(log_odds, (of_type[by_model] - of_type[by_file]).mean(0))

    def _types(self, spans: Sequence[Span], low: int, high: int) -> np.ndarray:
        """Return the type ids of the tokens from `low` to `high`, (high - low,), where these spans are the entities."""
        types = np.full(high - low, self._ids[""])
        for span in spans:
            types[span.start - low : span.end - low] = self._ids[span.type]
        return types


def _as_json(example: Example, span: Span) -> dict[str, Any]:
    return {**span._asdict(), "text": " ".join(example.tokens[span.start : span.end])}
