"""SemEval's partial matching: literals, and in tier extras the library nervaluate as the oracle."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from nerloop.evaluation.report.partial import PartialCounts, count_partial, pairs, partial_scores
from nerloop.types import Span


def counts_of(gold: list[Span], predicted: list[Span]) -> dict[str, tuple[int, ...]]:
    """Return (correct, incorrect, partial, missed, spurious) by scheme."""
    scored = partial_scores(count_partial(gold, predicted))
    names = ("correct", "incorrect", "partial", "missed", "spurious")
    return {scheme: tuple(of[name] for name in names) for scheme, of in scored.items()}


@pytest.mark.parametrize(
    ("gold", "predicted", "strict", "exact", "partial", "type_"),
    [
        ([Span(0, 2, "A")], [Span(0, 2, "A")], (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0)),
        ([Span(0, 2, "A")], [Span(0, 2, "B")], (0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0)),
        ([Span(0, 2, "A")], [Span(1, 3, "A")], (0, 1, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (1, 0, 0, 0, 0)),
        ([Span(0, 2, "A")], [Span(1, 3, "B")], (0, 1, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 1, 0, 0, 0)),
        ([Span(0, 2, "A")], [Span(2, 3, "A")], (0, 0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 1, 1)),
        # One predicted span over two gold ones: matched with the first, by type with the one of its own type.
        ([Span(0, 1, "A"), Span(1, 4, "B")], [Span(0, 4, "B")],
         (0, 1, 0, 1, 0), (0, 1, 0, 1, 0), (0, 0, 1, 1, 0), (1, 0, 0, 1, 0)),
        # Two over one: the second finds it taken.
        ([Span(0, 4, "A")], [Span(0, 1, "B"), Span(2, 4, "A")],
         (0, 1, 0, 0, 1), (0, 1, 0, 0, 1), (0, 0, 1, 0, 1), (0, 1, 0, 0, 1)),
    ],
)  # fmt: skip
def test_outcomes(gold, predicted, strict, exact, partial, type_):
    assert counts_of(gold, predicted) == {"strict": strict, "exact": exact, "partial": partial, "type": type_}


def test_half_a_match_is_worth_half():
    counts = count_partial([Span(0, 2, "A"), Span(4, 5, "A")], [Span(0, 3, "A"), Span(4, 5, "A"), Span(7, 8, "A")])
    scored = partial_scores(counts)
    assert scored["partial"]["precision"] == 1.5 / 3
    assert scored["partial"]["recall"] == 1.5 / 2
    assert scored["partial"]["f1"] == pytest.approx(0.6)
    assert scored["type"]["recall"] == 1.0


def test_nothing_scores_zero():
    assert {of["f1"] for of in partial_scores(Counter()).values()} == {0.0}


def test_pairs_go_left_to_right():
    gold = [Span(0, 3, "A"), Span(3, 6, "A"), Span(8, 9, "A")]
    assert pairs(gold, [Span(2, 4, "A"), Span(5, 9, "A")]) == [(0, 0), (1, 1)]


def random_side(source: random.Random) -> list[Span]:
    borders = sorted(source.sample(range(16), source.randint(0, 10)))
    return [Span(a, b, source.choice("AB")) for a, b in itertools.pairwise(borders) if source.random() < 0.7]


@pytest.mark.extras
def test_the_counts_are_those_of_nervaluate():
    nervaluate = pytest.importorskip("nervaluate")
    source = random.Random(0)
    sentences = [(random_side(source), random_side(source)) for _ in range(3_000)]
    ours: PartialCounts = Counter()
    for gold, predicted in sentences:
        ours.update(count_partial(gold, predicted))
    as_dicts = [
        [[{"label": s.type, "start": s.start, "end": s.end - 1} for s in sentence[i]] for sentence in sentences]
        for i in (0, 1)
    ]
    theirs = nervaluate.Evaluator(*as_dicts, tags=["A", "B"], loader="dict").evaluate()["overall"]
    assert ours["partial", "partial"] > 500
    for scheme, scored in partial_scores(ours).items():
        of = theirs["ent_type" if scheme == "type" else scheme]
        for name, value in scored.items():
            assert getattr(of, name) == pytest.approx(value, abs=1e-12), (scheme, name)
