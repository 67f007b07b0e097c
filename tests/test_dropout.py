"""Dropout from random bits: the share, the scale, the gradient, and models that draw by it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nerloop.dropout import dropout, keep, use_cheap_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(p, dtype):
    torch.manual_seed(0)
    kept = keep(torch.empty(1000, 1001, dtype=dtype), p)
    assert kept.dtype == dtype
    assert float((kept == 0).double().mean()) == pytest.approx(p, abs=0.002)  # 4 standard deviations
    assert float(kept.max()) == pytest.approx(1 / (1 - p), rel=0.005 if dtype == torch.bfloat16 else 2e-4)
    assert kept.unique().numel() == 2


def test_each_place_of_a_word_and_each_position_is_drawn_alike():
    """Four elements come from one word of 64 bits; none of them may be favoured, nor follow another."""
    torch.manual_seed(1)
    kept = (keep(torch.empty(200_000, 4), 0.3) > 0).double()
    assert torch.allclose(kept.mean(0), torch.full((4,), 0.7, dtype=torch.float64), atol=0.005)
    assert float((torch.corrcoef(kept.T) - torch.eye(4)).abs().max()) < 0.012


def test_nothing_and_everything():
    x = torch.randn(7)
    assert dropout(x, 0.0) is x
    assert dropout(x, 1.0).tolist() == [0.0] * 7


def test_the_gradient_goes_where_the_values_went():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient * x, y)


def test_the_same_seed_draws_the_same():
    x = torch.ones(1000)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(dropout(x, 0.5))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], dropout(x, 0.5))


def test_a_models_layers_draw_by_it_while_training_and_are_saved_as_they_were(make_model):
    model = make_model("bert", hidden_dropout_prob=0.5)
    names = list(model.state_dict())
    use_cheap_dropout(model)
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(layers) >= 6
    assert {type(m).__name__ for m in layers} == {"CheapDropout"}
    assert list(model.state_dict()) == names
    x = torch.ones(100)
    assert layers[0].eval()(x) is x
    assert set(layers[0].train()(x).tolist()) == {0.0, 2.0}
