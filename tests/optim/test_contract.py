"""The optimizer seam: built-ins, PyTorch's classes, an outside plugin, and broken ones that must be rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nerloop.errors import PluginError
from nerloop.optim.adamw import OnePassAdamW, adamw
from nerloop.optim.contract import check_optimizer
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer, is_exact_for_pruned_rows
from nerloop.train import train


class Momentum(torch.optim.Optimizer):
    """SGD with momentum: an outside plugin."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in [p for p in group["params"] if p.grad is not None]:
                state = self.state[p]
                state.setdefault("momentum", torch.zeros_like(p)).mul_(0.9).add_(p.grad)
                p.sub_(group["lr"] * (state["momentum"] + group["weight_decay"] * p))


@pytest.mark.parametrize("factory", [adamw, Momentum, torch.optim.SGD, torch.optim.NAdam, torch.optim.AdamW])
def test_these_optimizers_keep_the_contract(factory):
    check_optimizer(factory)


@pytest.mark.usefixtures("with_kernels")
def test_the_contract_is_checked_on_the_optimizer_of_one_pass():
    layer = torch.nn.Linear(3, 2)
    assert type(build_optimizer(Weights.of(layer, "bf16"), 0.1, "bf16")) is OnePassAdamW


class IgnoresRate(Momentum):
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 0.1
        super().step()


class KeepsNumbers(Momentum):
    def step(self, closure=None):
        super().step()
        for state in self.state.values():
            state["count"] = state.get("count", 0) + 1


class KeepsRows(Momentum):
    def step(self, closure=None):
        super().step()
        for state in self.state.values():
            state["rows"] = torch.zeros(99)


class Forgets(Momentum):
    count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            group["lr"] *= self.count
        super().step()


class PromisesToSkip(Momentum):
    _step_supports_amp_scaling = True


class ClipsNothing(Momentum):
    _step_supports_amp_scaling = True

    def step(self, closure=None):
        if not self.found_inf:
            super().step()


class LosesParameters(Momentum):
    def __init__(self, groups):
        super().__init__(groups[:1])


class DecaysAll(Momentum):
    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * 0.1)


class KeepsGradients(Momentum):
    def zero_grad(self, set_to_none=True):
        pass


class Raises(Momentum):
    def step(self, closure=None):
        raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        (IgnoresRate, "step: moves weights although the learning rate is 0"),
        (KeepsNumbers, "state: 'count' is a int, expected a tensor, which checkpoints keep"),
        (KeepsRows, r"state: 'rows' is of shape \(99,\), expected \(\) or \(7, 5\)"),
        (Forgets, "state: a resumed run does not continue as the other one"),
        (PromisesToSkip, "step: changes weights or state although found_inf is set"),
        (ClipsNothing, "step: uses gradients that are not clipped"),
        (LosesParameters, "param_groups: not all parameters that it was given"),
        (DecaysAll, "step: expected it to move exactly the parameters that have a gradient"),
        (KeepsGradients, "zero_grad: leaves gradients for the next step"),
        (Raises, "raised ZeroDivisionError: oh"),
        (lambda groups: 3, "gives a int, expected a torch.optim.Optimizer"),
        (lambda groups, missing: 3, "missing 1 required positional argument"),
    ],
)
def test_broken_optimizers_are_rejected(factory, problem):
    with pytest.raises(PluginError, match=f"^optimizer .*{problem}") as raised:
        check_optimizer(factory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("adamw", True), ("torch.optim.SGD", True), ("torch.optim.Adam", False), ("torch.optim.Adafactor", False)],
)
def test_which_optimizers_train_a_pruned_embedding_as_a_whole_one(name, expected):
    assert is_exact_for_pruned_rows(name, 0.1) is expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("adam", "train.optimizer: 'adam' is no built-in function .did you mean 'adamw'.."),
        ("torch.optim.LBFGS", "train.optimizer LBFGS: ValueError: LBFGS doesn't support per-parameter options"),
        ("builtins.enumerate", "train.optimizer: enumerate gives a enumerate, expected a torch.optim.Optimizer"),
    ],
)
def test_an_optimizer_that_can_not_be_built_is_one_line(name, problem):
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(PluginError, match=problem):
        build_optimizer(Weights(layer, layer), 0.1, "no", name)


def test_an_outside_optimizer_trains_and_resumes(config, monkeypatch, tmp_path):
    (tmp_path / "outside_optimizer.py").write_text(
        "from torch.optim import SGD\n\n\nclass Heavy(SGD):\n"
        "    def __init__(self, groups):\n        super().__init__(groups, momentum=0.9)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = replace(config.train, optimizer="outside_optimizer.Heavy", save_every=7, max_steps=10)
    config = replace(config, train=settings)
    train(config)
    last = Path(config.run.dir, "checkpoints", "step-10")
    wanted = {**load_file(str(last / "model.safetensors")), **load_file(str(last / "optimizer.safetensors"))}
    assert any(name.startswith("momentum_buffer:") for name in wanted)
    resume = str(Path(config.run.dir, "checkpoints", "step-7"))
    train(replace(config, run=replace(config.run, resume=resume)))
    found = {**load_file(str(last / "model.safetensors")), **load_file(str(last / "optimizer.safetensors"))}
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
