"""Trace some steps, for ui.perfetto.dev, chrome://tracing or TensorBoard with torch-tb-profiler."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = "profile"
SKIPPED = 5
"""Steps before the trace. The first ones allocate memory and are slower than the others."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def profiling(num_steps: int, folder: Path, *, is_main: bool, skipped: int = SKIPPED) -> Iterator[Callable[[], None]]:
    """Give a function to call after every step; a trace of `num_steps` steps (0: none) goes into folder/profile.

    The trace begins after `skipped` steps, at least one. A run that ends early leaves a shorter trace.
    """
    if not num_steps or not is_main:
        yield lambda: None
        return
    import torch
    from torch import profiler

    if torch.cuda.is_available():  # without these, ending the profiler may crash a process with CUDA graphs
        os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
        os.environ.setdefault("TEARDOWN_CUPTI", "0")

    def write(trace: profiler.profile) -> None:
        profiler.tensorboard_trace_handler(str(folder / FOLDER))(trace)
        log.info(
            "traced %d steps; open the file in %s in ui.perfetto.dev or chrome://tracing", num_steps, folder / FOLDER
        )

    schedule = profiler.schedule(wait=skipped - 1, warmup=1, active=num_steps, repeat=1)
    with profiler.profile(schedule=schedule, on_trace_ready=write, record_shapes=True) as trace:
        yield trace.step
