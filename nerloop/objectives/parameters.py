"""Make the parameters of an objective a part of the model during training; saved models don't contain them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from nerloop.objectives import Objective

MODULE = "nerloop_objective"
"""The name of the submodule that holds the objective."""


def attach(model: nn.Module, objective: Objective) -> None:
    """Make an objective's parameters a part of the model, on its device and in its precision."""
    if isinstance(objective, nn.Module):
        example = next(model.parameters())
        model.add_module(MODULE, objective.to(example.device, example.dtype))


def attached(model: nn.Module, objective: Objective) -> Objective:
    """Return the objective to use with a model: the one attached to it (in bf16 a copy), or `objective` if none is."""
    found: Any = getattr(model, MODULE, objective)
    return found  # type: ignore[no-any-return]


def detach(model: nn.Module) -> None:
    """Remove the objective's parameters from a model, before it is saved."""
    if hasattr(model, MODULE):
        delattr(model, MODULE)


def learned_by(objective: Objective) -> dict[str, np.ndarray]:
    """Return the arrays that an objective passes to decoding, in float64: {} for most."""
    learned: Mapping[str, Any] = getattr(objective, "learned", dict)()
    return {
        name: np.asarray(value.detach().cpu().double() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
        for name, value in learned.items()
    }
