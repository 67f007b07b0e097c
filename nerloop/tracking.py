"""What is said while training: TensorBoard, metrics.jsonl, the progress bar, and log lines that don't break it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from nerloop.batching import Step
from nerloop.hardware import memory_gib
from nerloop.runs import METRICS
from nerloop.types import MicroBatch

NO_CURVES = ("epoch", "tokens", "gold_spans")
"""Figures that say nothing as a curve over the steps."""


class Tracker:
    """Figures and texts on their way to TensorBoard, metrics.jsonl and the terminal; silent but on the main process."""

    def __init__(self, folder: Path, *, first_step: int, num_steps: int, is_main: bool) -> None:
        """Open the files of `folder`; TensorBoard drops what it has of steps from `first_step` on."""
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
        """See that the lines of metrics.jsonl are on the disk: a checkpoint that follows counts on them."""
        if self._is_main:
            os.fsync(self._file.fileno())

    def advance(self, step: int) -> None:
        """Move the progress bar to `step` steps done."""
        if self._is_main:
            self._bar.update(step - self._bar.n)

    def end_bar(self) -> None:
        """Take the progress bar off: the steps are done."""
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
                if error is None:  # on a full disk closing fails like the write before, which has been told
                    raise


class Meter:
    """Throughput of the steps and padding of this process's forwards, since the last reading and in all."""

    def __init__(self) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()
        self._since = _Counts()
        self._total = _Counts()

    def count(self, batch: MicroBatch, num_subwords: int) -> None:
        """Count one forward: its cells, and how many of them are subwords."""
        self._since.cells += batch.labels.numel()
        self._since.filled += num_subwords

    def end_step(self, step: Step) -> None:
        """Count a step."""
        self._since.samples += step.num_sentences
        self._since.subwords += step.num_subwords

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that passes inside."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Return samples and subwords a second, padding share and memory since the last reading, and start anew."""
        now = time.perf_counter()
        self._since.seconds, self._clock = now - self._clock, now
        found = {**self._since.speed(), "padding_share": self._since.padding(), "memory_gib": memory_gib()}
        self._total.add(self._since)
        self._since = _Counts()
        return found

    def total(self) -> dict[str, float]:
        """Return samples and subwords a second over all readings."""
        return self._total.speed()


@dataclass
class _Counts:
    samples: int = 0
    subwords: int = 0
    cells: int = 0
    filled: int = 0
    seconds: float = 0.0

    def add(self, other: _Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def speed(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {"samples_per_second": self.samples / seconds, "subwords_per_second": self.subwords / seconds}

    def padding(self) -> float:
        return 1 - self.filled / max(1, self.cells)


HOLD_SECONDS = 10.0


class _AboveTheBar(logging.Handler):
    """Log lines go above the progress bar instead of through it.

    What is said while a run is set up is held back until `let_out`, for some seconds at most: bad input, most of which
    is found by then, is to be told in one line and not behind a page of counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[str] = []
        self._hold_until = time.monotonic() + HOLD_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        self._held.append(self.format(record))
        if time.monotonic() >= self._hold_until:
            self.let_out()

    def let_out(self) -> None:
        """Write what was held back, and from now on at once."""
        from tqdm import tqdm

        self._hold_until = 0.0
        for line in self._held:
            tqdm.write(line, file=sys.stderr)
        self._held.clear()


def release_log() -> None:
    """Let out what was said while the run was set up; the input is good."""
    for handler in logging.getLogger("nerloop").handlers:
        if isinstance(handler, _AboveTheBar):
            handler.let_out()


def set_up_logging(level: str, *, is_main: bool) -> None:
    """Let nerloop's log lines of this level and above through on the main process, and keep the libraries quiet."""
    logger = logging.getLogger("nerloop")
    logger.handlers[:] = [_AboveTheBar()]
    logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    logger.propagate = False
    logger.setLevel(level.upper() if is_main else logging.ERROR)
    quiet_libraries()


def quiet_libraries() -> None:
    """Let transformers and the hub's client say nothing but errors."""
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    # It retries for half a minute with a line each; our own line says how it ended.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
