"""AdamW of one pass over bf16 gradients and weights: PyTorch's own figures, the same state, the same skips."""

from __future__ import annotations

import copy
import ctypes

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nerloop.collators.pad import Pad
from nerloop.distributed.launch import make_accelerator
from nerloop.kernels import bindings as kernels
from nerloop.kernels.modules import can_pack, replace_with_fused
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer, clip, uses_compute_weights
from nerloop.optim.step import TrainStep
from nerloop.types import Feature

needs_kernels = pytest.mark.usefixtures("with_kernels")


class NoScaler:
    scaler = None


class Layers(nn.Module):
    """Parameters of several parts, of a part of one number, with and without decay, and one without a gradient."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.large, self.small, self.unused = nn.Linear(200, 301), nn.Linear(1, 1), nn.Linear(2, 2)


def weights_of(precision="bf16"):
    return Weights.of(Layers(), precision)


def give_gradients(weights, step, factor=1.0, *, to_master=False):
    generator = torch.Generator().manual_seed(step)
    for (name, master), model in zip(weights.master.named_parameters(), weights.model.parameters(), strict=True):
        if not name.startswith("unused"):
            gradient = (factor * torch.randn(model.shape, generator=generator)).bfloat16()
            if to_master:
                master.grad = gradient.float()
            else:
                model.grad = gradient


def step_with(optimizer, weights, max_norm=1.0, lr=0.01):
    """Clip, update, let go; return the norm."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = clip(NoScaler(), optimizer, list(weights.master.parameters()), max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return float(norm)


def by_torch(weights, decay=0.1):
    """Return PyTorch's fused AdamW for the same groups."""
    return build_optimizer(Weights(weights.master, weights.master), decay, "no")


@needs_kernels
@pytest.mark.parametrize("to_master", [False, True])
@pytest.mark.parametrize("max_norm", [1.0, float("inf")])
def test_weights_moments_and_norms_are_those_of_pytorch(max_norm, to_master):
    ours, theirs = weights_of(), weights_of()
    one_pass, fused = build_optimizer(ours, 0.1, "bf16"), by_torch(theirs)
    assert uses_compute_weights(one_pass)
    assert not uses_compute_weights(fused)
    for step in range(5):
        give_gradients(ours, step, to_master=to_master)
        give_gradients(theirs, step, to_master=True)
        lr = 0.01 / (1 + step)
        assert step_with(one_pass, ours, max_norm, lr) == pytest.approx(
            step_with(fused, theirs, max_norm, lr), rel=1e-5
        )
    for own, other in zip(ours.master.parameters(), theirs.master.parameters(), strict=True):
        assert torch.allclose(own, other, rtol=1e-5, atol=1e-6)
        assert set(one_pass.state.get(own, {})) == set(fused.state.get(other, {}))
        for name, value in fused.state.get(other, {}).items():
            assert one_pass.state[own][name].dtype == value.dtype
            assert torch.allclose(one_pass.state[own][name], value, rtol=2e-5, atol=1e-8), name
    assert len(one_pass.state) == 4


@needs_kernels
def test_the_weights_that_compute_are_those_that_are_trained():
    weights = weights_of()
    optimizer = build_optimizer(weights, 0.1, "bf16")
    before = copy.deepcopy(weights.model)
    give_gradients(weights, 0)
    step_with(optimizer, weights)
    pairs = list(zip(weights.master.parameters(), weights.model.parameters(), strict=True))
    assert all(torch.equal(model, master.bfloat16()) for master, model in pairs)
    assert not torch.equal(weights.model.large.weight, before.large.weight)
    assert torch.equal(weights.model.unused.weight, before.unused.weight)
    assert all(p.grad is None for pair in pairs for p in pair)


@needs_kernels
def test_what_an_update_moves_has_a_new_version():
    """PyTorch does not see a kernel write; weights that are laid out for evaluation would be those of an old step."""
    weights = weights_of()
    replace_with_fused(weights.model)
    optimizer = build_optimizer(weights, 0.1, "bf16")
    x, versions = torch.randn(3, 200).bfloat16(), [p._version for p in weights.master.parameters()]
    for step in range(2):
        with torch.no_grad():
            found = weights.model.large(x)
        assert torch.equal(found, functional.linear(x, weights.model.large.weight, weights.model.large.bias).detach())
        give_gradients(weights, step)
        step_with(optimizer, weights)
    moved = [n != v for n, v in zip([p._version for p in weights.master.parameters()], versions, strict=True)]
    assert moved == [True] * 4 + [False] * 2


class Behind(torch.optim.SGD):
    """Writes the compute weights through a pointer, which PyTorch does not see, and says nothing of it."""

    uses_compute_weights = True

    def __init__(self, groups, weights):
        super().__init__(groups)
        self.weights = weights

    def step(self, closure=None):
        for weight in self.weights.model.parameters():
            ctypes.memset(weight.data_ptr(), 0, weight.nbytes)


def test_an_update_that_pytorch_does_not_see_is_used_by_the_next_evaluation(make_model, wordpiece):
    if not can_pack():
        pytest.skip("PyTorch has no products with packed weights in bf16 on this CPU")
    model = make_model("bert")
    replace_with_fused(model)
    weights = Weights.of(model, "bf16")
    optimizer = Behind(list(weights.master.parameters()), weights)
    train_step = TrainStep(make_accelerator("bf16"), weights, weights.model, optimizer, objective=CrossEntropy(["O"]))
    batch = Pad(wordpiece)([feature(9, 0)])
    layer, x = weights.model.classifier, torch.ones(1, 32).bfloat16()
    with torch.no_grad():
        assert layer(x).abs().max() > 0  # packs the weight
    train_step.backward(batch, 1.0, is_last=True)
    train_step.update(0, 0.1)
    with torch.no_grad():
        assert layer(x).tolist() == [[0.0] * 5]


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(bad):
    weights = weights_of()
    optimizer = build_optimizer(weights, 0.1, "bf16")
    give_gradients(weights, 0)
    step_with(optimizer, weights)
    before, state = copy.deepcopy(weights), copy.deepcopy(optimizer.state_dict()["state"])
    give_gradients(weights, 1)
    weights.model.large.weight.grad[3, 5] = bad
    assert not np.isfinite(step_with(optimizer, weights))
    for a, b in ((weights.master, before.master), (weights.model, before.model)):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    for number, values in optimizer.state_dict()["state"].items():
        assert all(torch.equal(values[name], state[number][name]) for name in values)
    give_gradients(weights, 1)
    step_with(optimizer, weights)
    assert float(optimizer.state[weights.master.large.weight]["step"]) == 2.0


@needs_kernels
def test_it_goes_on_from_the_state_of_pytorchs():
    ours, theirs = weights_of(), weights_of()
    one_pass, fused = build_optimizer(ours, 0.1, "bf16"), by_torch(theirs)
    for step in range(2):
        give_gradients(theirs, step, to_master=True)
        step_with(fused, theirs)
    ours.master.load_state_dict(theirs.master.state_dict())
    for own, other in zip(ours.master.parameters(), theirs.master.parameters(), strict=True):
        if other in fused.state:
            one_pass.state[own] = {name: value.clone() for name, value in fused.state[other].items()}
    give_gradients(ours, 2)
    give_gradients(theirs, 2, to_master=True)
    step_with(one_pass, ours)
    step_with(fused, theirs)
    assert torch.allclose(ours.master.large.weight, theirs.master.large.weight, rtol=1e-6, atol=1e-7)


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            weights = weights_of()
            optimizer = build_optimizer(weights, 0.1, "bf16")
            give_gradients(weights, 0)
            found.append((step_with(optimizer, weights), weights.master.large.weight.detach().clone()))
    finally:
        torch.set_num_threads(threads)
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("precision", ["no", "float64"])
def test_where_all_is_of_one_type_it_is_pytorchs(precision):
    weights = weights_of(precision)
    optimizer = build_optimizer(weights, 0.1, precision)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["fused"]


def feature(length, number):
    random = np.random.RandomState(100 * length + number)
    ids = random.randint(5, 300, length)
    return Feature(ids, random.randint(0, 5, length), np.arange(length), number, (number,), (length,))


@needs_kernels
@pytest.mark.parametrize("split", [[[3, 17, 20, 9]], [[3, 17], [20], [9]]])
def test_a_step_is_that_of_other_ways_in_bf16(make_model, wordpiece, monkeypatch, split):
    """Of one micro-batch the gradients are taken as they lie; several are added up in float32."""
    found = []
    for is_on in (True, False):
        if not is_on:
            monkeypatch.setattr(kernels, "is_supported", lambda *_: False)
        model = make_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        accelerator = make_accelerator("bf16")
        weights = Weights.of(model, "bf16")
        prepared, optimizer = accelerator.prepare(weights.model, build_optimizer(weights, 0.01, "bf16"))
        assert uses_compute_weights(optimizer) is is_on
        train_step = TrainStep(accelerator, weights, prepared, optimizer, 1.0, objective=CrossEntropy(["O"]))
        norms = []
        for step in range(3):
            for i, lengths in enumerate(split):
                batch = Pad(wordpiece)([feature(n, step) for n in lengths])
                train_step.backward(batch, 1 / 49, is_last=i + 1 == len(split))
                held = weights.master.classifier.weight.grad
                assert (held is None) is (is_on and len(split) == 1)
            norms.append(float(train_step.update(step, 1e-3)))
            assert all(p.grad is None for p in [*weights.master.parameters(), *weights.model.parameters()])
        found.append((norms, torch.cat([p.detach().flatten() for p in weights.master.parameters()]), weights))
    (norms, ours, weights), (other_norms, others, _) = found
    assert norms == pytest.approx(other_norms, rel=1e-5)
    assert float((ours - others).norm() / others.norm()) < 1e-6
    assert torch.equal(weights.model.classifier.weight, weights.master.classifier.weight.bfloat16())
