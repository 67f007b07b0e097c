"""Fit confidences and operating points on validation, and measure them on another split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from nerloop.decoding import Decoding
from nerloop.decoding.operating_points import DEFAULT, POINTS, Calibration, Curve, OperatingPoint
from nerloop.evaluation.biases import fit_biases
from nerloop.evaluation.held_out import HeldOut, Judged
from nerloop.evaluation.report.reliability import calibration as calibration_error

LEAST_SPANS = 100
"""With fewer gold spans on validation, nothing is fitted: the fit would be mostly noise."""
MOST_SCORES = 4_000_000
"""Temperature and curves are fitted on about this many label scores, evenly drawn, and biases on a tenth of them, so
that fitting takes seconds."""
TARGETS = {"precision": (0.9, 0.95, 0.99), "recall": (0.8, 0.9, 0.95)}
"""The targets that `measure` evaluates."""


def fit(held: HeldOut, decoding: Decoding) -> Calibration:
    """Return the temperature and operating points fitted on the validation split; nothing is fitted if it is too small.

    A decoding without probabilities gets neither a temperature nor operating points. One that takes no biases gets only
    the operating point "default".
    """
    has_probabilities = hasattr(decoding, "span_probabilities") and hasattr(decoding, "sequence_logs")
    if not has_probabilities or held.num_gold.total() < LEAST_SPANS:
        return Calibration()
    few, held = held.within(MOST_SCORES // 10), held.within(MOST_SCORES)
    temperature = fit_temperature(held, decoding)
    biases: dict[str, Mapping[str, float]] = {DEFAULT: {}}
    if hasattr(decoding, "bias"):
        biases |= {name: fit_biases(few, decoding, beta) for name, beta in POINTS.items()}
    curves = {name: _curves(held, decoding, temperature, values) for name, values in biases.items()}
    return Calibration(temperature, {name: OperatingPoint(curves[name], biases[name]) for name in biases})


def fit_temperature(held: HeldOut, decoding: Decoding) -> float:
    """Return the temperature from 0.1 to 10 with the greatest likelihood of the gold label sequences.

    Sentences whose gold sequence the decoding can't give are left out. Source: Guo et al., On calibration of modern
    neural networks (2017), there for single labels.
    """
    sequence_logs: Any = decoding.sequence_logs  # type: ignore[attr-defined]
    which, paths = held.gold_paths()
    rows = [held.scores[i] for i in which]
    possible = np.flatnonzero(np.isfinite(sequence_logs(rows, paths, 1.0)))
    rows, paths = [rows[i] for i in possible], [paths[i] for i in possible]

    def loss(log_temperature: float) -> float:
        return -float(sequence_logs(rows, paths, math.exp(log_temperature)).sum())

    if not rows:
        return 1.0
    bounds = math.log(0.1), math.log(10)
    return round(math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x), 4)


def measure(held: HeldOut, decoding: Decoding, calibration: Calibration) -> dict[str, Any]:
    """Return the scores of operating points and targets on another split than the one that they were fitted on.

    {"calibration": {"ece", "ece_uncalibrated", "bins"}, "operating_points": {NAME: SCORES}, "targets": {"precision":
    {"0.95": {"threshold", "validation": SCORES, "delivered": SCORES}}, "recall": ...}}. SCORES are precision, recall
    and f1; "delivered" are those on this split. Without fitted operating points, {} is returned.
    """
    if not calibration.points:
        return {}
    plain, judged = Judged.of(held, decoding, 1.0), Judged.of(held, decoding, calibration.temperature)
    num_gold = held.num_gold
    points = {}
    for name, point in calibration.points.items():
        points[name] = _scores(_curves(held, decoding, calibration.temperature, point.biases)["all"], 0)
    return {
        "calibration": calibration_error(judged.confidences, judged.is_correct, plain.confidences),
        "operating_points": points,
        "targets": _targets(calibration, judged, num_gold),
    }


def _targets(calibration: Calibration, judged: Judged, num_gold: Counter[str]) -> dict[str, dict[str, Any]]:
    """Return the scores at the threshold of each target; targets that validation did not reach are left out."""
    promised, delivered = calibration.points[DEFAULT].curves["all"], judged.curves(num_gold)["all"]
    found: dict[str, dict[str, Any]] = {}
    for target, values in TARGETS.items():
        places = {value: promised.place_for(target, value) for value in values}
        found[target] = {
            str(value): {
                "threshold": calibration.thresholds[at],
                "validation": _scores(promised, at),
                "delivered": _scores(delivered, at),
            }
            for value, at in places.items()
            if at is not None
        }
    return found


def _curves(held: HeldOut, decoding: Decoding, temperature: float, biases: Mapping[str, float]) -> dict[str, Curve]:
    """Return the curves of the spans found with these biases. Afterwards the decoding has no biases."""
    bias: Any = getattr(decoding, "bias", lambda values: None)
    bias(biases)
    judged = Judged.of(held, decoding, temperature)
    bias({})
    return judged.curves(held.num_gold)


def _scores(curve: Curve, at: int) -> dict[str, float]:
    """Return the scores at the threshold of an index; index 0 is the threshold 0, which keeps all spans."""
    precision, recall = curve.precision(at), curve.recall(at)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": round(precision, 6), "recall": round(recall, 6), "f1": round(f1, 6)}


def with_test(calibration: Calibration, measured: Mapping[str, Any]) -> Calibration:
    """Return the calibration with the results on the test split, without the bins of the reliability diagram."""
    whole = {name: dict(of_one) for name, of_one in measured.items()}  # copies, since bins are removed
    whole.get("calibration", {}).pop("bins", None)
    return replace(calibration, test=whole)
