"""What a step does to the weights: the gradients of its micro-batches, then one update; on one GPU as CUDA graphs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.model.cu_seqlens import PackedLayout, few_borders
from nerloop.model.forward import logits_of
from nerloop.objectives import Objective
from nerloop.objectives.parameters import attached
from nerloop.optim.adamw import clip, takes_gradients_of_model, unwrapped
from nerloop.optim.cuda_graphs import Graphs
from nerloop.optim.master_weights import Weights
from nerloop.types import MicroBatch, Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

UNSTEADY = 200
"""Steps after which about all shapes have been met, and graphs been recorded."""


class TrainStep:
    """The gradient of micro-batches and the update of a step; nothing in it waits for the device."""

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
    ) -> None:
        """Take model and optimizer as accelerate prepared them, and the norm to clip to (0: none).

        `with_graphs` asks for CUDA graphs, which there are on one GPU and in bf16: of several, DDP hides the gradients'
        way behind the backward, which a graph knows nothing of; and float32 has no kernel for sentences side by side.
        """
        import torch

        self._accelerator, self._weights, self._model, self._optimizer = accelerator, weights, model, optimizer
        self._takes_gradients = takes_gradients_of_model(optimizer)  # and publishes the weights
        self._max_norm = max_norm or float("inf")
        self._objective = attached(weights.model, objective)
        self._device = accelerator.device
        self._parameters = [p for p in weights.master.parameters() if p.requires_grad]
        self._is_first = True  # micro-batch of its step
        self.first_bad = torch.full((), -1, device=self._device)  # step whose gradient was not finite
        self.graphs: Graphs | None = None
        is_possible = self._device.type == "cuda" and accelerator.num_processes == 1 and accelerator.scaler is None
        is_possible = is_possible and not getattr(objective, "needs_places", False)
        if with_graphs and is_possible and weights.model is not weights.master:
            self.use(Graphs(self._device, [*weights.master.parameters(), *weights.model.parameters()]))

    def use(self, graphs: Graphs) -> None:
        """Use graphs. What changes from step to step they find in tensors that stay where they are."""
        import torch

        self.graphs = graphs
        self._scale = torch.zeros((), device=self._device)
        self._lrs = [torch.zeros((), device=self._device) for _ in self._optimizer.param_groups]
        self._step = torch.zeros((), device=self._device, dtype=torch.int64)
        for group, rate in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = rate

    def num_unsteady(self, num_others: int) -> int:
        """Return behind how many steps the others look alike, leaving so many for them if there are."""
        return 0 if self.graphs is None else min(UNSTEADY, num_others)

    @property
    def timing(self) -> dict[str, float]:
        """What graphs cost, for the results: nothing without."""
        return {} if self.graphs is None else {"capture_seconds": self.graphs.seconds}

    def add_gradient(self, batch: MicroBatch, scale: float, *, is_last: bool) -> Tensor:
        """Add the gradient of `scale` times the loss to the step's; return the loss, summed over labelled subwords.

        The batch is on the CPU. With the last one of a step the gradients are summed up over the processes.
        """
        is_first, self._is_first = self._is_first, False
        if self.graphs is None or not batch.is_unpadded:
            is_only = is_last and (is_first or self._accelerator.num_processes > 1)
            return self._add_gradient(self._sent(batch), scale, is_last=is_last, is_only=is_only)
        width, names = batch.labels.shape[1], tuple(batch.inputs)
        borders, longest = few_borders([place.length for place in batch.places], width)

        def recorded(*tensors: Tensor) -> Tensor:
            *inputs, labels, borders = tensors
            static = MicroBatch(dict(zip(names, inputs, strict=True)), labels, (), is_unpadded=True)
            # Lengths that are known here would be those of this batch in every replay.
            layout = PackedLayout(np.zeros(0, np.int64), width, borders, longest)
            return self._add_gradient(static, self._scale, is_last=True, layout=layout)

        self._scale.fill_(scale)
        return self.graphs.run(
            (names, width, len(borders), longest, is_first),
            lambda: self._add_gradient(self._sent(batch), self._scale, is_last=True),
            recorded,
            [*batch.inputs.values(), batch.labels, borders],
            lambda: [self._weights.gradients],
        )

    def update(self, step: int, lr: float) -> Tensor:
        """Clip the gradient and move the weights, unless it is not finite; let go of it; return its norm.

        Which step's it was that was not finite `first_bad` says then, on the device; in fp16 the scaler deals with it.
        """
        self._is_first = True
        if self.graphs is None:
            for group in self._optimizer.param_groups:
                # On a GPU rounded as the tensor is that a graph reads it from, so that graphs change no bit.
                own = lr * group.get("lr_factor", 1.0)
                group["lr"] = own if self._device.type == "cpu" else float(np.float32(own))
            return self._update(step)
        for group, rate in zip(self._optimizer.param_groups, self._lrs, strict=True):
            rate.fill_(lr * group.get("lr_factor", 1.0))
        self._step.fill_(step)
        return self.graphs.run("update", lambda: self._update(self._step), self._recorded_update, [], self._moved)

    def _sent(self, batch: MicroBatch) -> MicroBatch:
        return batch.to(self._device, self._weights.model.dtype)

    def _add_gradient(
        self,
        batch: MicroBatch,
        scale: float | Tensor,
        *,
        is_last: bool,
        is_only: bool = False,  # what the model adds its gradients to is clear
        layout: PackedLayout | None = None,
    ) -> Tensor:
        accelerator = self._accelerator
        with contextlib.nullcontext() if is_last else accelerator.no_sync(self._model):
            with accelerator.autocast():
                logits = logits_of(self._model, batch, layout)
            loss: Tensor = self._objective.loss(logits, batch)
            accelerator.backward(loss * scale)
        is_taken = is_only and self._takes_gradients
        if not is_taken and (accelerator.num_processes == 1 or is_last):
            self._weights.accumulate_from_compute()
        return loss.detach()

    def _update(self, step: int | Tensor) -> Tensor:
        import torch

        norm = clip(self._accelerator, self._optimizer, self._parameters, self._max_norm)
        if self._accelerator.scaler is None:
            is_first_bad = (self.first_bad < 0) & ~torch.isfinite(norm)
            self.first_bad.copy_(torch.where(is_first_bad, step, self.first_bad))
        self._optimizer.step()
        self._optimizer.zero_grad()
        if not self._takes_gradients:
            self._weights.sync_to_compute()
        return norm

    def _recorded_update(self) -> Tensor:
        groups = self._optimizer.param_groups
        for group in groups:  # a fused optimizer does the same with and without, but asks for it while recording
            group["capturable"] = True
        try:
            return self._update(self._step)
        finally:
            for group in groups:
                group["capturable"] = False

    def _moved(self) -> Sequence[Sequence[Tensor]]:
        """Return what an update changes: gradients, which it scales, weights, the optimizer's state."""
        state: dict[str, list[Tensor]] = defaultdict(list)
        for tensors in unwrapped(self._optimizer).state.values():
            for name, tensor in tensors.items():
                state[name].append(tensor)
        master, model = self._weights.master, self._weights.model
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        groups = [gradients, *state.values(), list(master.parameters()), list(model.parameters())]
        return [*groups, list(master.buffers()), [self.first_bad]]


def fetching(values: Sequence[Tensor]) -> Callable[[], list[float]]:
    """Let the host have scalars of the device; the function that is returned waits for them and for nothing later."""
    import torch

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
