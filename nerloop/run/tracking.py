"""Write metrics to metrics.jsonl, TensorBoard and other trackers, and show them in the terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nerloop.run.folder import METRICS
from nerloop.run.trackers import TENSORBOARD, Trackers

NO_CURVES = ("epoch", "tokens", "gold_spans")
"""Metrics that are not drawn as curves over the steps."""


class Tracker:
    """Writes metrics and texts to metrics.jsonl, the trackers and the terminal. Only the main process writes."""

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        num_steps: int,
        is_main: bool,
        trackers: Sequence[str] = (TENSORBOARD,),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the files of `folder`. TensorBoard drops its values of the steps after `first_step`.

        The other trackers of `run.trackers` get the settings, by dotted name.
        """
        self._is_main = is_main
        self._postfix: dict[str, str] = {}
        self._num_steps = num_steps
        if not is_main:
            return
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._writer = None
        if TENSORBOARD in trackers:
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
        self._others = Trackers(trackers, folder, settings or {})
        self._has_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not self._has_terminal,
        )

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Write one object to metrics.jsonl, and its numbers to the trackers."""
        if not self._is_main:
            return
        self._file.write(json.dumps({"step": step, **metrics}, ensure_ascii=False) + "\n")
        self._file.flush()
        self.log_scalars(step, scalars(metrics))
        self._show(step, metrics)

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers to the trackers alone."""
        if not self._is_main:
            return
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        self._others.log(step, values)

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text to TensorBoard."""
        if self._is_main and self._writer is not None:
            self._writer.add_text(tag, markdown, step)

    def sync(self) -> None:
        """Sync metrics.jsonl to disk: the checkpoint written next relies on its lines."""
        if self._is_main:
            os.fsync(self._file.fileno())

    def advance(self, step: int) -> None:
        """Move the progress bar to `step` steps done."""
        if self._is_main:
            self._bar.update(step - self._bar.n)

    def end_bar(self) -> None:
        """Close the progress bar: all steps are done."""
        if self._is_main:
            self._bar.close()

    def _show(self, step: int, metrics: dict[str, Any]) -> None:
        if "loss" in metrics:
            self._postfix["loss"] = f"{metrics['loss']:.4f}"
        if "best" in metrics:
            self._postfix["best"] = f"{metrics['best']:.4f}"
        if self._has_terminal:
            self._bar.set_postfix(self._postfix, refresh=False)
        elif "loss" in metrics:
            timing = metrics["timing"]
            logging.getLogger(__name__).info(
                "step %d of %d, loss %s, lr %.2e, %.0f samples/s",
                step, self._num_steps, self._postfix["loss"], metrics["lr"], timing["samples_per_second"],
            )  # fmt: skip

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_main:
            return
        self._bar.close()
        self._others.close()
        for file in (self._writer, self._file):
            try:
                if file is not None:
                    file.close()
            except OSError:
                if error is None:  # on a full disk, closing repeats the error of the write before
                    raise


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of metrics.jsonl by their names in trackers: under the split's name or "train".

    {"split": "validation", "f1": 0.5, "per_type": {"PER": {"f1": 0.25}}} -> {"validation/f1": 0.5,
    "validation_f1_per_type/PER": 0.25}
    """
    group = metrics.get("split", "train")
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if name in ("timing", "per_type") and isinstance(value, dict):
            for part, number in value.items():
                if isinstance(number, dict):  # the metrics of a type
                    found[f"{group}_f1_per_type/{part}"] = number.get("f1", 0.0)
                else:
                    found[f"{group}_speed/{part}"] = number
        elif isinstance(value, int | float) and name not in NO_CURVES:
            found[f"{group}/{name}"] = value
    return found
