"""Cross entropy, with and without class weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerloop.errors import ConfigError
from nerloop.objectives.cross_entropy import CrossEntropy, weights_of
from nerloop.types import IGNORE, MicroBatch

LABELS = ("O", "B-PER", "I-PER", "B-LOC")


def batch(*labels: int) -> MicroBatch:
    return MicroBatch({}, torch.tensor([labels]), ())


def test_it_is_the_sum_over_labelled_subwords():
    logits = torch.zeros(1, 3, 4)
    assert float(CrossEntropy(LABELS).loss(logits, batch(0, IGNORE, 3))) == pytest.approx(2 * math.log(4))


def test_without_weights_every_labelled_subword_weighs_one():
    assert CrossEntropy(LABELS).weight is None


def test_logits_in_bf16_are_summed_in_float32():
    assert CrossEntropy(LABELS).loss(torch.zeros(1, 1, 4, dtype=torch.bfloat16), batch(1)).dtype == torch.float32


def test_class_weights_give_the_weighted_mean_of_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 6, 4, dtype=torch.float64), (0, 1, 2, IGNORE, 3, 1)
    objective = CrossEntropy(LABELS, class_weights={"O": 0.5, "PER": 3, "I-PER": 2})
    weight = torch.tensor([0.5, 3.0, 2.0, 1.0], dtype=torch.float64)
    expected = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=IGNORE)(logits[0], torch.tensor(labels))
    assert objective.weight is not None
    found = objective.loss(logits, batch(*labels)) / objective.weight(np.array(labels))
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_a_label_wins_over_its_type():
    assert weights_of(LABELS, {"PER": 3, "I-PER": 2}) == [1.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"PRE": 2},
            "objective.class_weights: found 'PRE' (did you mean 'PER'?), expected labels or types of the data: "
            "B-LOC, B-PER, I-PER, LOC, O, PER",
        ),
        ({"PER": -1}, "objective.class_weights: PER is -1, expected a number of 0 or more"),
        ({"O": math.nan}, "objective.class_weights: O is nan, expected a number of 0 or more"),
        (
            {"O": 0, "PER": 0, "LOC": 0},
            "objective.class_weights: every label has weight 0, expected at least one that counts",
        ),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ConfigError) as caught:
        CrossEntropy(LABELS, class_weights=weights)
    assert str(caught.value) == message
