"""Set up and tear down everything around a training: accelerate, logging, signals, and the run's folder."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from nerloop.config import Config, validate
from nerloop.distributed import launch
from nerloop.distributed.collectives import broadcast_from_main
from nerloop.distributed.precision import hint_at_bf16
from nerloop.run import resume
from nerloop.run.atomic import write_json
from nerloop.run.environment import environment
from nerloop.run.folder import ENVIRONMENT, Run
from nerloop.run.lock import FolderLock
from nerloop.run.logging import logging_to_terminal, release_log
from nerloop.run.signals import Interruption
from nerloop.run.trackers import check_trackers

log = logging.getLogger("nerloop.train")


@dataclass(frozen=True, eq=False)
class Session:
    """One launch of a training: its Accelerator, precision ("no", "bf16", "fp16", "float64"), and signals."""

    config: Config
    accelerator: Accelerator
    precision: str
    interruption: Interruption
    started: float  # time.perf_counter() at the start, for the time to the first step
    _held: contextlib.ExitStack = field(
        repr=False
    )  # closed in reverse order when the session ends, also after an error

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run's files."""
        return bool(self.accelerator.is_main_process)

    def open_run(self, identity: dict[str, Any]) -> Run:
        """Create or reopen the run's folder and lock it until the session ends. Call it on every process.

        From here on a signal stops the run between two steps, and status.json records how the run ended.
        `identity` holds values that must be the same on resume, in addition to the settings. Raises ConfigError or
        CheckpointError if the folder can't be used.
        """
        self._held.enter_context(self.interruption)
        lock = self._held.enter_context(FolderLock())
        run = broadcast_from_main(self.accelerator, lambda: resume.open_run(self.config, identity, lock))
        release_log()
        if run.results is not None:
            log.info("%s is done", run.folder)
            return run
        if self.is_main:
            write_json(run.folder / ENVIRONMENT, environment(self.accelerator, self.precision) | identity)
        self._held.enter_context(run.recording_failure(self.is_main))
        return run


@contextlib.contextmanager
def open_session(config: Config, *, started: float | None = None) -> Iterator[Session]:
    """Set up accelerate and yield the Session; restore threads, logging and signal handlers on exit.

    Nothing is written before `Session.open_run`. Raises ConfigError for settings or launches that can't be used.
    """
    started = time.perf_counter() if started is None else started
    validate(config)
    check_trackers(config.run.trackers)
    with contextlib.ExitStack() as held:
        held.enter_context(keeping_torch_settings())
        accelerator, precision = launch.start(config)
        held.enter_context(logging_to_terminal(config.run.log_level, is_main=accelerator.is_main_process))
        hint_at_bf16(config, precision)
        set_seed(config.train.seed)  # the same on every process, so that new heads start with equal weights
        broadcast_from_main(accelerator, lambda: resume.check_free(config))  # fail early, before the data is read
        yield Session(config, accelerator, precision, Interruption(accelerator.num_processes), started, held)


@contextlib.contextmanager
def keeping_torch_settings() -> Iterator[None]:
    """Restore the number of threads, deterministic mode and cudnn.benchmark on exit, for notebooks."""
    threads, is_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic)
        torch.backends.cudnn.benchmark = benchmark
