"""Score a split: metrics by decoding, and predictions files. Keep and reload the best weights."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nerloop.errors import CheckpointError
from nerloop.evaluation.held_out import HeldOut
from nerloop.evaluation.prediction_files import write_nothing, writing_predictions
from nerloop.evaluation.predictor import Prediction
from nerloop.objectives.parameters import learned_by
from nerloop.run import checkpoint
from nerloop.run.atomic import write_folder
from nerloop.training.training import Training
from nerloop.types import Example

METRICS = "metrics.json"
"""File with the validation metrics of the best weights, next to them, so they need not be scored again."""

SCORES = "scores"
"""scores.<split>: the model's log-probabilities as raw bytes, (tokens, labels) of each sentence, one after the other.
They are kept with the best weights, so that confidences can be fitted at the end without scoring validation again."""
AT_ONCE = 4096
"""Sentences decoded at once from kept scores."""

Metrics = dict[str, dict[str, Any]]
"""Metrics by name of the decoding."""


def score_split(training: Training, name: str, folder: Path, scores: Path | None = None) -> Metrics:
    """Return the metrics of a split, the same on every process; write its predictions files into `folder`.

    The model's scores are written into the folder `scores` (none: `folder`), for `held_out_of`. If any process receives
    a stop signal meanwhile, Interrupted is raised on all of them.
    """
    predictor = replace(training.predictor, keeps_scores=True)
    predictor.learn(learned_by(training.objective))
    is_main = predictor.accelerator.is_main_process
    writing = writing_predictions(folder / f"predictions.{name}", predictor.main_decoding) if is_main else None
    with writing or contextlib.nullcontext(write_nothing) as write_files, contextlib.ExitStack() as files:
        write = write_files
        if is_main:
            file = files.enter_context(((scores or folder) / f"{SCORES}.{name}").open("wb"))

            def write(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
                file.writelines(np.ascontiguousarray(p.scores).tobytes() for p in tagged if p.scores is not None)
                write_files(examples, tagged)

        counts = predictor.tag_in_order(training.model, training.splits[name], write, training.evaluator)
    return predictor.metrics_of(counts, training.evaluator)


def held_out_of(training: Training, name: str, folder: Path) -> HeldOut | None:
    """Return a split with the scores that `score_split` wrote; None where they are missing or of other data."""
    path, split = folder / f"{SCORES}.{name}", training.splits[name]
    lengths = [len(example.tokens) for example in split.examples]
    num_scores = sum(lengths) * len(training.labels)
    size = path.stat().st_size if path.exists() else 0  # the size also tells float32 from float64
    if not num_scores or size not in (4 * num_scores, 8 * num_scores):
        return None
    dtype = np.float32 if size == 4 * num_scores else np.float64
    flat = np.memmap(path, dtype=dtype, mode="r").reshape(-1, len(training.labels))
    return HeldOut(training.labels, split.examples, np.split(np.asarray(flat), np.cumsum(lengths)[:-1]))


def write_predictions(training: Training, held: HeldOut, name: str, folder: Path) -> None:
    """Write the predictions files of a split from its scores, with the confidences of the predictor as it is now."""
    with writing_predictions(folder / f"predictions.{name}", training.predictor.main_decoding) as write:
        for start in range(0, len(held.examples), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            write(held.examples[part], training.predictor.decode(held.scores[part]))


def keep_best(training: Training, folder: Path, metrics: Metrics, predictions: Path) -> None:
    """Write the weights, the validation metrics, the predictions and the scores to a folder, atomically."""

    def write(beside: Path) -> None:
        checkpoint.save_weights(training.weights.master, beside)
        (beside / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
        for file in (*predictions.glob("predictions.*"), *predictions.glob(f"{SCORES}.*")):
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
