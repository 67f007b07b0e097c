"""Test whether one configuration is better than another, and give intervals, over seeds and sentences.

A score depends on chance in two ways: by the seed of the run, and by the sentences of the split that scores it. A
difference between two configurations is only worth reporting if it exceeds both. Everything here works on the numbers
of correct, predicted and gold spans of each sentence in each run, and pairs the runs of two configurations by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 10_000
"""Draws of the randomization test and of the bootstrap."""
FEWEST_SEEDS = 8
"""Fewest seeds for a randomization test. With n seeds its smallest p-value is 2 / 2^n, and all others are multiples."""
LEVEL = 0.95
"""Coverage of intervals."""
SIGNIFICANT = 0.05
"""Largest p-value of a difference that is called significant."""
POWER = 0.8
"""The share of experiments in which a difference should be found significant, to tell how many seeds are needed."""
HALF_A_POINT = 0.005
"""The difference in F1 that the number of needed seeds refers to."""
MOST_SEEDS = 10_000
"""The largest number of seeds that is considered."""
AT_A_TIME = 500
"""Draws that are computed together, which limits the memory."""


class SpanCounts(NamedTuple):
    """Numbers of spans by run and sentence, three arrays of shape (seeds, sentences)."""

    correct: np.ndarray
    predicted: np.ndarray
    gold: np.ndarray

    def f1(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the F1 of each run: (seeds,). With weights (sentences, draws), of each draw: (seeds, draws)."""
        correct, predicted, gold = (side.sum(axis=1) if weights is None else side @ weights for side in self)
        spans = predicted + gold
        f1: np.ndarray = np.divide(2.0 * correct, spans, out=np.zeros(spans.shape), where=spans > 0)
        return f1

    def influence(self) -> np.ndarray:
        """Return what each sentence adds to the F1 of its run, (seeds, sentences); the mean over sentences is that F1.

        F1 is a ratio of sums, so this is its first-order expansion (the delta method).
        """
        f1 = self.f1()[:, None]
        spans = self.predicted + self.gold
        mean_spans = np.maximum(spans.mean(axis=1, keepdims=True), np.finfo(float).tiny)
        linear: np.ndarray = f1 + (2.0 * self.correct - f1 * spans) / mean_spans
        return linear


@dataclass(frozen=True)
class Difference:
    """The difference in F1 (or another metric) of two configurations, b - a, in fractions."""

    difference: float
    interval: tuple[float, float] | None  # 95%, over seeds and sentences; None if the spread is unknown
    bootstrap_interval: tuple[float, float] | None
    p_value: float | None
    test: str  # "randomization", "t" or "none"
    seeds: int
    seeds_for_half_a_point: int | None  # None: no number suffices, or it is unknown


class Spread(NamedTuple):
    """The variance of a mean difference over seeds and sentences."""

    of_seed: float  # variance of the difference of one seed
    lasting: float  # the part of the mean's variance that more seeds don't lower, since the sentences stay the same
    seeds: int
    sentences: int

    @property
    def variance(self) -> float:
        """The variance of the mean."""
        return self.of_seed / self.seeds + self.lasting

    @property
    def freedom(self) -> float:
        """The degrees of freedom of `variance` (Satterthwaite 1946)."""
        parts = ((self.of_seed / self.seeds, self.seeds), (self.lasting, self.sentences))
        return self.variance**2 / sum(part**2 / (number - 1) for part, number in parts if part)


def compare(a: SpanCounts, b: SpanCounts) -> Difference:
    """Return the difference in F1 of two configurations, whose runs are paired by seed and scored on one split.

    Interval: Student's t with the variance of a two-way layout of seeds and sentences, both random. P-value with 8
    seeds or more: approximate randomization (Noreen 1989), which exchanges the runs of a seed and the sentences. With
    2 to 7 seeds: Student's t, since so few exchanges give hardly any p-values below 0.05. Bootstrap: percentiles, with
    seeds and sentences both resampled. One seed compares two models, not two configurations: only sentences vary,
    and the p-value is by randomization.
    """
    by_cell = b.influence() - a.influence()
    mean = float((b.f1() - a.f1()).mean())
    seeds = len(by_cell)
    spread = spread_of(by_cell)
    random = np.random.default_rng(0)
    if spread.variance <= 0:  # not a single sentence differs
        return Difference(mean, (mean, mean), (mean, mean), 1.0, "none", seeds, None)
    if seeds >= FEWEST_SEEDS or seeds == 1:
        p_value, test = randomization(by_cell, draws=DRAWS, random=random), "randomization"
    else:
        p_value, test = t_test(mean, spread), "t"
    return Difference(
        mean,
        t_interval(mean, spread),
        bootstrap(a, b, draws=DRAWS, random=random),
        p_value,
        test,
        seeds,
        seeds_needed(spread, HALF_A_POINT) if seeds > 1 else None,
    )


def compare_values(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return the difference of a metric that has no counts by sentence: Student's t over the seeds alone."""
    differences = np.subtract(b, a)
    mean, seeds = float(differences.mean()), len(differences)
    if seeds < 2:
        return Difference(mean, None, None, None, "none", seeds, None)
    spread = Spread(float(differences.var(ddof=1)), 0.0, seeds, 0)
    if spread.variance == 0:
        return Difference(mean, (mean, mean), None, 1.0 if mean == 0 else 0.0, "none", seeds, None)
    needed = seeds_needed(spread, HALF_A_POINT)
    return Difference(mean, t_interval(mean, spread), None, t_test(mean, spread), "t", seeds, needed)


def spread_of(by_cell: np.ndarray) -> Spread:
    """Return the variance of the mean of a table of seeds and sentences, (seeds, sentences), both random.

    The table is additive: a seed's effect, a sentence's effect and a rest. The variances come from the analysis of
    variance of a two-way layout with one observation a cell.
    """
    seeds, sentences = by_cell.shape
    of_seeds, of_sentences = by_cell.mean(axis=1), by_cell.mean(axis=0)
    between_sentences = float(of_sentences.var(ddof=1)) if sentences > 1 else 0.0
    if seeds == 1:
        return Spread(0.0, between_sentences / sentences, seeds, sentences)
    rest = by_cell - of_seeds[:, None] - of_sentences + by_cell.mean()
    of_cell = float((rest**2).sum()) / ((seeds - 1) * max(sentences - 1, 1))
    # The variance of sentence means has two parts: the sentences' own effects, which more seeds don't lower, and the
    # rest of single cells, which is subtracted here. The estimate is negative where noise is larger than the effects.
    lasting = max(0.0, between_sentences / sentences - of_cell / (seeds * sentences))
    return Spread(float(of_seeds.var(ddof=1)), lasting, seeds, sentences)


def t_test(mean: float, spread: Spread) -> float:
    """Return the two-sided p-value of a mean difference by Student's t."""
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(spread.variance), spread.freedom))


def t_interval(mean: float, spread: Spread) -> tuple[float, float]:
    """Return the 95% interval of a mean difference by Student's t."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, spread.freedom)) * math.sqrt(spread.variance)
    return mean - half, mean + half


def randomization(by_cell: np.ndarray, *, draws: int, random: np.random.Generator) -> float:
    """Return the two-sided p-value of exchanging the two configurations, by seed and by sentence.

    If the configurations don't differ, exchanging the two runs of a seed changes nothing but the sign of that seed's
    difference. All exchanges are made if there are no more of them than draws. Sentences that favour one configuration
    under every seed may do so in this split only, so what they add beyond chance is exchanged, too. The test compares
    means divided by their standard errors, because a true difference widens the spread of exchanged seeds, but not that
    of the observed ones.
    """
    seeds, sentences = by_cell.shape
    spread = spread_of(by_cell)
    of_seeds, of_sentences = by_cell.mean(axis=1), by_cell.mean(axis=0)
    if seeds == 1:  # then only the differences between sentences are known
        of_seeds = np.zeros(1)
    else:
        of_sentences = of_sentences - of_sentences.mean()
        variance = float(of_sentences.var(ddof=1)) / sentences if sentences > 1 else 0.0
        of_sentences *= math.sqrt(spread.lasting / variance) if variance > 0 else 0.0
    observed = abs(by_cell.mean()) / math.sqrt(spread.variance)
    extreme = total = 0
    for signs in _signs(seeds, draws, random):
        drawn = signs @ of_seeds / seeds
        between = ((of_seeds**2).sum() - seeds * drawn**2) / max(seeds - 1, 1)  # the variance of the exchanged seeds
        if of_sentences.any():
            drawn = drawn + random.choice((-1.0, 1.0), (len(signs), sentences)) @ of_sentences / sentences
        error = np.sqrt(np.maximum(between, 0.0) / seeds + spread.lasting)
        with np.errstate(divide="ignore", invalid="ignore"):  # all seeds alike: infinitely many standard errors
            extreme += int((np.abs(drawn) / error >= observed * (1 - 1e-9)).sum())  # sums may differ in the last digits
        total += len(drawn)
    return (1 + extreme) / (1 + total)


def _signs(seeds: int, draws: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield arrays of signs, (some draws, seeds): every combination equally often if there are no more than `draws`.

    Combinations are repeated because `randomization` draws new signs of the sentences each time.
    """
    if seeds > 1 and 2**seeds <= draws:
        every = np.array(list(itertools.product((-1.0, 1.0), repeat=seeds)))
        whole = np.tile(every, (draws // len(every), 1))
        yield from (whole[at : at + AT_A_TIME] for at in range(0, len(whole), AT_A_TIME))
        return
    for at in range(0, draws, AT_A_TIME):
        yield random.choice((-1.0, 1.0), (min(AT_A_TIME, draws - at), seeds))


def bootstrap(a: SpanCounts, b: SpanCounts, *, draws: int, random: np.random.Generator) -> tuple[float, float]:
    """Return the 95% percentile interval of the difference in F1, with seeds (in pairs) and sentences resampled."""
    seeds, sentences = a.correct.shape
    found = []
    for at in range(0, draws, AT_A_TIME):
        number = min(AT_A_TIME, draws - at)
        of_sentences = random.multinomial(sentences, np.full(sentences, 1 / sentences), size=number).T.astype(float)
        of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=number).T / seeds
        found.append(((b.f1(of_sentences) - a.f1(of_sentences)) * of_seeds).sum(axis=0))
    low, high = np.quantile(np.concatenate(found), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def power(difference: float, spread: Spread) -> float:
    """Return the probability that a true difference is found significant (noncentral t)."""
    if spread.variance <= 0:
        return 1.0
    limit = float(stats.t.ppf((1 + LEVEL) / 2, spread.freedom))
    shift = difference / math.sqrt(spread.variance)
    if shift > limit + 10:  # the noncentral t can't be computed that far out
        return 1.0
    return float(stats.nct.sf(limit, spread.freedom, shift) + stats.nct.cdf(-limit, spread.freedom, shift))


def seeds_needed(spread: Spread, difference: float) -> int | None:
    """Return how many seeds are needed to find a difference in 80% of experiments; None if no number is enough.

    None means that the split has too few sentences: more seeds don't lower the variance that sentences cause.
    """

    def is_enough(seeds: int) -> bool:
        return power(difference, spread._replace(seeds=seeds)) >= POWER

    if not is_enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # power grows with the number of seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values, in the given order, corrected for their number (Holm 1979)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
