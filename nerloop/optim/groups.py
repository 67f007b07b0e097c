"""Which parameters decay: AdamW's parameter groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: no decay for biases and for whatever belongs to a norm, by the module's type."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        is_norm = type(module).__name__.endswith("Norm")  # LayerNorm, RMSNorm, and the many models' own
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (free if is_norm or name == "bias" else decayed).append(parameter)
    unique = {id(p): p for p in decayed}  # tied parameters belong to two modules
    return [
        {"params": list(unique.values()), "weight_decay": weight_decay},
        {"params": list({id(p): p for p in free if id(p) not in unique}.values()), "weight_decay": 0.0},
    ]
