"""Analyse the predictions file of a run, or any predictions file of nerloop that has gold tags."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nerloop.data.json_stream import read_values
from nerloop.errors import DataError, PluginError, shorten
from nerloop.evaluation.report.analysis import Analysis
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.evaluation.report.sentences import example_of
from nerloop.evaluators import Counts, Evaluator, count_examples, metrics_of
from nerloop.evaluators.seqeval import Seqeval
from nerloop.plugins import title_of
from nerloop.types import Example


def analysis_of_run(path: Path, examples: Iterable[Example], names: TrainingNames) -> Analysis:
    """Return the analysis of a predictions file that this process wrote for these examples."""
    analysis = Analysis(names)
    with path.open(encoding="utf-8") as lines:
        for example, line in zip(examples, lines, strict=True):
            record = json.loads(line)
            analysis.add(example, record["spans"], record.get("missed", ()))
    return analysis


def read_predictions(
    path: str, names: TrainingNames | None, evaluator: Evaluator | None = None
) -> tuple[Analysis, dict[str, Any]]:
    """Return the analysis of a predictions file (.jsonl), and the metrics of an evaluator (none: seqeval).

    Raises DataError with file:line, or PluginError.
    """
    analysis, counts = Analysis(names), Counts()
    evaluator = evaluator or Seqeval()

    def add(example: Example, record: dict[str, Any]) -> None:
        analysis.add(example, record["spans"], record.get("missed", ()))
        try:
            counts.update(count_examples(evaluator, [example], [record["tags"]]))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
            if type(evaluator) is Seqeval:
                raise  # the file is at fault, as `each_prediction` says
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(f"{title_of('evaluator', evaluator)}: count: {reason}") from error

    each_prediction(path, add)
    return analysis, metrics_of(evaluator, counts)


def each_prediction(path: str, use: Callable[[Example, dict[str, Any]], None]) -> None:
    """Call a function with the example and the record of each line of a predictions file with gold tags.

    Raises DataError with file:line for a line that nerloop did not write, also if only `use` detects that.
    """
    is_empty = True
    for where, record in read_values(path):
        if isinstance(record, dict) and "gold" not in record:
            raise DataError(f"{where}: found no gold tags, expected predictions for annotated sentences")
        try:
            use(example_of(record, where), record)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
            problem = shorten(str(error) if not isinstance(error, KeyError) else f"no {error}")
            raise DataError(f"{where}: not a prediction that nerloop wrote: {problem}") from error
        is_empty = False
    if is_empty:
        raise DataError(f"{path}: found no sentence, expected predictions for annotated sentences")
