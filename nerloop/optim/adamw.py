"""AdamW: PyTorch's fused one, or on CPUs in bf16 one that makes a single pass over gradients, moments and weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nerloop.kernels import bindings as kernels
from nerloop.optim.master_weights import Weights
from nerloop.types import Tensor


def adamw(groups: list[dict[str, Any]], *, weights: Weights, precision: str) -> torch.optim.Optimizer:
    """Return AdamW for parameter groups.

    It is fused, so it scales gradients and skips non-finite updates itself. Not so in fp16: the scaler always calls the
    step of a fused optimizer, and accelerate, which recognises a skipped update by a step that was not called, would
    miss it.
    """
    tensors = [*weights.master.parameters(), *weights.model.parameters()]
    if precision == "bf16" and all(kernels.is_supported(tensor) and tensor.is_contiguous() for tensor in tensors):
        return OnePassAdamW(groups, weights)
    return torch.optim.AdamW(groups, lr=0.0, fused=precision != "fp16")


class OnePassAdamW(torch.optim.AdamW):
    """AdamW on a CPU that goes from bf16 gradients to bf16 weights in one pass over moments and float32 weights.

    PyTorch's AdamW takes float32 gradients, so casting gradients and weights would need two more passes. The state has
    the same form as PyTorch's: either can continue from the other's checkpoint.
    """

    uses_compute_weights = True
    _step_supports_amp_scaling = True
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], weights: Weights) -> None:
        """Take the groups of the master weights; `weights` says which compute weight belongs to which of them."""
        super().__init__(groups, lr=0.0)
        self._compute_weights = dict(zip(weights.master.parameters(), weights.model.parameters(), strict=True))
        # Parameters that have a gradient in this step, and their chunks: the norm and the update share them.
        self._current: tuple[list[nn.Parameter], kernels.ParameterChunks] | None = None

    def gradient_norm(self) -> Tensor:
        """Return the L2 norm of all gradients together."""
        _, chunks = self._current = self._collect()
        return torch.tensor(chunks.norm())

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move master and compute weights by the gradients divided by `grad_scale`; do nothing if `found_inf`."""
        if self.found_inf:
            return
        moved, chunks = self._current or self._collect()
        counts = [self.state[p]["step"] for p in moved]
        torch._foreach_add_(counts, 1)
        groups = {p: group for group in self.param_groups for p in group["params"]}
        chunks.update(
            [float(count) for count in counts],
            [float(groups[p]["lr"]) for p in moved],
            [groups[p]["weight_decay"] for p in moved],
            betas=self.param_groups[0]["betas"],  # betas and epsilon are the same in all groups
            epsilon=self.param_groups[0]["eps"],
            factor=1.0 if self.grad_scale is None else 1.0 / float(self.grad_scale),
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Release the gradients, those of the compute weights too."""
        self._current = None
        super().zero_grad(set_to_none)
        for parameter in self._compute_weights.values():
            parameter.grad = None

    def _collect(self) -> tuple[list[nn.Parameter], kernels.ParameterChunks]:
        """Return the parameters that have a gradient, on the master or on the compute weight, and their chunks."""
        moved, tensors = [], []
        for parameter in (p for group in self.param_groups for p in group["params"]):
            compute_weight = self._compute_weights[parameter]
            gradient = compute_weight.grad if parameter.grad is None else parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
            moved.append(parameter)
            moments = (state["exp_avg"], state["exp_avg_sq"])
            tensors.append((parameter.detach(), *moments, gradient.contiguous(), compute_weight.detach()))
        return moved, kernels.ParameterChunks(tensors)
