"""Float32 master weights, which the optimizer moves, and their bf16 copy, which the model computes with.

Autocast would cast every weight in every forward. Here weights are cast once a step, and activations stay in bf16
between layers. Master weights are needed because small updates vanish in bf16 (Micikevicius et al., Mixed Precision
Training, 2018).
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn

from nerloop.errors import TrainingError
from nerloop.types import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Weights:
    """`master` is trained, saved and loaded; `model` computes. Without bf16 they are one object."""

    master: PreTrainedModel
    model: PreTrainedModel
    _gradients: dict[int, Tensor] = field(default_factory=dict)  # memory for the master's gradients, kept across steps

    @staticmethod
    def of(master: PreTrainedModel, precision: str) -> Weights:
        """Return the weights of a model for a precision ("bf16" makes a copy, all others don't)."""
        if precision != "bf16":
            return Weights(master, master)
        # Both share buffers: constant tables, and the decay of a pruned embedding's unused rows.
        model = copy.deepcopy(master, {id(buffer): buffer for buffer in master.buffers()})
        cast_parameters(model)
        return Weights(master, model)

    def accumulate_from_compute(self) -> None:
        """Add the model's gradients to the master's, in float32, and clear them.

        The memory of the master's gradients is reused in every step: allocating it anew would cost more than the copy.
        """
        if self.model is self.master:
            return
        targets, sources = [], []
        for i, (target, source) in enumerate(zip(self.master.parameters(), self.model.parameters(), strict=True)):
            if source.grad is None:
                continue
            if target.grad is None:
                target.grad = self._gradient(i, target)
                targets.append(target.grad)
                sources.append(source.grad)
            else:
                target.grad.add_(source.grad)
            source.grad = None
        if targets:
            torch._foreach_copy_(targets, sources)

    @property
    def gradients(self) -> list[Tensor]:
        """The memory of the master's gradients; empty before the first step, and without bf16."""
        return list(self._gradients.values())

    def _gradient(self, index: int, parameter: Tensor) -> Tensor:
        if index not in self._gradients:
            self._gradients[index] = parameter.new_empty(parameter.shape)
        return self._gradients[index]

    def sync_to_compute(self, *, is_written: bool = False) -> None:
        """Cast the master's weights into the model; `is_written`: the optimizer has done so already.

        Every change of the compute weights ends with this call, so it always increments their version counters. Packed
        weights (kernels/modules.py) rely on that: PyTorch does not notice an optimizer that writes through a pointer.
        """
        if self.model is self.master:
            return
        if is_written:
            torch.autograd.graph.increment_version(list(self.model.parameters()))
        else:
            with torch.no_grad():
                torch._foreach_copy_(list(self.model.parameters()), list(self.master.parameters()))


def cast_parameters(model: nn.Module) -> None:
    """Cast the parameters of a model to bf16 in place. Buffers keep their type: rotary positions need it."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)


def check_equal_weights(master: nn.Module) -> None:
    """Raise TrainingError unless all processes of the launch hold the same weights; all of them must call it.

    DistributedDataParallel copies rank 0's weights only into the model that computes. In bf16 that is not the master,
    so the masters are equal only if every process loaded and initialised the same model.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    checksums: list[int | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(checksums, checksum(master))
    if len(set(checksums)) > 1:
        ranks = [rank for rank, value in enumerate(checksums) if value != checksums[0]]
        raise TrainingError(
            f"the processes start with different weights: process {', '.join(map(str, ranks))} differs from process 0; "
            "do all machines read the same model?"
        )


def checksum(model: nn.Module) -> int:
    """Return a CRC-32 of the bytes of all parameters, in order."""
    value = 0
    for parameter in model.parameters():
        value = zlib.crc32(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, value)
    return value
