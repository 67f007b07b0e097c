"""Learning rates of the head and of each layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nerloop.errors import ModelError
from nerloop.optim.groups import LearningRateFactors, parameter_groups
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer

FACTORS = LearningRateFactors(head=10.0, layer_decay=0.5)


def factors_by_name(model: nn.Module, factors: LearningRateFactors = FACTORS) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.01, factors)
    assert sum(len(group["params"]) for group in groups) == len(names)
    return {names[id(p)]: group.get("lr_factor", 1.0) for group in groups for p in group["params"]}


def test_the_factors_of_bert(make_model):
    found = factors_by_name(make_model("bert"))  # two layers
    assert found["classifier.weight"] == found["classifier.bias"] == 10.0
    assert found["bert.encoder.layer.1.output.LayerNorm.weight"] == 1.0
    assert found["bert.encoder.layer.0.attention.self.query.weight"] == 0.5
    assert found["bert.embeddings.word_embeddings.weight"] == found["bert.embeddings.LayerNorm.bias"] == 0.25
    assert set(found.values()) == {10.0, 1.0, 0.5, 0.25}


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert"])
def test_lower_layers_have_smaller_factors_in_every_encoder(make_model, kind):
    model = make_model(kind, pad_token_id=1)
    found = factors_by_name(model)
    layers = [{f for name, f in found.items() if f".{i}." in name and "embeddings" not in name} for i in range(2)]
    assert {1.0} <= layers[1] <= {1.0, 10.0}  # a head of several modules has numbers as well
    assert 0.5 in layers[0]
    words = next(n for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
    assert found[words] == 0.25


def test_without_factors_the_groups_are_the_two_of_always(make_model):
    model = make_model("bert")
    assert [len(g["params"]) for g in parameter_groups(model, 0.01, LearningRateFactors())] == [16, 23]


def test_the_head_alone_may_have_a_factor(make_model):
    found = factors_by_name(make_model("albert"), LearningRateFactors(head=3.0))
    assert {found.pop("classifier.weight"), found.pop("classifier.bias")} == {3.0}
    assert set(found.values()) == {1.0}


def test_layers_that_share_their_weights_are_refused(make_model):
    with pytest.raises(
        ModelError, match=r"train.layer_decay: found no list of layers in AlbertModel, .* leave it at 1"
    ):
        parameter_groups(make_model("albert"), 0.01, FACTORS)


def test_a_model_without_an_encoder_of_its_own_is_refused():
    with pytest.raises(ModelError, match="can't tell encoder and head of Linear apart; leave both at 1"):
        parameter_groups(nn.Linear(2, 2), 0.01, FACTORS)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_moves_each_part_by_its_own_rate(make_model, precision):
    weights = Weights.of(make_model("bert"), precision)
    before = {name: p.detach().clone() for name, p in weights.master.named_parameters()}
    optimizer = build_optimizer(weights, 0.0, precision, factors=FACTORS)
    for parameter in [*weights.master.parameters(), *weights.model.parameters()]:
        parameter.grad = torch.ones_like(parameter)
    if weights.model is not weights.master:
        for parameter in weights.master.parameters():
            parameter.grad = None
        weights.accumulate_from_compute()
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group.get("lr_factor", 1.0)
    optimizer.step()
    # AdamW's first step is the learning rate in the direction of the gradient.
    moved = {n: float((before[n] - p.detach()).abs().max()) for n, p in weights.master.named_parameters()}
    expected = {n: 1e-3 * f for n, f in factors_by_name(weights.master).items()}
    assert moved == pytest.approx(expected, rel=1e-2)
