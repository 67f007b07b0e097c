"""AdamW, and clipping that costs no pass over the gradients but the one that measures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nerloop.embedding import let_decay
from nerloop.model import parameter_groups
from nerloop.types import Tensor

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn


def build_optimizer(model: nn.Module, weight_decay: float, precision: str) -> torch.optim.Optimizer:
    """Return AdamW: fused, which scales gradients and skips updates whose `found_inf` is set, but in fp16.

    There the scaler calls a fused optimizer's step always, and accelerate, which looks whether it was called, takes no
    update for a skipped one.
    """
    import torch

    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0, fused=precision != "fp16")
    let_decay(model, optimizer)
    return optimizer


def clip(accelerator: Accelerator, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Let the next update use gradients of at most `max_norm`, or none where their norm is not finite; return the norm.

    A fused optimizer divides by `grad_scale` and looks at `found_inf` on its way, without asking the host. In fp16 the
    scaler does the latter, and the gradients are scaled here.
    """
    import torch

    if accelerator.scaler is not None:
        norm: Tensor = accelerator.clip_grad_norm_(parameters, max_norm)
        return norm
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    adamw = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    adamw.grad_scale = torch.clamp(norm / max_norm, min=1.0).float()
    adamw.found_inf = (~torch.isfinite(norm)).float()
    return norm
