"""Temperature, biases and curves, fitted on sentences that are drawn from known probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nerloop.config import Plugin
from nerloop.data.options import ReadOptions
from nerloop.decoding.argmax import Argmax
from nerloop.decoding.operating_points import Calibration, Curve, OperatingPoint
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import ConfigError
from nerloop.evaluation.biases import fit_biases
from nerloop.evaluation.calibration import fit, fit_temperature, measure, with_test
from nerloop.evaluation.held_out import HeldOut, Judged
from nerloop.evaluation.report.reliability import calibration
from nerloop.model.saved import SavedModel
from nerloop.tags import Scheme
from nerloop.types import Example, Span

LABELS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def drawn(seed: int, num_sentences: int, sharpness: float = 1.0, bias: float = 0.0) -> HeldOut:
    """Return sentences whose gold tags are drawn token by token from the scores' probabilities, where those are legal.

    The scores are then made sharper, which is overconfident, and "O" is preferred by `bias`.
    """
    random = np.random.RandomState(seed)
    examples, scores = [], []
    while len(examples) < num_sentences:
        rows = random.dirichlet([1.5, 0.4, 0.4, 0.4, 0.4], size=random.randint(1, 9))
        tags = [LABELS[random.choice(5, p=row)] for row in rows]
        spans_as_written = all(tag[0] != "I" or (t and tags[t - 1][2:] == tag[2:]) for t, tag in enumerate(tags))
        if spans_as_written:  # drawn from the distribution over legal sequences: what is illegal is drawn again
            examples.append(Example(tuple("w" * len(tags)), tuple(tags)))
            scores.append(sharpness * np.log(rows) + bias * np.eye(5)[0])
    return HeldOut(LABELS, examples, scores)


def viterbi() -> Viterbi:
    return Viterbi(LABELS, Scheme.IOB2)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_the_temperature_is_found_and_mends_the_calibration(sharpness):
    found = fit_temperature(drawn(0, 1500, sharpness), viterbi())
    assert found == pytest.approx(sharpness, rel=0.12)
    test = drawn(1, 1500, sharpness)
    before, after = (Judged.of(test, viterbi(), t) for t in (1.0, found))
    errors = [calibration(j.confidences, j.is_correct)["ece"] for j in (before, after)]
    assert errors[1] < 0.04
    assert errors[0] > 0.08 or sharpness == 1.0
    assert before.is_correct.tolist() == after.is_correct.tolist()  # no tag has changed


def test_sentences_that_can_not_be_decoded_are_left_out_of_the_fit():
    held = drawn(0, 300, 2.0)
    odd = [Example(("a",), ("I-X",)), Example(("a",), ("B-NEW",)), Example((), ())]
    more = HeldOut(LABELS, [*held.examples, *odd], [*held.scores, *([np.zeros((1, 5))] * 2), np.zeros((0, 5))])
    assert fit_temperature(more, viterbi()) == fit_temperature(held, viterbi())
    assert fit_temperature(more.part([300, 301]), viterbi()) == 1.0


def test_a_model_that_prefers_o_gets_a_bias_against_it():
    held, test = drawn(2, 400, bias=3.0), drawn(3, 400, bias=3.0)
    found = fit_biases(held, viterbi(), beta=1.0)
    assert found["background_to_start"] > 0
    decoding = viterbi()
    plain = Judged.of(test, decoding, 1.0).curves(test.num_gold)["all"]
    decoding.bias(found)
    biased = Judged.of(test, decoding, 1.0).curves(test.num_gold)["all"]
    assert biased.recall(0) > plain.recall(0) + 0.05


def test_biases_that_help_only_the_sentences_they_were_fitted_on_are_dropped():
    """Of scores that tell nothing, any gain is luck: the other half of the sentences shows it."""
    held = drawn(4, 300)
    random = np.random.RandomState(0)
    gold = [4 * np.eye(5)[[LABELS.index(tag) for tag in e.tags]] for e in held.examples]
    kept = []
    for _ in range(6):
        noisy = [g + random.normal(size=g.shape) for g in gold]
        kept.append(fit_biases(HeldOut(LABELS, held.examples, noisy), viterbi(), 1.0))
    assert kept.count({}) >= 4


def test_counts_for_biases_are_those_of_spans():
    held = drawn(5, 200)
    from nerloop.evaluation.biases import _counter

    predicted = held.predicted(viterbi())
    correct = sum(span in gold for of_one, gold in zip(predicted, held.gold, strict=True) for span in of_one)
    assert _counter(held, viterbi())({}) == (correct, sum(map(len, predicted)), held.num_gold.total())
    assert correct > 50


def test_spans_off_the_borders_count_as_gold_that_is_missed():
    example = Example(("York-based", "b"), ("B-X", "B-Y"), missed=(Span(0, 4, "X"),), widened=(Span(0, 1, "X"),))
    held = HeldOut(LABELS, [example], [np.log([[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.6, 0.1]])])
    judged = Judged.of(held, viterbi(), 1.0)
    assert judged.is_correct.tolist() == [False, True]
    curves = judged.curves(held.num_gold)
    assert {name: (c.gold, c.predicted[0], c.correct[0]) for name, c in curves.items()} == {
        "all": (2, 2, 1), "X": (1, 1, 0), "Y": (1, 1, 1)
    }  # fmt: skip


def test_a_fit_is_whole_and_survives_json():
    calibration = fit(drawn(6, 200, 2.0), viterbi())
    assert list(calibration.points) == ["default", "precision", "f1", "recall"]
    assert calibration.points["default"].biases == {}
    assert set(calibration.points["default"].curves) == {"all", "X", "Y"}
    measured = measure(drawn(7, 200, 2.0), viterbi(), calibration)
    assert measured["calibration"]["ece"] < measured["calibration"]["ece_uncalibrated"]
    assert sum(b["spans"] for b in measured["calibration"]["bins"]) > 100
    whole = with_test(calibration, measured)
    assert Calibration.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert "bins" not in whole.test["calibration"]
    assert "bins" in measured["calibration"]


def test_the_measured_scores_are_seqevals():
    from nerloop.evaluators.seqeval import Seqeval

    calibration, test = fit(drawn(6, 200), viterbi()), drawn(8, 150)
    found = measure(test, viterbi(), calibration)["operating_points"]["default"]
    tags = [[LABELS[i] for i in path] for path in viterbi().decode(test.scores)]
    metrics = Seqeval().metrics(Seqeval().count([e.tags for e in test.examples], tags))
    assert found == {name: pytest.approx(metrics[name], abs=1e-6) for name in ("precision", "recall", "f1")}


def test_too_few_spans_or_a_decoding_without_probabilities_fit_nothing():
    assert fit(drawn(0, 20), viterbi()) == Calibration()

    class Bare:
        def decode(self, scores):
            return viterbi().decode(scores)

    assert fit(drawn(0, 300), Bare()) == Calibration()
    assert measure(drawn(0, 300), Bare(), Calibration()) == {}
    assert list(fit(drawn(0, 300), Argmax(LABELS, Scheme.IOB2)).points) == ["default"]


CURVE = Curve(10, (10, 8, 5, 2), (6, 6, 4, 2))
POINT = OperatingPoint({"all": CURVE, "X": CURVE})
CALIBRATION = Calibration(2.0, {"default": POINT}, thresholds=(0.0, 0.5, 0.9, 0.99))


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        ("precision", 0.6, 0.0),
        ("precision", 0.75, 0.5),
        ("precision", 0.9, 0.99),
        ("recall", 0.6, 0.5),
        ("recall", 0.2, 0.99),
    ],
)
def test_a_target_takes_the_threshold_that_costs_least(target, value, expected):
    assert CALIBRATION.threshold_for("default", target, value) == expected


def test_a_target_out_of_reach_says_what_is_in_reach():
    with pytest.raises(ConfigError) as caught:
        CALIBRATION.threshold_for("default", "recall", 0.9)
    assert str(caught.value) == (
        "--target_recall: found 0.9, but on validation the recall was 0.600 at most (operating point default); "
        "expected no more than that"
    )
    with pytest.raises(ConfigError, match="operating point: found 'recall', expected one of default"):
        CALIBRATION.point("recall")
    with pytest.raises(ConfigError, match="the model has no thresholds and no operating points: its training"):
        Calibration().point("default")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": "hot"},
        {"thresholds": [0.5]},
        {"operating_points": {"x": {}}},
        {"operating_points": 3},
    ],
)
def test_what_is_not_written_so_is_refused(change):
    assert Calibration.from_dict(CALIBRATION.to_dict()) == CALIBRATION
    with pytest.raises((ValueError, KeyError, TypeError)):
        Calibration.from_dict(CALIBRATION.to_dict() | change)


def test_expected_calibration_error_of_a_literal():
    confidences, is_correct = np.array([0.95, 1.0, 0.55, 0.51]), np.array([True, True, True, False])
    found = calibration(confidences, is_correct)
    assert found["bins"] == [
        {"low": 0.5, "high": 0.6, "spans": 2, "confidence": 0.53, "correct": 0.5},
        {"low": 0.9, "high": 1.0, "spans": 2, "confidence": 0.975, "correct": 1.0},
    ]
    assert found["ece"] == pytest.approx((2 * 0.03 + 2 * 0.025) / 4)
    assert calibration(np.zeros(0), np.zeros(0, dtype=bool))["ece"] == 0.0


def test_a_part_is_drawn_evenly():
    held = drawn(9, 100)
    few = held.within(sum(len(s) for s in held.scores) * 5 // 3)
    assert few.examples == held.examples[::3] or few.examples == held.examples[::4]
    assert held.within(10**9) is held


def test_a_calibration_belongs_to_the_decoding_that_it_was_fitted_for(tmp_path):
    names = {"alignment": "all", "collator": "pad", "decoding": "viterbi", "evaluator": "seqeval"}
    chosen = {kind: Plugin(name) for kind, name in names.items()}
    SavedModel(chosen, Scheme.IOB2, "no", ReadOptions(), calibration=CALIBRATION).write(tmp_path)
    assert SavedModel.read(tmp_path).calibration == CALIBRATION
    assert SavedModel.read(tmp_path, {"decoding": "viterbi"}).calibration == CALIBRATION
    assert SavedModel.read(tmp_path, {"decoding": "argmax"}).calibration == Calibration()
