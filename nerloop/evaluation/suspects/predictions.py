"""Find suspects in a predictions file of nerloop, such as the predictions.out_of_fold.jsonl of a cross-validation."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nerloop.errors import DataError
from nerloop.evaluation.report.predictions import each_prediction
from nerloop.evaluation.suspects.suspects import Suspects
from nerloop.types import Example, Span

Predicted = tuple[list[Span], dict[Span, float]]
"""The predicted spans of a sentence, and the model's confidences: of these spans, and of no entity at missed spans."""


def suspects_of_predictions(path: str, examples: Sequence[Example] | None, *, has_line_per_token: bool) -> Suspects:
    """Return the suspects among the gold tags of a predictions file (.jsonl), by the confidence of its predictions.

    `examples` are the sentences of the files that it was made from, if known; locations then refer to these files.
    Raises DataError with file:line.
    """
    suspects = Suspects(f"the predictions in {path}", has_line_per_token=has_line_per_token and examples is not None)
    if examples is None:
        each_prediction(path, lambda example, record: suspects.add(example, *_predicted(record)))
        return suspects
    found = PredictionsOf(path)
    for example in examples:
        suspects.add(example, *found.take(example))
    return suspects


class PredictionsOf:
    """The predictions in a file, looked up by sentence, because folds change the order of the sentences."""

    def __init__(self, path: str) -> None:
        """Read the file. Raises DataError with file:line."""
        self._path = path
        self._found: defaultdict[Any, deque[Predicted]] = defaultdict(deque)
        each_prediction(path, self._add)

    def take(self, example: Example) -> Predicted:
        """Return the predictions for a sentence; each of several equal ones gets its own. Raises DataError for none."""
        queue = self._found[example.tokens, example.tags]
        if not queue:
            raise DataError(
                f"{example.location}: found no prediction in {self._path} for this sentence with these labels, "
                "expected the file that the predictions were made from"
            )
        return queue.popleft()

    def _add(self, example: Example, record: Mapping[str, Any]) -> None:
        self._found[example.tokens, example.tags].append(_predicted(record))


def _predicted(record: Mapping[str, Any]) -> Predicted:
    spans = _spans(record["spans"])
    sure = [*record["spans"], *record.get("missed", ())]
    return spans, dict(zip(_spans(sure), (float(s["confidence"]) for s in sure), strict=True))


def _spans(values: Iterable[Mapping[str, Any]]) -> list[Span]:
    return [Span(int(s["start"]), int(s["end"]), str(s["type"])) for s in values]
