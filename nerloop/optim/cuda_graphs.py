"""CUDA graphs: work on a GPU is recorded once for its shapes, and started again as a whole.

A step of some hundred subwords is two thousand small kernels, which take longer to start one by one than to run. What
is recorded is what runs without graphs: the same functions on tensors of the same shapes, so the same kernels in the
same order. Random numbers don't stand in a graph: each replay takes them from the generator's seed and offset of the
moment and moves the offset on, as the kernels do one by one. So it makes no difference which steps are replayed, and a
resumed run, whose first steps find no graph, goes on to the same bits wherever kernels are deterministic at all. Each
graph is compared with the work that it replaces before it takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerloop.types import Tensor

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST = 64
"""Graphs that are kept, some megabytes each; what comes behind runs as without."""

TOLERANCE = 0.02
"""How far a graph may be from what it replaces, as a share of the change that this makes: bf16 has 8 bits, and kernels
that add up in no fixed order differ from run to run by less than a thousandth."""

log = logging.getLogger(__name__)

Groups = Sequence[Sequence[Tensor]]
Replay = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Graph:
    """Recorded work: what starts it and returns its output, where it reads, what it makes `.grad` point to."""

    replay: Replay
    inputs: Sequence[Tensor]
    pointed: Sequence[tuple[nn.Parameter, Tensor | None]]


@dataclass(frozen=True, eq=False)
class State:
    """What a work changes, as it was at some moment."""

    values: list[list[Tensor]]
    gradients: list[Tensor | None]  # what `.grad` pointed to
    random: Tensor


class Graphs:
    """Does work, the second time that its shapes are met records it, from then on replays it.

    Where one recording fails or disagrees, everything is done as without graphs from then on, and a line says so.
    """

    def __init__(self, device: torch.device, parameters: Sequence[nn.Parameter]) -> None:
        """Take the device, and the parameters whose `.grad` the work sets."""
        self._device = device
        self._parameters = parameters
        self._graphs: dict[Hashable, Graph] = {}
        self._met: Counter[Hashable] = Counter()
        self._is_on = True
        self._shared: tuple[Any, Any] | None = None  # pool of memory and stream: no two graphs run at once
        self._broken: Any = None
        self.seconds = 0.0  # that recording and comparing took

    def __len__(self) -> int:
        return len(self._graphs)

    def run(
        self,
        key: Hashable,
        work: Replay,
        recorded: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        touched: Callable[[], Groups],
    ) -> Tensor:
        """Return the output of `work()`, on the device; what it is good for ends with the next call.

        Args:
            key: what the work depends on but for the values of tensors
            work: does it as without graphs
            recorded: does the same with the inputs, on the device; it must not wait for anything that runs there
            inputs: on the CPU
            touched: gives the tensors that it changes, in groups of one magnitude
        """
        if (graph := self._graphs.get(key)) is not None:
            for place, value in zip(graph.inputs, inputs, strict=True):
                self._fill(place, value)
            output = graph.replay()
            for parameter, gradient in graph.pointed:
                parameter.grad = gradient
            return output
        self._met[key] += 1  # the first time sets up what a recording could not: libraries, their kernels
        if not self._is_on or self._met[key] < 2 or len(self._graphs) >= MOST:
            return work()
        start = time.perf_counter()
        output = self._try(key, work, recorded, inputs, touched())
        self.seconds += time.perf_counter() - start
        return output

    def _try(
        self,
        key: Hashable,
        work: Replay,
        recorded: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        touched: Groups,
    ) -> Tensor:
        """Do the work, record it, and do it once more by the graph from the same start; keep that if both agree."""
        try:
            before = self._state(touched)
        except Exception as error:  # no memory for it
            self._end(error)
            return work()
        output = work()
        after = None
        try:
            after = self._state(touched)
            self._restore(before, touched)
            places = [value.to(self._device) for value in inputs]
            replay = self._record(lambda: recorded(*places))
            pointed = [p.grad for p in self._parameters]
            self._restore(before, touched)
            found = replay()
            self._point(pointed)
            self._compare(output, found, before, after, touched)
        except Exception as error:  # whatever CUDA, PyTorch or the model says of a recording
            self._end(error)
            if after is not None:
                self._restore(after, touched)
            return output
        changed = [c for c, a in zip(zip(self._parameters, pointed, strict=True), before.gradients, strict=True)
                   if c[1] is not a]  # fmt: skip
        self._graphs[key] = Graph(replay, places, changed)
        return found

    def _end(self, error: Exception) -> None:
        self._graphs.clear()
        self._is_on = False
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("warning: CUDA graphs don't work here, training goes on without them: %s", problem)

    def _record(self, work: Replay) -> Replay:
        """Return what replays a work that is recorded, not done; what it leaves where it fails is put right."""
        import torch

        if self._shared is None:
            self._shared = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        (pool, stream), graph = self._shared, torch.cuda.CUDAGraph()
        index = torch.cuda.current_device()
        generator = torch.cuda.default_generators[index]
        spare = generator.clone_state()
        # Other threads, a notebook's or a progress bar's, may use CUDA meanwhile.
        recording = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        try:
            with torch.cuda.stream(stream), recording:  # twice: where its end fails, the inner one stays on the stream
                output = work()
        except Exception:
            # PyTorch does not get to these where the end fails: the generator would refuse every draw from then on.
            generator.graphsafe_set_state(spare)
            with contextlib.suppress(Exception):
                torch._C._cuda_endAllocateToPool(index, pool)
            self._broken = graph  # the allocator may still know of it
            raise

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    def _state(self, touched: Groups) -> State:
        values = [[tensor.detach().clone() for tensor in group] for group in touched]
        return State(values, [p.grad for p in self._parameters], self._random())

    def _restore(self, state: State, touched: Groups) -> None:
        import torch

        with torch.no_grad():
            for group, values in zip(touched, state.values, strict=True):
                for tensor, value in zip(group, values, strict=True):
                    tensor.copy_(value)
        self._point(state.gradients)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state.random, self._device)
        else:
            torch.set_rng_state(state.random)

    def _point(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def _random(self) -> Tensor:
        """Return the state of the generator: seed and offset."""
        import torch

        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _fill(self, place: Tensor, value: Tensor) -> None:
        place.copy_(value.pin_memory() if self._device.type == "cuda" else value, non_blocking=True)

    def _compare(self, output: Tensor, found: Tensor, before: State, after: State, touched: Groups) -> None:
        """Raise RuntimeError where a graph is unlike the work that it replaces."""
        import torch

        if not torch.equal(self._random(), after.random):
            raise RuntimeError("a graph draws other random numbers")
        if any(p.grad is not gradient for p, gradient in zip(self._parameters, after.gradients, strict=True)):
            raise RuntimeError("a graph leaves its gradients in another place")
        changes: list[tuple[Sequence[Tensor], ...]] = [([torch.zeros_like(output)], [output], [found])]
        changes += zip(before.values, after.values, touched, strict=True)
        for number, (old, expected, new) in enumerate(changes):
            apart, change = _distance(new, expected), _distance(expected, old)
            if not apart <= TOLERANCE * change:  # so written, NaN counts as apart
                raise RuntimeError(f"a graph is {apart:.1e} away from what it replaces (group {number}: {change:.1e})")


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the norm of a - b over all tensors."""
    import torch

    norms = [(x.detach().double() - y.detach().double()).norm() for x, y in zip(a, b, strict=True)]
    return float(torch.stack(norms).norm()) if norms else 0.0
