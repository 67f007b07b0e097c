"""Check that an optimizer does what `train.optimizer` requires.

A test of your own may be these two lines:

from nerloop.optim.contract import check_optimizer
check_optimizer(MyOptimizer)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nerloop.errors import PluginError
from nerloop.optim.groups import parameter_groups
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import clip_and_step, construct, skips_non_finite, unwrapped, uses_compute_weights

LR = 0.01


class _NoScaler:
    """The part of an Accelerator that `clip_and_step` uses, in a precision other than fp16."""

    scaler = None


class _Layers(nn.Module):
    """Two layers with a gradient, and one that never gets one."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second, self.unused = nn.Linear(5, 7), nn.Linear(7, 1), nn.Linear(2, 2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)


class _Run:
    """An optimizer and its weights, stepped as training does it."""

    def __init__(self, factory: Callable[..., Any], precision: str) -> None:
        self.weights: Any = Weights.of(_Layers(), precision)
        self.optimizer = construct(factory, parameter_groups(self.weights.master, 0.1), self.weights, precision)
        self.parameters = list(self.weights.master.parameters())

    def step(self, seed: int, *, lr: float = LR, factor: float = 1.0, max_norm: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.weights.model.named_parameters():
            if not name.startswith("unused"):
                parameter.grad = (torch.randn(parameter.shape, generator=generator) * factor).to(parameter.dtype)
        if not uses_compute_weights(self.optimizer):
            self.weights.accumulate_from_compute()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        clip_and_step(_NoScaler(), self.optimizer, self.parameters, max_norm)
        self.weights.sync_to_compute(is_written=uses_compute_weights(self.optimizer))

    def snapshot(self) -> list[torch.Tensor]:
        state = [v for p in self.parameters for v in self.optimizer.state.get(p, {}).values()]
        tensors = [*self.parameters, *(v for v in state if isinstance(v, torch.Tensor))]
        return [tensor.detach().clone() for tensor in tensors]


def check_optimizer(factory: Callable[..., Any]) -> None:
    """Raise PluginError, in one line, for the first thing that is wrong with an optimizer class (or factory)."""
    for precision in ("no", "bf16"):
        try:
            _check(factory, precision)
        except PluginError as error:
            raise PluginError(f"optimizer {getattr(factory, '__qualname__', factory)}: {error}") from error
        except Exception as error:  # a plugin may raise anything
            name = getattr(factory, "__qualname__", factory)
            raise PluginError(f"optimizer {name}: raised {type(error).__name__}: {error}") from error


def _check(factory: Callable[..., Any], precision: str) -> None:
    run = _Run(factory, precision)
    grouped = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    _require(grouped == {id(p) for p in run.parameters}, "param_groups: not all parameters that it was given")
    before = run.snapshot()
    run.step(0, lr=0.0)
    _require(_equal(run.snapshot()[: len(before)], before), "step: moves weights although the learning rate is 0")
    run = _Run(factory, precision)
    run.step(0)
    moved = [not torch.equal(p, b) for p, b in zip(run.parameters, before, strict=True)]
    # Weight and bias of two layers that have gradients, then of the one without.
    _require(moved == [True] * 4 + [False] * 2, "step: expected it to move exactly the parameters that have a gradient")
    left = [p.grad for p in [*run.parameters, *run.weights.model.parameters()] if p.grad is not None]
    _require(not any(bool(g.any()) for g in left), "zero_grad: leaves gradients for the next step")
    _check_state(run)
    _check_non_finite(run)
    # Clipping: only the direction of a gradient above max_norm matters. Powers of two round alike.
    large, small = _Run(factory, precision), _Run(factory, precision)
    for seed in range(2):
        large.step(seed, factor=2.0**10)
        small.step(seed, factor=2.0**4)
    same = all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(large.parameters, small.parameters, strict=True)
    )
    _require(same, "step: uses gradients that are not clipped")
    if precision == "bf16":
        pairs = list(zip(run.weights.master.parameters(), run.weights.model.parameters(), strict=True))
        _require(all(torch.equal(a.bfloat16(), b) for a, b in pairs), "step: the bf16 weights are not the master's")
    _check_resume(factory, precision)


def _check_state(run: _Run) -> None:
    known = {id(p) for p in run.parameters}
    for parameter, values in run.optimizer.state.items():
        _require(id(parameter) in known, "state: its keys are not the parameters")
        for name, value in values.items():
            is_tensor = isinstance(value, torch.Tensor)
            _require(
                is_tensor, f"state: {name!r} is a {type(value).__name__}, expected a tensor, which checkpoints keep"
            )
            shapes = f"{tuple(value.shape)}, expected () or {tuple(parameter.shape)}"
            _require(value.shape in ((), parameter.shape), f"state: {name!r} is of shape {shapes}")


def _check_non_finite(run: _Run) -> None:
    inner = unwrapped(run.optimizer)
    for bad in (float("nan"), float("inf")):
        before = run.snapshot()
        run.step(1, factor=bad)
        how = "found_inf is set" if skips_non_finite(inner) else "the norm is not finite"
        _require(_equal(run.snapshot(), before), f"step: changes weights or state although {how}")
    run.step(2)
    _require(not _equal(run.snapshot(), before), "step: does nothing after a step that was skipped")


def _check_resume(factory: Callable[..., Any], precision: str) -> None:
    """Check that weights and `state`, which are all that a checkpoint keeps, suffice to continue exactly."""
    whole, resumed = _Run(factory, precision), _Run(factory, precision)
    for seed in range(2):
        whole.step(seed)
    resumed.weights.master.load_state_dict(whole.weights.master.state_dict())
    resumed.weights.sync_to_compute()
    for own, other in zip(resumed.parameters, whole.parameters, strict=True):
        if other in whole.optimizer.state:
            resumed.optimizer.state[own] = copy.deepcopy(whole.optimizer.state[other])
    whole.step(2)
    resumed.step(2)
    _require(_equal(resumed.snapshot(), whole.snapshot()), "state: a resumed run does not continue as the other one")


def _equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise PluginError(problem)
