"""CUDA graphs: record the kernels of a step once for each shape, then launch them all at once.

A step of some hundred subwords launches about 700 small kernels, and launching them one by one takes several times as
long as running them.

What must hold: replaying changes no number. A recording calls the same functions on tensors of the same shapes, so it
holds the same kernels in the same order. Random numbers are not recorded: each replay reads the generator's seed and
offset and advances the offset, as the single kernels do. So it makes no difference which steps are replayed. A resumed
run, which starts without graphs, reaches the same bits as long as kernels are deterministic. Each new graph is
compared with the work that it replaces before it is used.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nerloop.types import Tensor

MAX_GRAPHS = 64
"""Graphs that are kept, a few megabytes each. Further shapes run without a graph."""

MAX_MEMORY = 0.4
"""Share of the device's memory that a run may have used when a graph is recorded. Graphs share memory of their own for
the activations of a step, so they can double what a run needs. Steps that large keep the device busy without graphs."""

TOLERANCE = 0.02
"""Largest difference between a graph and the work that it replaces, relative to the change that the work makes.

bf16 has 8 bits, and kernels that add in no fixed order differ between runs by less than a thousandth."""

log = logging.getLogger(__name__)

Groups = Sequence[Sequence[Tensor]]
Replay = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Graph:
    """Recorded work: the function that replays it, the tensors that it reads, the gradients that it sets."""

    replay: Replay
    inputs: Sequence[Tensor]
    grads: Sequence[tuple[nn.Parameter, Tensor | None]]  # a replay runs no Python, so `.grad` is set by hand


@dataclass(frozen=True, eq=False)
class State:
    """A snapshot of everything that work changes."""

    values: list[list[Tensor]]
    gradients: list[Tensor | None]  # the tensors in `.grad` themselves, not copies
    random: Tensor


class Graphs:
    """Run work; record it when its key occurs for the second time; replay it from then on.

    If a recording fails or disagrees, all graphs are dropped, work runs without them, and a warning says so.
    """

    def __init__(self, device: torch.device, parameters: Sequence[nn.Parameter]) -> None:
        """Take the device, and the parameters whose `.grad` the work sets."""
        self._device = device
        self._parameters = parameters
        self._graphs: dict[Hashable, Graph] = {}
        self._counts: Counter[Hashable] = Counter()
        self._is_on = True
        self._shared: tuple[Any, Any] | None = None  # memory pool and stream, shared because no two graphs run at once
        self._broken: Any = None  # a graph whose recording failed
        self.seconds = 0.0  # spent on recording and comparing

    def __len__(self) -> int:
        return len(self._graphs)

    def run(
        self,
        key: Hashable,
        work: Replay,
        recorded: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        mutated: Callable[[], Groups],
    ) -> Tensor:
        """Return the output of `work()`, on the device; the next call overwrites it.

        Args:
            key: everything that the work depends on, except the values of tensors
            work: runs without a graph
            recorded: does the same with the inputs on the device; it must not wait for the device
            inputs: tensors on the CPU
            mutated: returns the tensors that the work changes, in groups of similar magnitude
        """
        if (graph := self._graphs.get(key)) is not None:
            for place, value in zip(graph.inputs, inputs, strict=True):
                self._fill(place, value)
            output = graph.replay()
            for parameter, gradient in graph.grads:
                parameter.grad = gradient
            return output
        self._counts[key] += 1  # the first run initialises libraries; a recording can't do that
        if not self._is_on or self._counts[key] < 2 or len(self._graphs) >= MAX_GRAPHS or self._is_memory_short():
            return work()
        start = time.perf_counter()
        output = self._try(key, work, recorded, inputs, mutated())
        self.seconds += time.perf_counter() - start
        return output

    def _try(
        self,
        key: Hashable,
        work: Replay,
        recorded: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        mutated: Groups,
    ) -> Tensor:
        """Run the work, record it, and replay it from the same start; keep the graph if both agree."""
        try:
            before = self._state(mutated)
        except Exception as error:  # no memory for the snapshot
            self._switch_off(error)
            return work()
        output = work()
        after = None
        try:
            after = self._state(mutated)
            self._restore(before, mutated)  # also `.grad`: whether it is None decides what is recorded
            places = [value.to(self._device) for value in inputs]
            replay = self._record(lambda: recorded(*places))
            grads = [p.grad for p in self._parameters]  # recording put the graph's own tensors there
            self._restore(before, mutated)
            found = replay()
            self._set_grads(grads)
            self._compare(output, found, before, after, mutated)
        except Exception as error:  # CUDA, PyTorch and the model may raise anything while recording
            self._switch_off(error)
            if after is not None:
                self._restore(after, mutated)
            return output
        found_grads = zip(self._parameters, grads, before.gradients, strict=True)
        changed = [(parameter, gradient) for parameter, gradient, old in found_grads if gradient is not old]
        self._graphs[key] = Graph(replay, places, changed)
        return found

    def _is_memory_short(self) -> bool:
        if self._device.type != "cuda":
            return False
        total = torch.cuda.get_device_properties(self._device).total_memory
        return torch.cuda.max_memory_allocated(self._device) > MAX_MEMORY * total

    def _switch_off(self, error: Exception) -> None:
        self._graphs.clear()
        self._is_on = False
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("warning: CUDA graphs don't work here, training goes on without them: %s", problem)

    def _record(self, work: Replay) -> Replay:
        """Record work, without running it, and return the function that replays it. Cleans up if recording fails."""
        if self._shared is None:
            self._shared = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        (pool, stream), graph = self._shared, torch.cuda.CUDAGraph()
        index = torch.cuda.current_device()
        generator = torch.cuda.default_generators[index]
        spare = generator.clone_state()
        # thread_local: other threads (a notebook's, a progress bar's) may use CUDA meanwhile.
        recording = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        try:
            with torch.cuda.stream(stream), recording:  # restores the stream if `recording` fails to
                output = work()
        except Exception:
            # If ending a recording fails, PyTorch skips these two, and the generator would refuse every later draw.
            generator.graphsafe_set_state(spare)
            with contextlib.suppress(Exception):
                torch._C._cuda_endAllocateToPool(index, pool)
            self._broken = graph  # kept alive: the allocator may still refer to it
            raise

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    def _state(self, mutated: Groups) -> State:
        values = [[tensor.detach().clone() for tensor in group] for group in mutated]
        return State(values, [p.grad for p in self._parameters], self._random())

    def _restore(self, state: State, mutated: Groups) -> None:
        with torch.no_grad():
            for group, values in zip(mutated, state.values, strict=True):
                for tensor, value in zip(group, values, strict=True):
                    tensor.copy_(value)
        self._set_grads(state.gradients)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state.random, self._device)
        else:
            torch.set_rng_state(state.random)

    def _set_grads(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def _random(self) -> Tensor:
        """Return the state of the device's generator: seed and offset."""
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _fill(self, place: Tensor, value: Tensor) -> None:
        place.copy_(value.pin_memory() if self._device.type == "cuda" else value, non_blocking=True)

    def _compare(self, output: Tensor, found: Tensor, before: State, after: State, mutated: Groups) -> None:
        """Raise RuntimeError if a graph disagrees with the work that it replaces."""
        if not torch.equal(self._random(), after.random):
            raise RuntimeError("a graph draws other random numbers")
        if any(p.grad is not gradient for p, gradient in zip(self._parameters, after.gradients, strict=True)):
            raise RuntimeError("a graph leaves its gradients in another place")
        changes: list[tuple[Sequence[Tensor], ...]] = [([torch.zeros_like(output)], [output], [found])]
        changes += zip(before.values, after.values, mutated, strict=True)
        for number, (old, expected, new) in enumerate(changes):
            apart, change = _distance(new, expected), _distance(expected, old)
            if not apart <= TOLERANCE * change:  # written so that NaN counts as different
                raise RuntimeError(f"a graph is {apart:.1e} away from what it replaces (group {number}: {change:.1e})")


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the norm of a - b over all tensors."""
    norms = [(x.detach().double() - y.detach().double()).norm() for x, y in zip(a, b, strict=True)]
    return float(torch.stack(norms).norm()) if norms else 0.0
