"""One optimizer step: the gradients of its micro-batches, then the update; on one GPU optionally as CUDA graphs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nerloop.errors import PluginError
from nerloop.model.cu_seqlens import PackedLayout, rounded_cu_seqlens
from nerloop.model.forward import logits_of
from nerloop.objectives import Objective
from nerloop.objectives.parameters import attached
from nerloop.optim.cuda_graphs import Graphs
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import clip_and_step, skips_non_finite, unwrapped, uses_compute_weights
from nerloop.plugins import title_of
from nerloop.types import MicroBatch, Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

WARMUP_STEPS = 200
"""Steps after which nearly all shapes have occurred, and their graphs are recorded."""


class TrainStep:
    """Adds up the gradients of micro-batches and updates the weights.

    With an optimizer that `skips_non_finite` nothing here waits for the device, so a GPU always has work queued.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        weights: Weights,
        model: Any,
        optimizer: Any,
        max_norm: float = 0.0,
        with_graphs: bool = False,
        *,
        objective: Objective,
        record: Callable[[Tensor, MicroBatch], None] | None = None,
    ) -> None:
        """Take model and optimizer as accelerate prepared them, and the norm to clip to (0: no clipping).

        `record` is called with the logits of each micro-batch. It turns graphs off, since a replay would not call it.

        `with_graphs` asks for CUDA graphs, which need one GPU and bf16. On several GPUs DDP exchanges gradients during
        the backward, outside the graph; and float32 has no attention kernel for packed rows.
        """
        self._accelerator, self._weights, self._model, self._optimizer = accelerator, weights, model, optimizer
        self._uses_compute_weights = uses_compute_weights(optimizer)
        # PyTorch's fused optimizers. Others need the norm on the host, and many refuse a learning rate in a tensor.
        is_fused = all(group.get("fused", False) for group in optimizer.param_groups)
        self._is_update_recorded = is_fused and skips_non_finite(optimizer)
        self._max_norm = max_norm or float("inf")
        self._objective = attached(weights.model, objective)
        self._record = record
        self._device = accelerator.device
        self._parameters = [p for p in weights.master.parameters() if p.requires_grad]
        self._is_first = True  # whether the next micro-batch is the first of its step
        self.first_bad = torch.full((), -1, device=self._device)  # first step with a non-finite gradient
        self.graphs: Graphs | None = None
        # A recorded micro-batch has inputs and labels, but neither places nor targets.
        needs_more = getattr(objective, "needs_places", False) or getattr(objective, "teachers", ())
        is_possible = self._device.type == "cuda" and accelerator.num_processes == 1 and accelerator.scaler is None
        is_possible = is_possible and not needs_more and record is None
        if with_graphs and is_possible and weights.model is not weights.master:
            self.use_graphs(Graphs(self._device, [*weights.master.parameters(), *weights.model.parameters()]))

    def use_graphs(self, graphs: Graphs) -> None:
        """Use graphs from now on. Values that change from step to step are in tensors, which a replay reads again."""
        self.graphs = graphs
        self._scale = torch.zeros((), device=self._device)
        if not self._is_update_recorded:
            return
        self._lrs = [torch.zeros((), device=self._device) for _ in self._optimizer.param_groups]
        self._step = torch.zeros((), device=self._device, dtype=torch.int64)
        for group, rate in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = rate

    def num_warmup_steps(self, num_others: int) -> int:
        """Return how many steps to skip before profiling, at most `num_others`: those that record graphs."""
        return 0 if self.graphs is None else min(WARMUP_STEPS, num_others)

    @property
    def timing(self) -> dict[str, float]:
        """Entries for `timing` in results.json: the seconds spent on recording graphs, if graphs are used."""
        return {} if self.graphs is None else {"capture_seconds": self.graphs.seconds}

    def backward(self, batch: MicroBatch, scale: float, *, is_last: bool) -> Tensor:
        """Add the gradient of `scale` times the loss; return the loss, summed over labelled subwords.

        The batch is on the CPU. The last one of a step also sums the gradients over the processes.
        """
        is_first, self._is_first = self._is_first, False
        if self.graphs is None or not batch.is_unpadded:
            # Several processes add up all micro-batches in the compute weights' gradients, where DDP sums them. One
            # process moves each micro-batch's gradient to the master's, in float32.
            is_whole = is_last and (is_first or self._accelerator.num_processes > 1)
            return self._backward(self._on_device(batch), scale, is_last=is_last, is_whole=is_whole)
        width, names = batch.labels.shape[1], tuple(batch.inputs)
        cu_seqlens, max_seqlen = rounded_cu_seqlens([place.length for place in batch.places], width)

        def recorded(*tensors: Tensor) -> Tensor:
            *inputs, labels, cu_seqlens = tensors
            static = MicroBatch(dict(zip(names, inputs, strict=True)), labels, (), is_unpadded=True)
            # No lengths: a replay would use the lengths of this batch for every later one.
            layout = PackedLayout(np.zeros(0, np.int64), width, cu_seqlens, max_seqlen)
            return self._backward(static, self._scale, is_last=True, layout=layout)

        self._scale.fill_(scale)
        return self.graphs.run(
            (names, width, len(cu_seqlens), max_seqlen, is_first),
            lambda: self._backward(self._on_device(batch), self._scale, is_last=True),
            recorded,
            [*batch.inputs.values(), batch.labels, cu_seqlens],
            lambda: [self._weights.gradients],
        )

    def update(self, step: int, lr: float) -> Tensor:
        """Clip the gradient, update the weights unless it is not finite, and clear it; return its norm.

        The first step with a non-finite gradient is kept in `first_bad`, on the device. In fp16 the scaler handles it.
        """
        self._is_first = True
        if self.graphs is None or not self._is_update_recorded:
            for group in self._optimizer.param_groups:
                # On a GPU rounded to float32, like the tensor that a graph reads it from, so graphs change no bit.
                own = lr * group.get("lr_factor", 1.0)
                group["lr"] = own if self._device.type == "cpu" else float(np.float32(own))
            return self._update(step)
        for group, rate in zip(self._optimizer.param_groups, self._lrs, strict=True):
            rate.fill_(lr * group.get("lr_factor", 1.0))
        self._step.fill_(step)
        # A graph updates what had a gradient when it was recorded; a model may leave parameters out of a step.
        key = ("update", tuple(p.grad is not None for p in self._parameters))
        return self.graphs.run(key, lambda: self._update(self._step), self._recorded_update, [], self._mutated)

    def _on_device(self, batch: MicroBatch) -> MicroBatch:
        return batch.to(self._device, self._weights.model.dtype)

    def _backward(
        self,
        batch: MicroBatch,
        scale: float | Tensor,
        *,
        is_last: bool,
        is_whole: bool = False,  # whether the compute weights then hold the gradient of the whole step
        layout: PackedLayout | None = None,
    ) -> Tensor:
        accelerator = self._accelerator
        with contextlib.nullcontext() if is_last else accelerator.no_sync(self._model):
            with accelerator.autocast():
                logits = logits_of(self._model, batch, layout)
            loss: Tensor = self._objective.loss(logits, batch)
            if not isinstance(loss, torch.Tensor) or loss.dim() != 0:  # costs no time: it asks nothing of the device
                raise PluginError(_not_a_loss(self._objective, loss))
            accelerator.backward(loss * scale)
        if self._record is not None:
            self._record(logits.detach(), batch)
        # An optimizer that reads the compute weights' gradients takes them from there if they are complete.
        is_taken = is_whole and self._uses_compute_weights
        if not is_taken and (accelerator.num_processes == 1 or is_last):
            self._weights.accumulate_from_compute()
        return loss.detach()

    def _update(self, step: int | Tensor) -> Tensor:
        norm = clip_and_step(self._accelerator, self._optimizer, self._parameters, self._max_norm)
        if self._accelerator.scaler is None:
            is_first_bad = (self.first_bad < 0) & ~torch.isfinite(norm)
            self.first_bad.copy_(torch.where(is_first_bad, step, self.first_bad))
        self._weights.sync_to_compute(is_written=self._uses_compute_weights)
        return norm

    def _recorded_update(self) -> Tensor:
        groups = self._optimizer.param_groups
        for group in groups:  # PyTorch asks for it while recording; a fused optimizer computes the same
            group["capturable"] = True
        try:
            return self._update(self._step)
        finally:
            for group in groups:
                group["capturable"] = False

    def _mutated(self) -> Sequence[Sequence[Tensor]]:
        """Return the tensors that an update changes: gradients (scaled), the optimizer's state, weights, buffers."""
        state: dict[str, list[Tensor]] = defaultdict(list)
        for tensors in unwrapped(self._optimizer).state.values():
            for name, tensor in tensors.items():
                state[name].append(tensor)
        master, model = self._weights.master, self._weights.model
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        groups = [gradients, *state.values(), list(master.parameters()), list(model.parameters())]
        return [*groups, list(master.buffers()), [self.first_bad]]


def _not_a_loss(objective: Objective, found: object) -> str:
    """Return the message about a loss that is no scalar."""
    what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
    return f"{title_of('objective', objective)}: loss returned {what}, expected a scalar tensor"


def fetching(values: Sequence[Tensor]) -> Callable[[], list[float]]:
    """Start copying scalars to the host; return a function that waits for them, but not for work queued later."""
    joined = torch.stack([value.double() for value in values])
    if joined.device.type != "cuda":
        return joined.tolist
    host = torch.empty(joined.shape, dtype=joined.dtype, pin_memory=True)
    host.copy_(joined, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def fetch() -> list[float]:
        arrived.synchronize()
        return host.tolist()

    return fetch
