"""AdamW, and clipping that costs no pass over the gradients but the one that measures them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from nerloop.kernels import bindings as kernels
from nerloop.optim.groups import parameter_groups
from nerloop.optim.master_weights import Weights
from nerloop.optim.pruned_embedding import let_decay
from nerloop.types import Tensor

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn


def build_optimizer(weights: Weights, weight_decay: float, precision: str) -> torch.optim.Optimizer:
    """Return AdamW: fused, which scales gradients and skips updates whose `found_inf` is set, but in fp16.

    There the scaler calls a fused optimizer's step always, and accelerate, which looks whether it was called, takes no
    update for a skipped one. In bf16 on a CPU with kernels it is one of a single pass.
    """
    import torch

    groups = parameter_groups(weights.master, weight_decay)
    tensors = [*weights.master.parameters(), *weights.model.parameters()]
    optimizer: torch.optim.Optimizer
    if precision == "bf16" and all(kernels.is_supported(tensor) and tensor.is_contiguous() for tensor in tensors):
        optimizer = _one_pass()(groups, weights)
    else:
        optimizer = torch.optim.AdamW(groups, lr=0.0, fused=precision != "fp16")
    let_decay(weights.master, optimizer)
    return optimizer


def takes_gradients_of_model(optimizer: Any) -> bool:
    """Whether an optimizer takes the gradients of one backward where the model left them, and publishes the weights."""
    return isinstance(unwrapped(optimizer), _one_pass())


def clip(accelerator: Accelerator, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Let the next update use gradients of at most `max_norm`, or none where their norm is not finite; return the norm.

    A fused optimizer divides by `grad_scale` and looks at `found_inf` on its way, without asking the host. In fp16 the
    scaler does the latter, and the gradients are scaled here.
    """
    import torch

    if accelerator.scaler is not None:
        norm: Tensor = accelerator.clip_grad_norm_(parameters, max_norm)
        return norm
    adamw = unwrapped(optimizer)
    if takes_gradients_of_model(adamw):
        norm = adamw.norm()
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    adamw.grad_scale = torch.clamp(norm / max_norm, min=1.0).float()
    adamw.found_inf = (~torch.isfinite(norm)).float()
    return norm


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that accelerate has wrapped, or itself."""
    return getattr(optimizer, "optimizer", optimizer)


@cache
def _one_pass() -> Any:
    import torch

    class OnePassAdamW(torch.optim.AdamW):
        """AdamW on a CPU: from gradients in bf16 to weights in bf16 in one pass over moments and float32 weights.

        PyTorch's takes float32 gradients, and leaves the casts of gradients and weights to two more passes. Its state
        is the same.
        """

        grad_scale: Tensor | None = None
        found_inf: Tensor | None = None

        def __init__(self, groups: list[dict[str, Any]], weights: Weights) -> None:
            super().__init__(groups, lr=0.0)
            self._computing = dict(zip(weights.master.parameters(), weights.model.parameters(), strict=True))
            self._known: tuple[list[nn.Parameter], kernels.Parts] | None = None  # of the step under way

        def norm(self) -> Tensor:
            """Return the norm of all gradients."""
            _, parts = self._known = self._look()
            return torch.tensor(parts.norm())

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            """Move the weights by the gradients over `grad_scale`, unless `found_inf`, and publish them."""
            if self.found_inf:
                return
            moved, parts = self._known or self._look()
            counts = [self.state[p]["step"] for p in moved]
            torch._foreach_add_(counts, 1)
            groups = {p: group for group in self.param_groups for p in group["params"]}
            parts.update(
                [float(count) for count in counts],
                [float(groups[p]["lr"]) for p in moved],
                [groups[p]["weight_decay"] for p in moved],
                betas=self.param_groups[0]["betas"],  # and epsilon: those of all
                epsilon=self.param_groups[0]["eps"],
                factor=1.0 if self.grad_scale is None else 1.0 / float(self.grad_scale),
            )
            # PyTorch does not see what a kernel writes, and others go by versions, such as packed weights (fusion.py).
            torch.autograd.graph.increment_version([t for p in moved for t in (p, self._computing[p])])

        def zero_grad(self, set_to_none: bool = True) -> None:
            """Let go of the gradients."""
            self._known = None
            super().zero_grad(set_to_none)
            for parameter in self._computing.values():
                parameter.grad = None

        def _look(self) -> tuple[list[nn.Parameter], kernels.Parts]:
            """Return the parameters that have a gradient, here or in the model, and their parts."""
            moved, parts = [], []
            for parameter in (p for group in self.param_groups for p in group["params"]):
                computing = self._computing[parameter]
                gradient = computing.grad if parameter.grad is None else parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
                moved.append(parameter)
                tensors = (state["exp_avg"], state["exp_avg_sq"], gradient.contiguous())
                parts.append((parameter.detach(), *tensors, computing.detach()))
            return moved, kernels.Parts(parts)

    return OnePassAdamW
