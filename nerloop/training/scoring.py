"""Score a split: metrics by decoding, and predictions files. Keep and reload the best weights."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nerloop.errors import CheckpointError
from nerloop.evaluation.prediction_files import write_nothing, writing_predictions
from nerloop.objectives.parameters import learned_by
from nerloop.run import checkpoint
from nerloop.run.atomic import write_folder
from nerloop.training.training import Training

METRICS = "metrics.json"
"""File with the validation metrics of the best weights, next to them, so they need not be scored again."""

Metrics = dict[str, dict[str, Any]]
"""Metrics by name of the decoding."""


def score_split(training: Training, name: str, folder: Path) -> Metrics:
    """Return the metrics of a split, the same on every process; write its predictions files into `folder`.

    If any process receives a stop signal meanwhile, Interrupted is raised on all of them.
    """
    predictor = training.predictor
    predictor.learn(learned_by(training.objective))
    is_main = predictor.accelerator.is_main_process
    writing = writing_predictions(folder / f"predictions.{name}", predictor.main_decoding) if is_main else None
    with writing or contextlib.nullcontext(write_nothing) as write:
        counts = predictor.tag_in_order(training.model, training.splits[name], write, training.evaluator)
    return predictor.metrics_of(counts, training.evaluator)


def keep_best(training: Training, folder: Path, metrics: Metrics, predictions: Path) -> None:
    """Write the weights, the validation metrics and the predictions to a folder, atomically."""

    def write(beside: Path) -> None:
        checkpoint.save_weights(training.weights.master, beside)
        (beside / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
        for file in predictions.glob("predictions.*"):
            shutil.copy(file, beside / file.name)

    write_folder(folder, write)


def load_best(training: Training, folder: Path) -> None:
    """Load the weights that `keep_best` wrote. Raises CheckpointError where the folder is damaged."""
    checkpoint.load_weights(training.weights.master, folder)
    training.weights.sync_to_compute()


def metrics_of_best(folder: Path) -> Mapping[str, dict[str, Any]]:
    """Return the metrics that `keep_best` wrote. Raises CheckpointError if they can't be read."""
    try:
        metrics: Metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / METRICS}: can't be read; start again in another run.dir") from error
    return metrics
