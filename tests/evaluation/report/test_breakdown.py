"""Names of the training data, buckets, and calibration."""

from __future__ import annotations

import pytest

from nerloop.evaluation.report.breakdown import TrainingNames, bucket, buckets, order_of
from nerloop.evaluation.report.reliability import calibration
from nerloop.evaluation.report.sentences import ScoredSentence
from nerloop.types import Example, Span

NAMES = TrainingNames.of([
    Example(("New", "York", "saw", "May"), ("B-LOC", "I-LOC", "O", "B-PER")),
    Example(("May", "came"), ("O", "O")),
    Example(("New", "York"), ("B-ORG", "I-ORG")),
])  # fmt: skip


def test_names_of_the_training_data():
    assert NAMES.types_of == {"New York": {"LOC", "ORG"}, "May": {"PER"}}
    assert NAMES.frequency == {"LOC": 1, "ORG": 1, "PER": 1}


@pytest.mark.parametrize(
    ("form", "type_", "expected"),
    [
        ("New York", "LOC", "same_type"), ("New York", "ORG", "same_type"), ("New York", "PER", "other_type"),
        ("York", "LOC", "unseen"), ("new york", "LOC", "unseen"), ("came", "PER", "unseen"),
    ],
)  # fmt: skip
def test_where_a_form_was_seen(form, type_, expected):
    assert NAMES.seen(form, type_) == expected


@pytest.mark.parametrize(
    ("number", "ends", "expected"),
    [(1, (1, 2, 3, 5), "1"), (4, (1, 2, 3, 5), "4-5"), (6, (1, 2, 3, 5), "6+"), (1, (10, 20), "1-10"),
     (20, (10, 20), "11-20"), (21, (10, 20), "21+"), (0, (0, 9), "0"), (9, (0, 9), "1-9"), (10, (0, 9), "10+")],
)  # fmt: skip
def test_buckets_of_numbers(number, ends, expected):
    assert bucket(number, ends) == expected


def test_the_order_of_buckets():
    assert order_of("type_frequency") == ["0", "1-9", "10-99", "100-999", "1000-9999", "10000+"]
    assert order_of("surface") == ["same_type", "other_type", "unseen"]


def test_buckets_of_a_span():
    example = Example(("New", "York", "saw", "Li"), ("B-LOC", "I-LOC", "O", "B-NEW"))
    sentence = ScoredSentence.of(example, [])
    assert dict(buckets(sentence, Span(0, 2, "LOC"), NAMES)) == {
        "surface": "same_type", "entity_length": "2", "sentence_length": "1-10", "type_frequency": "1-9"
    }  # fmt: skip
    assert dict(buckets(sentence, Span(3, 4, "NEW"), NAMES))["type_frequency"] == "0"
    assert dict(buckets(sentence, Span(3, 4, "NEW"), None)) == {"entity_length": "1", "sentence_length": "1-10"}


def test_calibration():
    found = calibration([0.95, 0.91, 1.0, 0.55], [True, False, True, False], [0.5, 0.5, 0.5, 0.5])
    assert found["bins"] == [
        {"low": 0.5, "high": 0.6, "spans": 1, "confidence": 0.55, "correct": 0.0},
        {"low": 0.9, "high": 1.0, "spans": 3, "confidence": pytest.approx(2.86 / 3), "correct": pytest.approx(2 / 3)},
    ]
    assert found["ece"] == pytest.approx((1 * 0.55 + 3 * (2.86 - 2) / 3) / 4)
    assert found["ece_uncalibrated"] == 0.0


def test_calibration_without_another_set_of_confidences_and_without_spans():
    assert calibration([0.8], [True])["ece_uncalibrated"] is None
    assert calibration([], [], []) == {"ece": 0.0, "ece_uncalibrated": 0.0, "bins": []}
