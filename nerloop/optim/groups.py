"""Parameter groups: which parameters have weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups of trained parameters: with `weight_decay`, and without (biases and parameters of norms)."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        is_norm = type(module).__name__.endswith("Norm")  # LayerNorm, RMSNorm, and the models' own classes
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (free if is_norm or name == "bias" else decayed).append(parameter)
    unique = {id(p): p for p in decayed}  # tied parameters belong to two modules
    return [
        {"params": list(unique.values()), "weight_decay": weight_decay},
        {"params": list({id(p): p for p in free if id(p) not in unique}.values()), "weight_decay": 0.0},
    ]
