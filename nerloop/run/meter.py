"""Measure the throughput and the padding of a training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nerloop.batching.plan import Step
from nerloop.run.environment import memory_gib
from nerloop.types import MicroBatch


class Meter:
    """Measures the throughput of the steps and this process's padding, since the last `read` and in total."""

    def __init__(self) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()
        self._since = _Counts()
        self._total = _Counts()

    def count(self, batch: MicroBatch, num_subwords: int) -> None:
        """Count a micro-batch: its cells, and how many of them hold subwords."""
        self._since.cells += batch.labels.numel()
        self._since.filled += num_subwords

    def end_step(self, step: Step) -> None:
        """Count a step."""
        self._since.samples += step.num_sentences
        self._since.subwords += step.num_subwords

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent in the block."""
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
    samples: int = 0  # sentences of all processes
    subwords: int = 0  # of all processes
    cells: int = 0  # of this process's micro-batches
    filled: int = 0  # cells that hold subwords
    seconds: float = 0.0

    def add(self, other: _Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def speed(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {"samples_per_second": self.samples / seconds, "subwords_per_second": self.subwords / seconds}

    def padding(self) -> float:
        return 1 - self.filled / max(1, self.cells)
