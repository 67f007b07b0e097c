"""Intervals: scipy's BCa as the oracle, coverage of made-up data, and what has no spread."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from nerloop.evaluation.report.intervals import Tally


def tally_of(triples: np.ndarray) -> Tally:
    tally = Tally()
    for triple in triples.tolist():
        tally.add(*triple)
    return tally


def made_up(sentences: int, random: np.random.Generator, accuracy: float = 0.9) -> np.ndarray:
    """Return (correct, predicted, gold) of sentences whose errors come in clusters: (sentences, 3)."""
    gold = random.poisson(1.5, sentences)
    correct = random.binomial(gold, random.beta(4 * accuracy, 4 * (1 - accuracy), sentences))
    predicted = correct + random.binomial(gold - correct, 0.6) + random.poisson(0.1, sentences)
    return np.stack([correct, predicted, gold], axis=1)


@pytest.mark.parametrize(("name", "of"), [("precision", (0, 1)), ("recall", (0, 2))])
def test_the_interval_is_scipys(name, of):
    data = made_up(120, np.random.default_rng(3))

    def score(a, b, axis=-1):
        return a.sum(axis=axis) / b.sum(axis=axis)

    theirs = stats.bootstrap(
        [data[:, i].astype(float) for i in of], score, paired=True, vectorized=True, method="BCa", n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    ours = tally_of(data).interval(120, draws=20_000)[name]
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.003)
    assert 0.02 < ours[1] - ours[0] < 0.2


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    correct, predicted, gold = made_up(1_000_000, random).sum(axis=0)
    truth = 2 * correct / (predicted + gold)
    inside = 0
    for _ in range(200):
        low, high = tally_of(made_up(150, random)).interval(150, draws=500)["f1"]
        inside += low <= truth <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_sentences_that_were_not_added_are_drawn_as_well():
    tally, whole = Tally(), Tally()
    for triple in [(1, 1, 1)] * 6 + [(0, 1, 1)] * 6:
        tally.add(*triple)
        whole.add(*triple)
    for _ in range(100):
        whole.add(0, 0, 0)
    assert tally.interval(112) == whole.interval(112) != tally.interval(12)


def test_what_is_always_right_or_wrong_is_not_certain():
    tally = Tally()
    for _ in range(10):
        tally.add(1, 1, 1)
    assert tally.interval(10)["recall"] == [pytest.approx(0.7225, abs=1e-4), 1.0]  # Wilson's of 10 in 10
    none = Tally()
    for _ in range(10):
        none.add(0, 0, 1)
    found = none.interval(10)
    assert found["recall"] == [0.0, pytest.approx(0.2775, abs=1e-4)]
    assert found["precision"] == [0.0, 1.0]  # no predicted span tells anything
    assert Tally().interval(5) == {"precision": [0.0, 1.0], "recall": [0.0, 1.0], "f1": [0.0, 1.0]}


def test_the_order_of_sentences_changes_nothing():
    data = made_up(80, np.random.default_rng(5))
    assert tally_of(data).interval(80) == tally_of(data[::-1]).interval(80)


def test_fifty_thousand_sentences_take_no_longer_than_their_different_counts():
    tally = tally_of(made_up(50_000, np.random.default_rng(0)))
    start = time.process_time()
    low, high = tally.interval(50_000)["f1"]
    assert time.process_time() - start < 2
    assert 0 < high - low < 0.01


def test_scores():
    tally = Tally()
    tally.add(1, 2, 1)
    tally.add(0, 0, 2)
    assert tally.scores() == {
        "gold": 3, "predicted": 2, "correct": 1, "precision": 0.5, "recall": 1 / 3, "f1": pytest.approx(0.4)
    }  # fmt: skip
