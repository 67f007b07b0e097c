"""Tests and intervals over seeds and sentences: right size and power, and the same as scipy's where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nerloop.evaluators.seqeval import Seqeval
from nerloop.experiments import statistics
from nerloop.experiments.statistics import SpanCounts, Spread


def simulate(random, seeds: int, sentences: int, *, seed_sd: float = 0.1) -> list[SpanCounts]:
    """Return the counts of two configurations that don't differ; sentences are easy or hard, seeds good or bad."""
    gold = random.poisson(1.5, sentences)
    difficulty = random.normal(0, 1, sentences)
    found = []
    for _ in range(2):
        chance = 1 / (1 + np.exp(-(0.8 + difficulty + random.normal(0, seed_sd, (seeds, 1)))))
        correct = random.binomial(np.broadcast_to(gold, chance.shape), chance)
        spurious = random.poisson(0.5 * (1 - chance))
        sides = (correct, correct + spurious, np.broadcast_to(gold, chance.shape))
        found.append(SpanCounts(*(side.astype(float) for side in sides)))
    return found


def test_f1_is_seqevals():
    gold = [["B-PER", "O"], ["B-LOC", "I-LOC"], ["O", "O"]]
    predicted = [["B-PER", "B-LOC"], ["B-LOC", "O"], ["O", "O"]]
    counts = SpanCounts(np.array([[1.0, 0, 0]]), np.array([[2.0, 1, 0]]), np.array([[1.0, 1, 0]]))
    evaluator = Seqeval()
    assert counts.f1()[0] == pytest.approx(evaluator.metrics(evaluator.count(gold, predicted))["f1"])
    assert SpanCounts(*np.zeros((3, 2, 4))).f1().tolist() == [0.0, 0.0]


def test_influences_have_the_f1_of_the_run_as_their_mean():
    a, _ = simulate(np.random.default_rng(0), 4, 50)
    np.testing.assert_allclose(a.influence().mean(axis=1), a.f1())
    weights = np.ones((50, 1))
    weights[7] = 0
    without = a.f1(weights)[:, 0]
    expected = (a.f1() * 50 - a.influence()[:, 7]) / 49  # to first order
    np.testing.assert_allclose(without, expected, atol=2e-3)


@pytest.mark.parametrize("seeds", [3, 10])
def test_without_a_difference_one_case_in_twenty_is_significant(seeds):
    significant = 0
    for i in range(1000):
        random = np.random.default_rng(i)
        a, b = simulate(random, seeds, 200)
        by_cell = b.influence() - a.influence()
        if seeds < statistics.FEWEST_SEEDS:
            p_value = statistics.t_test(by_cell.mean(), statistics.spread_of(by_cell))
        else:
            p_value = statistics.randomization(by_cell, draws=1024, random=random)
        significant += p_value <= 0.05
    assert 40 <= significant <= 60


@pytest.mark.parametrize(("of_seed", "of_sentence"), [(1.0, 0.0), (0.5, 3.0)])
def test_a_known_difference_is_found_as_often_as_theory_says(of_seed, of_sentence):
    seeds, sentences, difference, cases = 10, 60, 0.9, 1000
    found = {"randomization": 0, "t": 0}
    for i in range(cases):
        random = np.random.default_rng(i)
        by_cell = (
            difference
            + random.normal(0, of_seed, (seeds, 1))
            + random.normal(0, of_sentence, sentences)
            + random.normal(0, 1, (seeds, sentences))
        )
        found["randomization"] += statistics.randomization(by_cell, draws=1024, random=random) <= 0.05
        found["t"] += statistics.t_test(by_cell.mean(), statistics.spread_of(by_cell)) <= 0.05
    spread = Spread(of_seed**2 + 1 / sentences, of_sentence**2 / sentences, seeds, sentences)
    theory = statistics.power(difference, spread)
    assert 0.4 < theory < 0.95
    for number in found.values():
        assert number / cases == pytest.approx(theory, abs=0.06)


def test_exchanging_seeds_is_scipys_permutation_test():
    random = np.random.default_rng(3)
    of_seeds = random.normal(1.2, 1, (8, 1))
    by_cell = np.repeat(of_seeds, 5, axis=1)  # sentences alike
    expected = stats.permutation_test(
        (of_seeds[:, 0], np.zeros(8)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = statistics.randomization(by_cell, draws=256, random=random)
    assert 0.001 < expected < 0.5
    assert found == pytest.approx((256 * expected + 1) / 257)


def test_exchanging_sentences_of_one_seed_is_scipys_permutation_test():
    random = np.random.default_rng(4)
    by_cell = random.normal(0.25, 1, (1, 60))
    expected = stats.permutation_test(
        (by_cell[0], np.zeros(60)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=20_000, rng=5
    ).pvalue
    assert 0.01 < expected < 0.3
    assert statistics.randomization(by_cell, draws=20_000, random=random) == pytest.approx(expected, abs=0.01)


def test_the_bootstrap_over_sentences_is_scipys():
    random = np.random.default_rng(5)
    a, b = simulate(random, 1, 150)
    sides = [side[0] for side in (*a, *b)]

    def difference(*six):
        of_a, of_b = six[:3], six[3:]
        return 2 * of_b[0].sum() / (of_b[1] + of_b[2]).sum() - 2 * of_a[0].sum() / (of_a[1] + of_a[2]).sum()

    expected = stats.bootstrap(
        sides, difference, paired=True, vectorized=False, n_resamples=4000, method="percentile", rng=6
    ).confidence_interval
    assert statistics.bootstrap(a, b, draws=4000, random=random) == pytest.approx(
        (expected.low, expected.high), abs=0.01
    )


def test_the_interval_covers_the_true_difference():
    covered = 0
    for i in range(500):
        random = np.random.default_rng(i)
        by_cell = 0.3 + random.normal(0, 1, (5, 1)) + random.normal(0, 4, 80) + random.normal(0, 2, (5, 80))
        low, high = statistics.t_interval(by_cell.mean(), statistics.spread_of(by_cell))
        covered += low <= 0.3 <= high
    assert 460 <= covered <= 490


def test_seeds_needed_are_the_fewest_with_enough_power():
    spread = Spread(0.01**2, 0.0002**2, 5, 300)
    needed = statistics.seeds_needed(spread, 0.005)
    assert needed is not None
    enough, too_few = (statistics.power(0.005, spread._replace(seeds=n)) for n in (needed, needed - 1))
    assert enough >= 0.8 > too_few
    assert 32 <= needed <= 36  # (1.96 + 0.84)^2 * 0.01^2 / 0.005^2 = 31, and a little for t and the sentences
    assert statistics.seeds_needed(Spread(0.01**2, 0.01**2, 5, 300), 0.005) is None


def test_holm_is_a_textbook_example():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_equal_runs_have_no_difference():
    a, _ = simulate(np.random.default_rng(1), 4, 30)
    found = statistics.compare(a, a)
    assert (found.difference, found.p_value, found.test) == (0.0, 1.0, "none")


def test_values_without_sentences_are_compared_by_t():
    a, b = [0.6, 0.62, 0.61, 0.63], [0.65, 0.66, 0.64, 0.69]
    found = statistics.compare_values(a, b)
    expected = stats.ttest_rel(b, a)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert statistics.compare_values([0.5], [0.6]).p_value is None
