"""Kinds of errors: literals for each, and that every wrong span belongs to exactly one error."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.evaluation.report.errors import Kind, errors_of
from nerloop.types import Span


def spans(text: str) -> list[Span]:
    """Return spans: "0-2 PER, 3-4 LOC" -> [Span(0, 2, "PER"), Span(3, 4, "LOC")]."""
    found = []
    for part in filter(None, text.split(", ")):
        borders, type_ = part.split(" ")
        start, end = borders.split("-")
        found.append(Span(int(start), int(end), type_))
    return found


@st.composite
def sides(draw: st.DrawFn) -> list[Span]:
    """Return spans of a sentence of 12 tokens, in order, without overlaps."""
    borders = draw(st.lists(st.integers(0, 12), unique=True, max_size=12).map(sorted))
    types = st.sampled_from(["PER", "LOC"])
    return [Span(a, b, draw(types)) for a, b in itertools.pairwise(borders) if draw(st.booleans())]


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("0-2 PER", "0-2 PER", []),
        ("0-2 PER", "", [("missed", (0,), ())]),
        ("", "0-2 PER", [("spurious", (), (0,))]),
        ("0-2 PER", "2-3 PER", [("missed", (0,), ()), ("spurious", (), (0,))]),
        ("0-2 PER", "0-2 LOC", [("wrong_type", (0,), (0,))]),
        ("0-3 PER", "0-2 PER", [("too_short", (0,), (0,))]),
        ("0-3 PER", "1-2 LOC", [("too_short", (0,), (0,))]),
        ("1-3 PER", "0-3 PER", [("too_long", (0,), (0,))]),
        ("1-3 PER", "0-2 PER", [("shifted", (0,), (0,))]),
        ("0-4 ORG", "0-1 ORG, 3-4 LOC", [("split", (0,), (0, 1))]),
        ("0-1 PER, 1-3 ORG", "0-3 ORG", [("merged", (0, 1), (0,))]),
        # A chain: gold 0 and 1, predicted 0 to 2. Two pairs, and one span that is left over.
        ("0-3 A, 3-6 A", "0-2 A, 2-4 A, 5-6 A",
         [("too_short", (0,), (0,)), ("shifted", (1,), (1,)), ("spurious", (), (2,))]),
        # Correct spans are set aside, and indices are those of the sentence.
        ("0-1 A, 2-4 A, 5-6 A", "0-1 A, 2-3 A, 5-6 A", [("too_short", (1,), (1,))]),
    ],
)  # fmt: skip
def test_each_kind(gold, predicted, expected):
    assert errors_of(spans(gold), spans(predicted)) == expected


@given(sides(), sides())
def test_every_wrong_span_belongs_to_one_error(gold, predicted):
    errors = errors_of(gold, predicted)
    correct = set(gold) & set(predicted)
    assert Counter(i for e in errors for i in e.gold) == Counter(i for i, s in enumerate(gold) if s not in correct)
    assert Counter(i for e in errors for i in e.predicted) == Counter(
        i for i, s in enumerate(predicted) if s not in correct
    )
    for error in errors:
        shape = len(error.gold), len(error.predicted)
        if error.kind in (Kind.MISSED, Kind.SPURIOUS):
            assert shape == ((1, 0) if error.kind is Kind.MISSED else (0, 1))
        else:
            touching = [
                predicted[j].start < gold[i].end and gold[i].start < predicted[j].end
                for i in error.gold
                for j in error.predicted
            ]
            assert touching
            assert all(touching)
            assert (shape == (1, 1)) == (error.kind not in (Kind.SPLIT, Kind.MERGED))


def test_many_spans_in_one_sentence_take_no_time():
    gold = [Span(3 * i, 3 * i + 2, "A") for i in range(20_000)]
    predicted = [Span(3 * i + 1, 3 * i + 4, "A") for i in range(20_000)]  # one chain
    errors = errors_of(gold, predicted)
    assert {e.kind for e in errors} == {Kind.SHIFTED}
    assert len(errors) == 20_000
