"""Analyse predictions sentence by sentence, and return the result as plain values for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from nerloop.evaluation.report.breakdown import TrainingNames, buckets, order_of
from nerloop.evaluation.report.errors import Kind, SpanError, errors_of
from nerloop.evaluation.report.intervals import Tally
from nerloop.evaluation.report.partial import SCHEMES, PartialCounts, count_partial, partial_scores
from nerloop.evaluation.report.reliability import calibration
from nerloop.evaluation.report.sentences import ScoredSentence
from nerloop.types import Example

BREAKDOWNS = ("surface", "entity_length", "sentence_length", "type_frequency")
Triple = list[int]  # correct, predicted, gold


class Analysis:
    """Collects sentences; `to_json` returns the result. Memory grows only with the sentences that have an error."""

    def __init__(self, names: TrainingNames | None = None) -> None:
        """Set the names in the training data, for the breakdowns that need them."""
        self._names = names
        self._whole = Tally()
        self._tallies: dict[tuple[str, str], Tally] = {}  # by ("type", type) and by (breakdown, bucket)
        self._partial: PartialCounts = Counter()  # of the sentences with an error
        self._num_correct = 0  # spans of the sentences without an error
        self._kinds: dict[str, Counter[Kind]] = {}  # by type
        self._with_other_type: Counter[Kind] = Counter()
        self._confidences: list[tuple[float, float, bool]] = []  # of predicted spans: calibrated, not, is correct
        self._knows_uncalibrated = True
        self._mistakes: list[dict[str, Any]] = []

    def add(
        self, example: Example, predicted: Iterable[Mapping[str, Any]], missed: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Add a sentence with gold tags: its example, and the `spans` and `missed` of its line in a predictions file.

        Raises KeyError, IndexError, TypeError or ValueError if nerloop did not write them.
        """
        sentence = ScoredSentence.of(example, list(predicted), missed)
        self._count(sentence)
        if sentence.gold == sentence.predicted:  # most sentences: all spans are correct in every way
            self._num_correct += len(sentence.gold)
            return
        self._partial.update(count_partial(sentence.gold, sentence.predicted))
        if errors := errors_of(sentence.gold, sentence.predicted):
            for error in errors:
                self._kinds.setdefault(_type_of(sentence, error), Counter())[error.kind] += 1
                self._with_other_type[error.kind] += _has_other_type(sentence, error)
            self._mistakes.append(_with_errors(sentence, errors))

    def _count(self, sentence: ScoredSentence) -> None:
        """Count correct, predicted and gold spans: all, by type and by bucket."""
        gold, predicted = set(sentence.gold), set(sentence.predicted)
        cells: dict[tuple[str, str], Triple] = {}
        for span in gold | predicted:
            is_gold, is_predicted = span in gold, span in predicted
            for key in (("type", span.type), *buckets(sentence, span, self._names)):
                cell = cells.setdefault(key, [0, 0, 0])
                cell[0] += is_gold and is_predicted
                cell[1] += is_predicted
                cell[2] += is_gold
        self._whole.add(len(gold & predicted), len(predicted), len(gold))
        for key, counts in cells.items():
            self._tallies.setdefault(key, Tally()).add(*counts)
        uncalibrated = sentence.uncalibrated
        self._knows_uncalibrated &= uncalibrated is not None
        rows = zip(sentence.predicted, sentence.confidences, uncalibrated or sentence.confidences, strict=True)
        self._confidences += [(after, before, span in gold) for span, after, before in rows]

    @property
    def num_sentences(self) -> int:
        """How many sentences were added."""
        return self._whole.sentences.total()

    def to_json(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result, as `nerloop/evaluation/README.md` describes it; `scores` are the evaluator's metrics."""
        number = self.num_sentences
        of_type = sorted(
            ((of, t) for (name, of), t in self._tallies.items() if name == "type"), key=lambda item: item[0]
        )
        after, before, correct = zip(*self._confidences, strict=True) if self._confidences else ((), (), ())
        return {
            "sentences": number,
            "scores": dict(scores),
            "interval": {
                **self._whole.interval(number),
                "per_type": {type_: tally.interval(number) for type_, tally in of_type},
            },
            "partial": partial_scores(self._partial + Counter({(s, "correct"): self._num_correct for s in SCHEMES})),
            "errors": {str(kind): sum(kinds[kind] for kinds in self._kinds.values()) for kind in Kind},
            "errors_by_type": {
                type_: {str(kind): kinds[kind] for kind in Kind} for type_, kinds in sorted(self._kinds.items())
            },
            "errors_with_other_type": {str(kind): self._with_other_type[kind] for kind in Kind},
            "by": {breakdown: self._breakdown(breakdown) for breakdown in BREAKDOWNS},
            "calibration": calibration(after, correct, before if self._knows_uncalibrated else None),
            "mistakes": self._mistakes,
        }

    def _breakdown(self, breakdown: str) -> dict[str, Any] | None:
        if self._names is None and breakdown in ("surface", "type_frequency"):
            return None
        found = {bucket: self._tallies.get((breakdown, bucket)) for bucket in order_of(breakdown)}
        return {
            bucket: {**tally.scores(), "interval": tally.interval(self.num_sentences)}
            for bucket, tally in found.items()
            if tally is not None
        }


def _type_of(sentence: ScoredSentence, error: SpanError) -> str:
    """Return the type under which an error counts: that of its first gold span, or of the span if it is spurious."""
    return sentence.gold[error.gold[0]].type if error.gold else sentence.predicted[error.predicted[0]].type


def _has_other_type(sentence: ScoredSentence, error: SpanError) -> bool:
    """Return whether the types of the gold and the predicted spans of an error differ."""
    types = {sentence.gold[i].type for i in error.gold}, {sentence.predicted[i].type for i in error.predicted}
    return bool(types[0]) and bool(types[1]) and types[0] != types[1]


def _with_errors(sentence: ScoredSentence, errors: Iterable[SpanError]) -> dict[str, Any]:
    """Return a sentence with its errors. The confidence of an error is the highest one of its predicted spans.

    The confidence of a missed span is that of the tags that the model gave instead; None if it is not known.
    """

    def confidence_of(error: SpanError) -> float | None:
        if error.predicted:
            return max(sentence.confidences[i] for i in error.predicted)
        return sentence.missed.get(sentence.gold[error.gold[0]])

    return {
        "location": sentence.location,
        "tokens": list(sentence.tokens),
        "gold": [span._asdict() for span in sentence.gold],
        "predicted": [
            {**span._asdict(), "confidence": confidence}
            for span, confidence in zip(sentence.predicted, sentence.confidences, strict=True)
        ],
        "errors": [
            {
                "kind": str(error.kind),
                "gold": list(error.gold),
                "predicted": list(error.predicted),
                "confidence": confidence_of(error),
            }
            for error in errors
        ],
    }
