"""Measure how well confidences match how often the model is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BINS = 10


def calibration(confidences: ArrayLike, is_correct: ArrayLike, uncalibrated: ArrayLike | None = None) -> dict[str, Any]:
    """Return the expected calibration error of predicted spans and the reliability curve: {"ece", ..., "bins"}.

    The error is the mean over the spans of |share of correct spans - mean confidence| of their bin, with 10 bins of
    equal width (Naeini et al., 2015). `ece_uncalibrated` is the error of the confidences before calibration, None if
    they are not known. `bins` has the bins that are not empty: {"low", "high", "spans", "confidence", "correct"}.
    """
    correct = np.asarray(is_correct, dtype=float)
    bins = _bins(np.asarray(confidences, dtype=float), correct)
    before = None if uncalibrated is None else _error(_bins(np.asarray(uncalibrated, dtype=float), correct))
    rounded = [{name: round(value, 6) for name, value in one.items()} for one in bins]
    return {
        "ece": round(_error(bins), 6),
        "ece_uncalibrated": None if before is None else round(before, 6),
        "bins": rounded,
    }


def _bins(confidences: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    number = np.clip((confidences * BINS).astype(int), 0, BINS - 1)  # 1.0 belongs to the last bin
    found = []
    for i in np.unique(number).tolist():
        inside = number == i
        found.append({
            "low": i / BINS, "high": (i + 1) / BINS, "spans": int(inside.sum()),
            "confidence": float(confidences[inside].mean()), "correct": float(correct[inside].mean()),
        })  # fmt: skip
    return found


def _error(bins: Sequence[dict[str, Any]]) -> float:
    total = sum(b["spans"] for b in bins)
    return sum(b["spans"] * abs(b["correct"] - b["confidence"]) for b in bins) / total if total else 0.0
