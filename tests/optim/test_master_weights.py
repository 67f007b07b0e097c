"""Weights in float32 that are trained, and in bf16 that compute."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from nerloop.errors import TrainingError
from nerloop.optim.master_weights import Weights, cast_parameters, check_equal_weights, checksum
from nerloop.optim.optimizer import build_optimizer, clip


def test_without_bf16_there_is_one_model(make_model):
    model = make_model("bert")
    weights = Weights.of(model, "no")
    assert weights.model is weights.master is model
    model.classifier.bias.grad = torch.ones(5)
    weights.accumulate_from_compute()
    weights.sync_to_compute()
    assert model.classifier.bias.grad.tolist() == [1.0] * 5


def test_in_bf16_the_model_is_a_cast_of_the_master(make_model):
    master = make_model("bert")
    weights = Weights.of(master, "bf16")
    assert {p.dtype for p in weights.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in master.parameters()} == {torch.float32}
    with torch.no_grad():
        master.classifier.weight.fill_(1.2345678)
    weights.sync_to_compute()
    assert weights.model.classifier.weight.unique().tolist() == [1.234375]


def test_gradients_are_added_up_in_float32(make_model):
    weights = Weights.of(make_model("bert"), "bf16")
    for value in (1.0, 2.0**-10):  # in bf16 the sum would be 1
        weights.model.classifier.bias.grad = torch.full((5,), value, dtype=torch.bfloat16)
        weights.accumulate_from_compute()
        assert weights.model.classifier.bias.grad is None
    assert weights.master.classifier.bias.grad.tolist() == [1 + 2.0**-10] * 5
    assert weights.master.classifier.weight.grad is None


def test_updates_too_small_for_bf16_add_up(make_model):
    weights = Weights.of(make_model("bert"), "bf16")
    before = weights.model.classifier.bias.clone()
    with torch.no_grad():
        for _ in range(100):
            weights.master.classifier.bias.add_(1e-4)
    weights.sync_to_compute()
    assert float((weights.model.classifier.bias - before).detach().min()) > 0.009


def test_buffers_keep_their_precision(make_model):
    model = make_model("modernbert", pad_token_id=0, eos_token_id=0, bos_token_id=0, cls_token_id=0, sep_token_id=0)
    buffers = {name: b.dtype for name, b in model.named_buffers()}
    cast_parameters(model)
    assert {name: b.dtype for name, b in model.named_buffers()} == buffers
    assert torch.float32 in buffers.values()


class NoScaler:
    scaler = None


def stepped(gradient: float, max_norm: float) -> tuple[float, float]:
    """Return the norm of a gradient, and the first moment that an update with it leaves in the optimizer."""
    layer = torch.nn.Linear(4, 1, bias=False)
    optimizer = build_optimizer(Weights(layer, layer), 0.0, "no")
    layer.weight.grad = torch.full((1, 4), gradient)
    norm = clip(NoScaler(), optimizer, list(layer.parameters()), max_norm)
    optimizer.step()
    moment = optimizer.state[layer.weight].get("exp_avg", torch.zeros(1, 4))
    return float(norm), float(moment[0, 0])


def test_gradients_are_clipped_to_the_norm_on_the_way():
    norm, moment = stepped(3.0, 1.0)
    assert norm == 6.0
    assert abs(moment - 0.1 * 0.5) < 1e-7
    norm, moment = stepped(0.1, 1.0)
    assert abs(moment - 0.1 * 0.1) < 1e-8
    norm, moment = stepped(3.0, float("inf"))
    assert abs(moment - 0.1 * 3.0) < 1e-7


def test_a_gradient_that_is_not_finite_changes_nothing():
    for value in (float("nan"), float("inf")):
        assert stepped(value, 1.0)[1] == 0.0
        assert stepped(value, float("inf"))[1] == 0.0


def test_the_gradients_memory_is_used_again(make_model):
    weights = Weights.of(make_model("bert"), "bf16")
    places = []
    for _ in range(2):
        for source in weights.model.parameters():
            source.grad = torch.ones_like(source)
        weights.accumulate_from_compute()
        places.append([target.grad.data_ptr() for target in weights.master.parameters()])
        assert all(
            float(target.grad.min()) == 1.0 == float(target.grad.max()) for target in weights.master.parameters()
        )
        for target in weights.master.parameters():
            target.grad = None
    assert places[0] == places[1]


def test_the_checksum_sees_one_bit_of_any_type(make_model):
    model = make_model("bert")
    values = {checksum(model), checksum(model)}
    with torch.no_grad():
        model.classifier.bias[3] = torch.nextafter(model.classifier.bias[3], torch.tensor(9.0))
    values |= {checksum(model), checksum(model.bfloat16())}
    assert len(values) == 3


def test_processes_with_different_weights_do_not_start(make_model, monkeypatch):
    model, others = make_model("bert"), []

    def gather(found, own):
        found[:] = [own, own, *others]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2 + len(others))
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    check_equal_weights(model)
    others.append(7)
    with pytest.raises(TrainingError, match=r"^the processes start with different weights: process 2 differs from pro"):
        check_equal_weights(model)
