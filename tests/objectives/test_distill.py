"""The loss of distillation: literals, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from nerloop.errors import ConfigError
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.objectives.distill import Distill
from nerloop.types import IGNORE, MicroBatch

LABELS = ("O", "B-PER", "I-PER")
HALF = [0.5, 0.5, 0.0]
NONE = [0.0, 0.0, 0.0]
EXPECTED = "expected the folder of a saved model, such as runs/x/model, or a list of several"


def batch(labels, targets) -> MicroBatch:
    return MicroBatch({}, torch.tensor([labels]), (), targets=None if targets is None else torch.tensor([targets]))


def loss(logits, labels, targets, **options) -> float:
    scores = torch.tensor([logits], dtype=torch.float64)
    return float(Distill(LABELS, teacher="a", **options).loss(scores, batch(labels, targets)))


def test_an_unlabelled_subword_costs_its_divergence_from_the_teacher():
    # All labels are equally likely: sum over the teacher's two of 0.5 * log(0.5 / (1/3)).
    assert loss([[0.0, 0.0, 0.0]], [IGNORE], [HALF]) == pytest.approx(math.log(1.5), rel=1e-12)


def test_a_labelled_subword_costs_shares_of_divergence_and_cross_entropy():
    expected = 0.25 * math.log(1.5) + 0.75 * math.log(3)
    assert loss([[0.0, 0.0, 0.0]], [2], [HALF], weight=0.25) == pytest.approx(expected, rel=1e-12)


def test_a_subword_without_target_costs_its_cross_entropy_and_one_without_both_nothing():
    assert loss([[0.0, 0.0, 0.0]] * 3, [1, IGNORE, 0], [NONE] * 3) == pytest.approx(2 * math.log(3), rel=1e-12)


def test_without_targets_it_is_cross_entropy():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    of = batch([1, IGNORE, 0, 2], None)
    assert torch.equal(Distill(LABELS, teacher="a").loss(logits, of), CrossEntropy(LABELS).loss(logits, of))


def test_a_model_that_agrees_with_the_teacher_costs_nothing_at_any_temperature():
    scores = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    targets = scores.softmax(-1)
    for temperature in (0.001, 0.5, 1.0, 4.0):
        objective = Distill(LABELS, teacher="a", temperature=temperature)
        found = objective.loss(scores[None], MicroBatch({}, torch.tensor([[IGNORE]]), (), targets=targets[None]))
        assert float(found) == pytest.approx(0, abs=1e-12)


def test_the_temperature_is_applied_to_both_and_the_loss_scaled_by_its_square():
    # At T = 2 the teacher's 0.8, 0.2, 0 are as 2 to 1 to 0: the roots of 4 to 1.
    expected = 4 * (2 / 3 * math.log(2) + 1 / 3 * math.log(1))
    assert loss([[0.0] * 3], [IGNORE], [[0.8, 0.2, 0.0]], temperature=2.0) == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_that_of_cross_entropy_with_the_teachers_probabilities():
    scores = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[[0.7, 0.2, 0.1]]], dtype=torch.float64)
    Distill(LABELS, teacher="a").loss(scores, MicroBatch({}, torch.tensor([[IGNORE]]), (), targets=targets)).backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, scores.detach().softmax(-1) - targets, atol=1e-12)


def test_logits_in_bf16_are_summed_in_float32():
    logits = torch.zeros(1, 1, 3, dtype=torch.bfloat16)
    assert Distill(LABELS, teacher="a").loss(logits, batch([1], [HALF])).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "objective.teacher: found None, " + EXPECTED),
        ({"teacher": []}, "objective.teacher: found [], " + EXPECTED),
        ({"teacher": ["a", ""]}, "objective.teacher: found ['a', ''], " + EXPECTED),
        ({"teacher": "a", "temperature": 0}, "objective.temperature: found 0, expected more than 0 and at most 1000"),
        ({"teacher": "a", "weight": 1.5}, "objective.weight: found 1.5, expected 0 to 1"),
        ({"teacher": "a", "weight": math.nan}, "objective.weight: found nan, expected 0 to 1"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        Distill(LABELS, **options)
    assert str(caught.value) == message
