"""Scoring a split: its metrics by decoding, and its predictions as files."""

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
"""Beside the best weights: their validation metrics by decoding, so that they are never scored again."""

Metrics = dict[str, dict[str, Any]]
"""Metrics by the decoding's name."""


def score_split(training: Training, name: str, folder: Path) -> Metrics:
    """Return the metrics of a split, the same on every process; write its predictions files into `folder`.

    Raises Interrupted, on all processes, when one is asked to stop meanwhile.
    """
    predictor = training.predictor
    predictor.learn(learned_by(training.objective))
    is_main = predictor.accelerator.is_main_process
    writing = writing_predictions(folder / f"predictions.{name}", predictor.main_decoding) if is_main else None
    with writing or contextlib.nullcontext(write_nothing) as write:
        counts = predictor.tag_in_order(training.model, training.splits[name], write, training.evaluator)
    return predictor.metrics_of(counts, training.evaluator)


def keep_best(training: Training, folder: Path, metrics: Metrics, predictions: Path) -> None:
    """Keep the weights, the validation metrics and the predictions in a folder, whole or not at all."""

    def write(beside: Path) -> None:
        checkpoint.save_weights(training.weights.master, beside)
        (beside / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
        for file in predictions.glob("predictions.*"):
            shutil.copy(file, beside / file.name)

    write_folder(folder, write)


def load_best(training: Training, folder: Path) -> None:
    """Give the model the weights that `keep_best` kept. Raises CheckpointError where the folder is damaged."""
    checkpoint.load_weights(training.weights.master, folder)
    training.weights.sync_to_compute()


def metrics_of_best(folder: Path) -> Mapping[str, dict[str, Any]]:
    """Return the metrics that `keep_best` kept. Raises CheckpointError where they can't be read."""
    try:
        found: Metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / METRICS}: can't be read; start anew in another run.dir") from error
    return found
