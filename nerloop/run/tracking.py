"""Write metrics to metrics.jsonl and TensorBoard, and show them in the terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from nerloop.run.folder import METRICS

NO_CURVES = ("epoch", "tokens", "gold_spans")
"""Metrics that are not drawn as curves over the steps."""


class Tracker:
    """Writes metrics and texts to metrics.jsonl, TensorBoard and the terminal. Only the main process writes."""

    def __init__(self, folder: Path, *, first_step: int, num_steps: int, is_main: bool) -> None:
        """Open the files of `folder`. TensorBoard drops its values of the steps after `first_step`."""
        self._is_main = is_main
        self._postfix: dict[str, str] = {}
        self._num_steps = num_steps
        if not is_main:
            return
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
        self._has_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not self._has_terminal,
        )

    def log(self, step: int, figures: dict[str, Any]) -> None:
        """Write one object to metrics.jsonl and its numbers to TensorBoard, under the split's name or "train"."""
        if not self._is_main:
            return
        self._file.write(json.dumps({"step": step, **figures}, ensure_ascii=False) + "\n")
        self._file.flush()
        group = figures.get("split", "train")
        for name, value in figures.items():
            if name in ("timing", "per_type") and isinstance(value, dict):
                for part, figure in value.items():
                    if isinstance(figure, dict):
                        self._writer.add_scalar(f"{group}_f1_per_type/{part}", figure.get("f1", 0.0), step)
                    else:
                        self._writer.add_scalar(f"{group}_speed/{part}", figure, step)
            elif isinstance(value, int | float) and name not in NO_CURVES:
                self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
        self._show(step, figures)

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text to TensorBoard."""
        if self._is_main:
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

    def _show(self, step: int, figures: dict[str, Any]) -> None:
        if "loss" in figures:
            self._postfix["loss"] = f"{figures['loss']:.4f}"
        if "best" in figures:
            self._postfix["best"] = f"{figures['best']:.4f}"
        if self._has_terminal:
            self._bar.set_postfix(self._postfix, refresh=False)
        elif "loss" in figures:
            timing = figures["timing"]
            logging.getLogger(__name__).info(
                "step %d of %d, loss %s, lr %.2e, %.0f samples/s",
                step, self._num_steps, self._postfix["loss"], figures["lr"], timing["samples_per_second"],
            )  # fmt: skip

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_main:
            return
        self._bar.close()
        for file in (self._writer, self._file):
            try:
                file.close()
            except OSError:
                if error is None:  # on a full disk, closing repeats the error of the write before
                    raise
