"""Log the metrics and the throughput of a training while it runs, and trace some of its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nerloop.batching.plan import Step
from nerloop.run.meter import Meter
from nerloop.run.profiling import profiling
from nerloop.run.trackers import TENSORBOARD
from nerloop.run.tracking import Tracker, scalars
from nerloop.types import MicroBatch


class Monitor:
    """Collects the metrics of steps and evaluations; only the main process writes them.

    They go to metrics.jsonl, the trackers and the terminal. The metrics of a step are read from a GPU one step later,
    when they have arrived, so the loop never waits for the device. At most one step is pending.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        num_steps: int,
        is_main: bool,
        check_finite: Callable[[int], None],
        trace_steps: int = 0,
        warmup_steps: int = 0,
        trackers: Sequence[str] = (TENSORBOARD,),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Take where to write and what to trace.

        Args:
            folder: the run's folder
            first_step: steps done before, by the run that is resumed
            num_steps: steps of the whole training
            is_main: whether this process writes
            check_finite: called with the first step whose gradient was not finite, or -1; raises TrainingError
            trace_steps: steps to trace for run.profile (0: none)
            warmup_steps: steps before the trace
            trackers: names of `run.trackers`
            settings: by dotted name, for trackers
        """
        self._tracker = Tracker(
            folder, first_step=first_step, num_steps=num_steps, is_main=is_main, trackers=trackers, settings=settings
        )
        self._trace = profiling(trace_steps, folder, is_main=is_main, skipped=warmup_steps)
        self._check_finite = check_finite
        self._meter = Meter()
        self._pending: Callable[[], None] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Monitor:
        self._open.enter_context(self._tracker)
        self._end_of_trace_step = self._open.enter_context(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Exclude the time spent in the block from the throughput."""
        return self._meter.paused()

    def count(self, batch: MicroBatch, num_subwords: int) -> None:
        """Count a micro-batch of this process: its cells, and how many of them hold subwords."""
        self._meter.count(batch, num_subwords)

    def end_step(self, step: int, batch: Step) -> None:
        """Count the step that `batch` describes; `step` steps are now done."""
        self._meter.end_step(batch)
        self._tracker.advance(step)
        self._end_of_trace_step()

    def log_step(
        self, step: int, fetch: Callable[[], Sequence[float]], *, weight: float, epoch: float, lr: float
    ) -> None:
        """Log the metrics of a step at the next `flush`.

        Args:
            step: steps done
            fetch: waits for and returns the first step that was not finite (or -1), the loss sum, the gradient norm
            weight: of the batch; the loss is divided by it
            epoch: epochs done
            lr: the learning rate
        """

        def log() -> None:
            first_bad, loss, grad_norm = fetch()
            self._check_finite(int(first_bad))
            metrics = {"epoch": epoch, "loss": loss / weight, "grad_norm": grad_norm, "lr": lr}
            self._tracker.log(step, metrics | {"timing": self._meter.read()})

        self._pending = log

    def flush(self) -> None:
        """Log the pending step. Raises TrainingError if a gradient was not finite."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()

    def log_evaluation(self, step: int, metrics: Mapping[str, Any], *, epoch: float, best: float | None) -> None:
        """Log the metrics of the validation split."""
        self._tracker.log(step, {"epoch": epoch, "split": "validation", **metrics, "best": best})

    def log_best(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Log the metrics of the best weights to the trackers alone, at the last step."""
        self._tracker.log_scalars(step, scalars({"split": f"{split}_best", **metrics}))

    def log_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text to TensorBoard."""
        self._tracker.log_text(tag, markdown, step)

    def sync(self) -> None:
        """Sync metrics.jsonl to disk: the checkpoint written next relies on its lines."""
        self._tracker.sync()

    def end_steps(self) -> dict[str, float]:
        """Remove the progress bar and return samples and subwords a second over the whole training."""
        self._tracker.end_bar()
        return self._meter.total()
