"""Divide parameters into groups: which ones decay, and which have a learning rate of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from nerloop.objectives.parameters import MODULE


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups: no decay for biases, for norms (by the module's type) and for an objective's own.

    A group's `lr_factor` (1 if it has none) multiplies the learning rate of the step.
    """
    objective = getattr(model, MODULE, None)
    own = [p for p in objective.parameters() if p.requires_grad] if objective is not None else []
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        is_norm = type(module).__name__.endswith("Norm")  # LayerNorm, RMSNorm, and the models' own classes
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and all(parameter is not p for p in own):
                (free if is_norm or name == "bias" else decayed).append(parameter)
    unique = {id(p): p for p in decayed}  # tied parameters belong to two modules
    groups: list[dict[str, Any]] = [
        {"params": list(unique.values()), "weight_decay": weight_decay},
        {"params": list({id(p): p for p in free if id(p) not in unique}.values()), "weight_decay": 0.0},
    ]
    if own:
        factor = float(getattr(objective, "learning_rate_factor", 1.0))
        groups.append({"params": own, "weight_decay": 0.0, "lr_factor": factor})
    return groups
