"""Build the optimizer that `train.optimizer` names, and clip gradients for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nerloop.errors import PluginError
from nerloop.optim.groups import LearningRateFactors, parameter_groups
from nerloop.optim.master_weights import Weights
from nerloop.optim.pruned_embedding import decay_unused_rows
from nerloop.plugins import find_function
from nerloop.types import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

DEFAULT = "adamw"
OPTIMIZERS = {"adamw": "nerloop.optim.adamw.adamw"}
"""Short names of built-in optimizers."""


def build_optimizer(
    weights: Weights,
    weight_decay: float,
    precision: str,
    name: str = DEFAULT,
    factors: LearningRateFactors | None = None,
) -> torch.optim.Optimizer:
    """Return the optimizer of a name or dotted path for the trained parameters; its learning rate is set by each step.

    Raises PluginError if it can't be built.
    """
    optimizer = _build(name, parameter_groups(weights.master, weight_decay, factors), weights, precision)
    decay_unused_rows(weights.master, optimizer)
    return optimizer


def _build(name: str, groups: list[dict[str, Any]], weights: Weights, precision: str) -> torch.optim.Optimizer:
    return construct(find_function("train.optimizer", name, OPTIMIZERS), groups, weights, precision)


def construct(
    factory: Callable[..., Any], groups: list[dict[str, Any]], weights: Weights, precision: str
) -> torch.optim.Optimizer:
    """Return `factory(groups)`, with `weights` and `precision` if it has parameters of these names.

    Raises PluginError if that fails or returns no torch.optim.Optimizer.
    """
    name = getattr(factory, "__qualname__", repr(factory))
    context = {"weights": weights, "precision": precision}
    try:
        accepted = inspect.signature(factory).parameters
        optimizer = factory(groups, **{key: value for key, value in context.items() if key in accepted})
    except (TypeError, ValueError) as error:
        raise PluginError(f"train.optimizer {name}: {type(error).__name__}: {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):  # accelerate prepares no others
        kind = type(optimizer).__name__
        raise PluginError(f"train.optimizer: {name} gives a {kind}, expected a torch.optim.Optimizer")
    return optimizer


def is_exact_for_pruned_rows(name: str, weight_decay: float) -> bool:
    """Return whether an optimizer trains a pruned embedding as it would train the whole table.

    Rows must not influence each other, and a row without gradient may only shrink by the factor 1 - lr * weight_decay.
    The optimizer is tried on a table of three rows, the last of which never has a gradient.
    """
    tables = [nn.Embedding(n, 4) for n in (3, 2)]
    start = torch.linspace(-1, 1, 12).view(3, 4)
    for table in tables:
        table.weight.data = start[: len(table.weight)].clone()
        optimizer = _build(name, parameter_groups(table, weight_decay), Weights(table, table), "no")
        for step in range(3):
            table.weight.grad = torch.zeros_like(table.weight)
            table.weight.grad[:2] = start[:2].square() - 0.3 * step
            for group in optimizer.param_groups:
                group["lr"] = 0.1
            optimizer.step()
    whole, pruned = (table.weight.detach() for table in tables)
    decayed = start[2] * (1 - 0.1 * weight_decay) ** 3
    return torch.allclose(whole[:2], pruned, atol=1e-6) and torch.allclose(whole[2], decayed, atol=1e-6)


def uses_compute_weights(optimizer: Any) -> bool:
    """Return whether an optimizer takes gradients from the compute weights and writes these weights itself."""
    return bool(getattr(unwrapped(optimizer), "uses_compute_weights", False))


def skips_non_finite(optimizer: Any) -> bool:
    """Return whether an optimizer's `step` honours `grad_scale` and `found_inf`, as PyTorch's fused ones do."""
    return bool(getattr(unwrapped(optimizer), "_step_supports_amp_scaling", False))


def clip(accelerator: Accelerator, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Make the next update use gradients of norm `max_norm` at most; return their norm before, a tensor on the device.

    An optimizer that `skips_non_finite` scales the gradients itself, and makes no update if the norm is not finite. For
    others, they are scaled here, and the caller must not call `step` if the norm is not finite. In fp16, accelerate's
    scaler does both.
    """
    if accelerator.scaler is not None:
        norm: Tensor = accelerator.clip_grad_norm_(parameters, max_norm)
        return norm
    inner = unwrapped(optimizer)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = inner.gradient_norm() if hasattr(inner, "gradient_norm") else torch.nn.utils.get_total_norm(gradients)
    if skips_non_finite(inner):
        inner.grad_scale = torch.clamp(norm / max_norm, min=1.0).float()
        inner.found_inf = (~torch.isfinite(norm)).float()
    elif max_norm < float("inf"):
        torch._foreach_div_(gradients, torch.clamp(norm / max_norm, min=1.0))
    return norm


def clip_and_step(accelerator: Accelerator, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradients, update the weights unless the norm is not finite, and clear the gradients; return the norm.

    The process waits for the norm only if the optimizer does not look at `found_inf` itself.
    """
    norm = clip(accelerator, optimizer, parameters, max_norm)
    skips_itself = accelerator.scaler is not None or skips_non_finite(optimizer)
    if skips_itself or bool(torch.isfinite(norm)):
        optimizer.step()
    optimizer.zero_grad()
    return norm


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer inside accelerate's wrapper; one that is not wrapped is returned itself."""
    return getattr(optimizer, "optimizer", optimizer)
