"""Choose the sentences that are most worth annotating, and write them as tasks for annotation tools."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nerloop.data.readers.predictions import in_characters, lay_out
from nerloop.data.records import TextRecord
from nerloop.data.text_writers import prodigy_lines, task_lines
from nerloop.errors import PluginError
from nerloop.evaluation.predictor import Prediction, Predictor
from nerloop.types import Example

TASKS = {"label_studio": task_lines, "prodigy": prodigy_lines}
"""The function that writes tasks, by format."""
SPARE = 10
"""Candidates kept for each wanted sentence, in case many repeat each other. The limit bounds memory."""
MOST_SHARED = 0.5
"""Of two sentences that share more than this part of their words, only the more uncertain one is chosen."""


class Candidate(NamedTuple):
    """A sentence, its prediction, and its uncertainty: minus the log-probability of the tags, per token."""

    uncertainty: float
    order: int  # minus the sentence's number, so that the first of equally uncertain ones is chosen
    example: Example
    prediction: Prediction


class Uncertain:
    """Collects predictions with scores; `chosen` returns the most uncertain ones, without near repetitions.

    Uncertainty is the length-normalised log-probability of the best sequence (MNLP; Shen et al., Deep active learning
    for named entity recognition, 2018), under the legal transitions and at the fitted temperature.
    """

    def __init__(self, predictor: Predictor, number: int) -> None:
        """Set the predictor, which must keep scores, and how many sentences are wanted.

        Raises PluginError if its main decoding does not compute the probability of a sequence.
        """
        name = predictor.main_decoding
        self._decoding, self._name, self._temperature = predictor.decodings[name], name, predictor.temperature
        if not hasattr(self._decoding, "sequence_logs"):
            raise PluginError(f"--uncertain: decoding {name} does not tell how likely its tags are; use viterbi")
        self._ids = {label: i for i, label in enumerate(predictor.labels)}
        self._number, self._seen = number, 0
        self._kept: list[tuple[float, int, Candidate]] = []  # a heap, the least uncertain first

    def look_at(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
        """Add some sentences and their predictions, which have scores, to the candidates."""
        rows = [p.scores if p.scores is not None else np.zeros((0, len(self._ids))) for p in predictions]
        paths = [np.array([self._ids[tag] for tag in p.tags[self._name]], dtype=np.int64) for p in predictions]
        logs = self._decoding.sequence_logs(rows, paths, self._temperature)  # type: ignore[attr-defined]
        for example, prediction, log in zip(examples, predictions, logs, strict=True):
            self._seen += 1
            if example.tokens:
                found = Candidate(-float(log) / len(example.tokens), -self._seen, example, prediction)
                heapq.heappush(self._kept, (found.uncertainty, found.order, found))
                if len(self._kept) > SPARE * self._number:
                    heapq.heappop(self._kept)

    def chosen(self) -> list[Candidate]:
        """Return the chosen sentences, the most uncertain first. Repetitions are taken only if no others are left."""
        ordered = [candidate for *_, candidate in sorted(self._kept, reverse=True)]
        chosen: list[Candidate] = []
        words: list[frozenset[str]] = []
        repeated: list[Candidate] = []
        for candidate in ordered:
            own = frozenset(token.lower() for token in candidate.example.tokens)
            if any(len(own & other) > MOST_SHARED * len(own | other) for other in words):
                repeated.append(candidate)
                continue
            chosen.append(candidate)
            words.append(own)
            if len(chosen) == self._number:
                break
        return (chosen + repeated)[: self._number]


def task_texts(chosen: Iterable[Candidate], decoding: str, form: str) -> Iterator[TextRecord]:
    """Yield each sentence as a text with its predicted spans, for the writers in TASKS.

    The task's `meta` has the location and the uncertainty. Prodigy's tasks also have the tokens.
    """
    for candidate in chosen:
        example = candidate.example
        first = example.offsets[0][0] if example.offsets else 0
        offsets = [(a - first, b - first) for a, b in example.offsets] or lay_out(example.tokens, 0)
        text = ""
        for token, (start, _) in zip(example.tokens, offsets, strict=True):
            text += " " * (start - len(text)) + token
        record: dict[str, Any] = {
            "meta": {"location": example.location, "uncertainty": round(candidate.uncertainty, 6)}
        }
        if form == "prodigy":
            record |= {"text": text, "tokens": [
                {"text": token, "start": a, "end": b, "id": i, "ws": text[b : b + 1] == " "}
                for i, (token, (a, b)) in enumerate(zip(example.tokens, offsets, strict=True))
            ]}  # fmt: skip
        yield TextRecord(
            text,
            tuple(in_characters(candidate.prediction.tags[decoding], offsets)),
            example.location,
            example.document,
            source={"format": form, "record": record},
            confidences=tuple(span["confidence"] for span in candidate.prediction.spans(decoding)),
        )
