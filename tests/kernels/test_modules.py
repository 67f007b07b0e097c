"""Modules of fewer passes: which ones are replaced, that they compute the same, and what they draw."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nerloop.kernels import bindings as kernels
from nerloop.kernels import modules as fusion
from nerloop.kernels.modules import dropout, is_block_end, replace_with_fused

BLOCK_ENDS = {"bert": 4, "roberta": 4, "electra": 4, "distilbert": 0}  # of two layers


@pytest.fixture(params=["kernels", "operations"])
def means(request, monkeypatch):
    """With nerloop's own kernels, and with PyTorch's operations alone."""
    if request.param == "operations":
        monkeypatch.setattr(kernels, "is_supported", lambda *tensors: False)
    else:
        request.getfixturevalue("with_kernels")
    return request.param


def test_nothing_and_everything_is_dropped(means):
    x = torch.randn(7)
    assert dropout(x, 0.0) is x
    assert dropout(x, 1.0).tolist() == [0.0] * 7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_goes_where_the_values_went(dtype, means):
    x = torch.randn(5, 7, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert 0 < int((y == 0).sum()) < 35
    assert torch.allclose(gradient * x, y)


def test_the_same_seed_draws_the_same(means):
    x = torch.ones(1000)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(dropout(x, 0.5))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], dropout(x, 0.5))


def test_a_models_dropout_draws_by_it_while_training(make_model, means):
    model = make_model("bert", hidden_dropout_prob=0.5)
    replace_with_fused(model)
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(layers) >= 6
    assert {type(m).__name__ for m in layers} == {"CheapDropout"}
    x = torch.ones(100)
    assert layers[0].eval()(x) is x
    assert set(layers[0].train()(x).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("kind", BLOCK_ENDS)
def test_logits_and_gradients_stay_and_so_do_names(make_model, kind, means):
    model = make_model(kind).eval()
    plain = copy.deepcopy(model)
    replace_with_fused(model)
    ids = torch.arange(4, 20)[None]
    found = []
    for one in (plain, model):
        logits = one(input_ids=ids).logits
        logits.square().sum().backward()
        found.append((logits.detach(), dict(one.named_parameters())))
    (wanted, parameters), (logits, own) = found
    assert sum(type(m).__name__.startswith("Fused") for m in model.modules()) >= BLOCK_ENDS[kind] + 2  # activations
    assert list(own) == list(parameters)
    assert float((logits - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    for name, parameter in parameters.items():
        if parameter.grad is not None and not name.endswith(("key.bias", "k_lin.bias")):  # whose true gradient is zero
            apart = float((own[name].grad - parameter.grad).norm() / parameter.grad.norm())
            assert apart < 1e-5, name


def test_in_float64_a_fused_model_computes_as_before(make_model):
    model = make_model("bert").double().eval()
    plain = copy.deepcopy(model)
    replace_with_fused(model)
    ids = torch.arange(4, 20)[None]
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_copy_in_another_type_is_fused_too(make_model):
    model = make_model("bert")
    replace_with_fused(model)
    wide, narrow = copy.deepcopy(model).double().eval(), copy.deepcopy(model).bfloat16().eval()
    ids = torch.arange(4, 20)[None]
    wanted = wide(input_ids=ids).logits
    assert type(narrow.bert.encoder.layer[0].output).__name__ == "FusedBertOutput"
    apart = (narrow(input_ids=ids).logits.double() - wanted).norm() / wanted.norm()
    assert 0 < float(apart.detach()) < 0.05


class End(nn.Module):
    """The end of a block, by the parts of BERT's."""

    def __init__(self, compute):
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = nn.Linear(12, 8), nn.LayerNorm(8), nn.Dropout(0.1)
        self.compute = compute

    def forward(self, x, residual):
        return self.compute(self, x, residual)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda m, x, r: m.LayerNorm(m.dropout(m.dense(x)) + r), True),
        (lambda m, x, r: m.LayerNorm(r + m.dropout(m.dense(x))), True),
        (lambda m, x, r: m.dropout(m.LayerNorm(m.dense(x) + r)), False),
        (lambda m, x, r: m.LayerNorm(m.dropout(m.dense(x) + r)), False),
        (lambda m, x, r: m.LayerNorm(m.dense(x) + r), False),
        (lambda m, x, r: m.LayerNorm(m.dropout(m.dense(x)) + 0.5 * r), False),
        (lambda m, x, r: m.dropout(m.dense(x)) + m.LayerNorm(r), False),
        (lambda m, x, r: m.LayerNorm(m.dropout(torch.relu(m.dense(x))) + r), False),
        (lambda m, x, r: (m.LayerNorm(m.dropout(m.dense(x)) + r),), False),
        (lambda m, x, r: x["no such thing"], False),
    ],
)
def test_the_end_of_a_block_is_known_by_what_it_computes(compute, expected):
    torch.manual_seed(0)
    module = End(compute).train()
    state = torch.get_rng_state()
    assert is_block_end(module) is expected
    assert torch.equal(torch.get_rng_state(), state)
    assert (module.training, module.dropout.training, module.dropout.p) == (True, True, 0.1)
    replace_with_fused(module)
    assert type(module).__name__ == ("FusedEnd" if expected else "End")


def test_the_end_of_a_block_drops_what_is_added_alone(means):
    torch.manual_seed(0)
    module = End(lambda m, x, r: m.LayerNorm(m.dropout(m.dense(x)) + r))
    module.dropout.p = 0.999
    replace_with_fused(module)
    x, residual = torch.randn(50, 12), torch.randn(50, 8)
    found = module.train()(x, residual)
    wanted = module.LayerNorm(residual)
    assert float(((found - wanted).abs().amax(1) < 1e-5).double().mean()) > 0.9
    assert not torch.allclose(module.eval()(x, residual), wanted, atol=1e-2)
    module.dropout.p = 1.0
    assert torch.allclose(module.train()(x, residual), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [(nn.GELU(), True), (nn.GELU("tanh"), False), (nn.ReLU(), False)],
)
def test_of_activations_the_exact_gelu_is_replaced(activation, expected):
    model = nn.Sequential(activation)
    replace_with_fused(model)
    assert type(model[0]).__name__.startswith("Fused") is expected


@pytest.mark.usefixtures("with_kernels")
def test_without_a_gradient_pytorchs_own_gelu_is_used(monkeypatch):
    asked = []
    real = kernels.gelu
    monkeypatch.setattr(kernels, "gelu", lambda x: asked.append(x) or real(x))
    model = nn.Sequential(nn.GELU())
    replace_with_fused(model)
    x = torch.randn(5, requires_grad=True)
    with torch.no_grad():
        found = model(x)
    assert asked == []
    assert torch.allclose(model(x), found, atol=1e-6)
    assert len(asked) == 1


def test_a_packed_product_is_the_plain_one_and_follows_the_weights():
    if not fusion.can_pack():
        pytest.skip("PyTorch has no products with packed weights in bf16 on this CPU")
    torch.manual_seed(0)
    layer = nn.Linear(48, 80).bfloat16()
    model = nn.Sequential(layer)
    replace_with_fused(model)
    assert type(layer).__name__ == "PackedLinear"
    x = torch.randn(2, 7, 48).bfloat16()

    def found():
        with torch.inference_mode():
            return model(x)

    def wanted():
        return nn.functional.linear(x, layer.weight, layer.bias).detach()

    assert torch.equal(found(), wanted())
    assert torch.equal(found(), wanted())
    assert len(fusion._packed_weights) >= 1
    with torch.no_grad():
        torch._foreach_copy_([layer.weight], [torch.randn(80, 48)])  # as the weights of a step are published
    assert torch.equal(found(), wanted())
    assert model(x).requires_grad
    with torch.no_grad():
        in_float32 = layer.float()(x.float())
    assert torch.equal(in_float32, nn.functional.linear(x.float(), layer.weight, layer.bias).detach())


def test_packed_weights_go_with_those_that_they_were_made_of():
    if not fusion.can_pack():
        pytest.skip("PyTorch has no products with packed weights in bf16 on this CPU")
    before = len(fusion._packed_weights)
    layer = nn.Linear(8, 8).bfloat16()
    fusion._packed(layer.weight)
    assert len(fusion._packed_weights) == before + 1
    del layer
    assert len(fusion._packed_weights) == before


def test_fusing_twice_is_fusing_once(make_model):
    model = make_model("bert")
    replace_with_fused(model)
    kinds = [type(module) for module in model.modules()]
    replace_with_fused(model)
    assert [type(module) for module in model.modules()] == kinds


@pytest.mark.parametrize("wrong", ["shape", "type"])
def test_what_a_kernel_would_misread_is_left_to_pytorch(wrong, means):
    torch.manual_seed(0)
    module = End(lambda m, x, r: m.LayerNorm(m.dropout(m.dense(x)) + r)).eval()
    plain = copy.deepcopy(module)
    replace_with_fused(module)
    x, residual = torch.randn(3, 5, 12), torch.randn(1, 5, 8) if wrong == "shape" else torch.randn(3, 5, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=wrong == "type"):
        found, wanted = module(x, residual), plain(x, residual)
    assert found.dtype == wanted.dtype
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.usefixtures("with_kernels")
def test_second_derivatives_are_refused_instead_of_wrong():
    x = torch.randn(5, requires_grad=True)
    (slope,) = torch.autograd.grad(fusion.gelu(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
