"""Spans that are not sure enough are left out of the tags, in every scheme."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nerloop.decoding.thresholds import Thresholds
from nerloop.tags import Scheme, is_legal, split_tag, to_spans
from nerloop.types import Span

TAGS = {
    Scheme.IOB1: "I-X I-X B-X O I-Y",
    Scheme.IOB2: "B-X I-X B-X O B-Y",
    Scheme.BIOES: "B-X E-X S-X O S-Y",
    Scheme.IOE2: "I-X E-X E-X O E-Y",
    Scheme.IOE1: "I-X E-X I-X O I-Y",
}


@pytest.mark.parametrize("scheme", list(Scheme))
def test_the_others_are_kept_and_legal(scheme):
    tags = TAGS[scheme].split()
    assert to_spans(tags) == [Span(0, 2, "X"), Span(2, 3, "X"), Span(4, 5, "Y")]
    for kept in itertools.product([0.4, 0.6], repeat=3):
        found, confidences = Thresholds(0.5, scheme=scheme).apply(tags, np.array(kept))
        assert to_spans(found) == [s for s, c in zip(to_spans(tags), kept, strict=True) if c > 0.5]
        assert confidences.tolist() == [c for c in kept if c > 0.5]
        parts = [("O", ""), *map(split_tag, found), ("O", "")]
        assert all(is_legal(a, b, scheme) for a, b in itertools.pairwise(parts))


def test_a_type_may_have_its_own_threshold():
    tags, confidences = ["B-X", "B-Y", "B-Z"], np.array([0.8, 0.8, 0.8])
    found, kept = Thresholds(0.9, {"Y": 0.8, "X": 0.81}).apply(tags, confidences)
    assert (found, kept.tolist()) == (["O", "B-Y", "O"], [0.8])


def test_a_threshold_of_zero_is_none():
    assert not Thresholds()
    assert not Thresholds(0.0, {"X": 0.0})
    assert Thresholds(0.0, {"X": 0.1})
    assert Thresholds(0.1)
