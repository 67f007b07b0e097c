"""Weights that the optimizer moves in float32, and the copy in bf16 that the model computes with.

Autocast casts every weight on every forward. Here they are cast once a step, and activations stay in bf16 between the
layers. (Micikevicius et al., Mixed Precision Training, 2018, keep a float32 master copy for the same reason: small
updates would vanish in the half-precision weights.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nerloop.types import Tensor

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Weights:
    """`master` is trained, saved and loaded; `model` computes. Without bf16 both are the same."""

    master: PreTrainedModel
    model: PreTrainedModel
    _gradients: dict[int, Tensor] = field(default_factory=dict)  # the master's, kept from step to step: see below

    @staticmethod
    def of(master: PreTrainedModel, precision: str) -> Weights:
        """Return the weights of a model for a precision ("bf16" or another one)."""
        if precision != "bf16":
            return Weights(master, master)
        # Buffers are one and the same: tables that stay as they are, and how far an embedding's untrained rows decayed.
        model = copy.deepcopy(master, {id(buffer): buffer for buffer in master.buffers()})
        cast_parameters(model)
        return Weights(master, model)

    def accumulate_from_compute(self) -> None:
        """Add the model's gradients to the master's, in float32, and clear them.

        What the optimizer lets go of is used again: fresh memory for all gradients would cost more than the copy.
        """
        import torch

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
        """The memory that the master's gradients are in whenever there are any; empty at first, and without bf16."""
        return list(self._gradients.values())

    def _gradient(self, index: int, parameter: Tensor) -> Tensor:
        if index not in self._gradients:
            self._gradients[index] = parameter.new_empty(parameter.shape)
        return self._gradients[index]

    def sync_to_compute(self) -> None:
        """Cast the master's weights for the model."""
        import torch

        if self.model is not self.master:
            with torch.no_grad():
                torch._foreach_copy_(list(self.model.parameters()), list(self.master.parameters()))


def cast_parameters(model: nn.Module) -> None:
    """Cast the parameters of a model to bf16 in place; buffers stay, since rotary positions need their precision."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
