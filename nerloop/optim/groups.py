"""Divide parameters into groups: which ones decay, and which have a learning rate of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nerloop.errors import ModelError
from nerloop.objectives.parameters import MODULE


@dataclass(frozen=True)
class LearningRateFactors:
    """Learning rates of parts of a model, relative to that of the step.

    `layer_decay` is the factor from each layer of the encoder to the one below it (Howard and Ruder, 2018, call it
    discriminative fine-tuning; Clark et al., 2020, use it for ELECTRA). The embeddings are the lowest layer.
    """

    head: float = 1.0
    layer_decay: float = 1.0


def parameter_groups(
    model: nn.Module, weight_decay: float, factors: LearningRateFactors | None = None
) -> list[dict[str, Any]]:
    """Return the parameter groups: no decay for biases, for norms (by the module's type) and for an objective's own.

    A group's `lr_factor` (1 if it has none) multiplies the learning rate of the step. Raises ModelError if the layers
    of the encoder can't be told apart, but have different factors.
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
    if factors is not None and factors != LearningRateFactors():
        by_parameter = _factors_of(model, factors)
        groups = [part for group in groups for part in _divided(group, by_parameter)]
    if own:
        factor = float(getattr(objective, "learning_rate_factor", 1.0))
        groups.append({"params": own, "weight_decay": 0.0, "lr_factor": factor})
    return groups


def _factors_of(model: nn.Module, factors: LearningRateFactors) -> dict[int, float]:
    """Return the factor of each parameter, by its id: of the head, and of the encoder by the layers above it."""
    encoder: Any = getattr(model, str(getattr(model, "base_model_prefix", "")) or "-", None)
    if encoder is None:
        raise ModelError(
            "train.layer_decay, train.head_learning_rate_factor: can't tell encoder and head of "
            f"{type(model).__name__} apart; leave both at 1"
        )
    found = {id(p): factors.head for p in model.parameters()} | {id(p): 1.0 for p in encoder.parameters()}
    if factors.layer_decay == 1:
        return found
    # The layers are the longest list of modules, as in every encoder of transformers that has several of them.
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    layers: Any = max(lists, key=len, default=())
    if len(layers) < 2:
        raise ModelError(
            f"train.layer_decay: found no list of layers in {type(encoder).__name__}, such as one that shares its "
            "weights between layers; leave it at 1"
        )
    # What comes before the layers is below them: everything up to the first one in the order of the modules.
    first = {id(p) for p in layers[0].parameters()}
    for parameter in encoder.parameters():
        if id(parameter) in first:
            break
        found[id(parameter)] = factors.layer_decay ** len(layers)
    for above, layer in enumerate(reversed(layers)):
        found |= {id(p): factors.layer_decay**above for p in layer.parameters()}
    return found


def _divided(group: dict[str, Any], factors: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return a group as several, each with one factor."""
    parts: dict[float, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        parts.setdefault(factors[id(parameter)], []).append(parameter)
    return [{**group, "params": params, "lr_factor": factor} for factor, params in parts.items()]
