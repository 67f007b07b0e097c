"""Send the metrics of a run to trackers besides TensorBoard: MLflow, Weights & Biases, trackio, and others.

accelerate's trackers send the metrics. This module adds two things: a resumed run continues the same run in the
tracker, and a tracker that fails never ends a training.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerloop.errors import ConfigError
from nerloop.plugins import did_you_mean
from nerloop.run.atomic import write_json

TENSORBOARD = "tensorboard"
FILE = "trackers.json"
PROJECT = "nerloop"
MOST_FAILURES = 3
"""Failures in a row after which a tracker is not called again."""

log = logging.getLogger(__name__)


def _begin_wandb(kept: str | None, folder: Path) -> dict[str, Any]:
    more = {"id": kept, "resume": "allow"} if kept else {}
    return {"run_name": PROJECT, "name": folder.name, "dir": str(folder), **more}


def _begin_trackio(kept: str | None, folder: Path) -> dict[str, Any]:
    return {"run_name": PROJECT, "name": kept or folder.name, "resume": "allow" if kept else "never"}


def _begin_mlflow(kept: str | None, folder: Path) -> dict[str, Any]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report its use to its makers
    # The other processes wait for this one. By default, MLflow tries for minutes to reach a server that is down.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return {"experiment_name": PROJECT, "run_name": folder.name, "run_id": kept}


# For each name, two functions. The first takes the tracker's id of the run to continue (None: a new run) and the run's
# folder, and returns the arguments of accelerate's tracker. The second returns the id of the run that has begun.
RESUMABLE: dict[str, tuple[Callable[[str | None, Path], dict[str, Any]], Callable[[Any], str]]] = {
    "mlflow": (_begin_mlflow, lambda run: str(run.info.run_id)),
    "trackio": (_begin_trackio, lambda run: str(run.name)),
    "wandb": (_begin_wandb, lambda run: str(run.id)),
}
OTHERS = ("aim", "clearml", "comet_ml", "dvclive", "swanlab")
"""Trackers of accelerate that begin a new run when a training is resumed."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for a tracker in `run.trackers` that accelerate does not have, or whose package is missing."""
    known = [TENSORBOARD, *sorted([*RESUMABLE, *OTHERS])]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"run.trackers: found {name!r}{did_you_mean(str(name), known)}, expected {', '.join(known)}"
            )
        if name != TENSORBOARD and importlib.util.find_spec(name) is None:
            raise ConfigError(f"run.trackers: {name} is not installed; pip install {name.replace('_', '-')}")


class Trackers:
    """The trackers of a run, without TensorBoard. Their errors become warnings."""

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin a run in each tracker, or continue the one that trackers.json in the run's folder names."""
        self._folder = folder
        self._kept = _read(folder / FILE)
        self._open: dict[str, Any] = {}
        self._failures = dict.fromkeys(names, 0)
        for name in names:
            if name != TENSORBOARD:
                with self._guarded(name):
                    self._open[name] = self._begin(name, settings)
        if self._open:
            self._write()

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Send metrics of a step. Metrics sent before the run was resumed are not sent again: they are the same."""
        if not self._open:
            return
        values = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in scalars.items()}  # what MLflow accepts
        for name, tracker in list(self._open.items()):
            kept = self._kept.setdefault(name, {})
            # A step's metrics may come in several calls, so the names sent at the last step are kept as well.
            last, sent = int(kept.get("step", -1)), list(kept.get("sent", ()))
            new = {n: v for n, v in values.items() if step > last or (step == last and n not in sent)}
            if not new:
                continue
            with self._guarded(name):
                tracker.log(new, step=step)
                kept |= {"step": step, "sent": [*new] if step > last else [*sent, *new]}
        self._write()

    def close(self) -> None:
        """End the runs in the trackers."""
        for name, tracker in list(self._open.items()):
            with self._guarded(name):
                tracker.finish()

    def _begin(self, name: str, settings: Mapping[str, Any]) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        make = LOGGER_TYPE_TO_CLASS[name]
        kept = self._kept.get(name, {}).get("id")
        if name in RESUMABLE:
            begin, id_of = RESUMABLE[name]
            tracker = make(**begin(kept, self._folder))
        else:
            where = {"logging_dir": str(self._folder)} if make.requires_logging_directory else {}
            tracker = make(PROJECT, **where)
        tracker.start()
        if name in RESUMABLE:
            self._kept[name] = {**self._kept.get(name, {}), "id": id_of(tracker.tracker)}
        if kept is None:
            tracker.store_init_configuration(dict(settings))
        return tracker

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Turn any error of a tracker into a warning, because a network that is down must not end a training."""
        try:
            yield
            self._failures[name] = 0
        except Exception as error:
            self._failures[name] += 1
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            is_last = name not in self._open or self._failures[name] == MOST_FAILURES
            if is_last:
                self._open.pop(name, None)
            more = "; it gets no more metrics of this run" if is_last else ""
            log.warning("warning: run.trackers: %s failed: %s%s", name, reason, more)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk ends the run where a file that matters is written
            write_json(self._folder / FILE, self._kept)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {n: v for n, v in kept.items() if isinstance(v, dict)} if isinstance(kept, dict) else {}
