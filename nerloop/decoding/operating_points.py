"""Precision and recall of a model on held-out data, by confidence, to choose thresholds and operating points from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nerloop.decoding.viterbi import BIASES
from nerloop.errors import ConfigError

DEFAULT = "default"
"""The operating point without biases."""
POINTS = {"precision": 0.5, "f1": 1.0, "recall": 3.0}
"""The other operating points, with the beta of the F-beta score that their biases maximise: recall weighs beta times as
much as precision (van Rijsbergen, Information Retrieval, 1979)."""
THRESHOLDS = (*(round(0.05 * i, 2) for i in range(19)), 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
"""The confidence thresholds at which precision and recall are stored."""


@dataclass(frozen=True)
class Curve:
    """How many spans of the data have at least each threshold's confidence, and how many of those are right."""

    gold: int
    predicted: tuple[int, ...]  # by threshold
    correct: tuple[int, ...]

    def precision(self, at: int) -> float:
        """Return the precision at the threshold of this index; 0 where nothing is predicted."""
        return self.correct[at] / self.predicted[at] if self.predicted[at] else 0.0

    def recall(self, at: int) -> float:
        """Return the recall at the threshold of this index."""
        return self.correct[at] / self.gold if self.gold else 0.0

    def place_for(self, target: str, value: float) -> int | None:
        """Return the index of the threshold for a "precision" or "recall"; None if no threshold reaches it.

        Of the thresholds that reach a precision, it is the lowest, which has the highest recall. Of those that reach a
        recall, it is the highest, which keeps the surest spans.
        """
        reached = [at for at in range(len(self.predicted)) if getattr(self, target)(at) >= value]
        return None if not reached else reached[0] if target == "precision" else reached[-1]


@dataclass(frozen=True)
class OperatingPoint:
    """Biases of transitions, and the curves of the spans found with them: for all types ("all"), and by type."""

    curves: Mapping[str, Curve]
    biases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """The temperature of confidences and the operating points, fitted on the validation split.

    `points` is empty if there were too few spans to fit anything. `test` has the results on the test split.
    """

    temperature: float = 1.0
    points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    thresholds: tuple[float, ...] = THRESHOLDS
    test: Mapping[str, Any] = field(default_factory=dict)

    def point(self, name: str) -> OperatingPoint:
        """Return an operating point by name. Raises ConfigError if the model does not have it."""
        if not self.points:
            raise ConfigError(
                "the model has no thresholds and no operating points: its training had no validation split with enough "
                "entities, or an older version of nerloop trained it. --min_confidence works without them"
            )
        if name not in self.points:
            raise ConfigError(f"operating point: found {name!r}, expected one of {', '.join(self.points)}")
        return self.points[name]

    def threshold_for(self, name: str, target: str, value: float, type_: str = "all") -> float:
        """Return the threshold of an operating point that reached a "precision" or "recall" on validation.

        Raises ConfigError if none did; the error names what can be reached.
        """
        curve = self.point(name).curves[type_]
        place = curve.place_for(target, value)
        if place is None:
            best = max(range(len(self.thresholds)), key=lambda at: getattr(curve, target)(at))
            what = "" if type_ == "all" else f" of {type_}"
            raise ConfigError(
                f"--target_{target}: found {value:g}, but on validation the {target}{what} was "
                f"{getattr(curve, target)(best):.3f} at most (operating point {name}); expected no more than that"
            )
        return self.thresholds[place]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are saved in nerloop.json."""
        points = {
            name: {
                "biases": dict(point.biases),
                "curves": {
                    type_: {"gold": c.gold, "predicted": list(c.predicted), "correct": list(c.correct)}
                    for type_, c in point.curves.items()
                },
            }
            for name, point in self.points.items()
        }
        values = {"temperature": self.temperature, "thresholds": list(self.thresholds), "operating_points": points}
        return values | ({"test": dict(self.test)} if self.test else {})

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Calibration:
        """Return a calibration from its plain values.

        Raises ValueError, KeyError, TypeError or AttributeError for other values.
        """
        thresholds = tuple(float(x) for x in values["thresholds"])
        points = {}
        for name, point in dict(values["operating_points"]).items():
            curves = {
                str(type_): Curve(int(c["gold"]), tuple(map(int, c["predicted"])), tuple(map(int, c["correct"])))
                for type_, c in dict(point["curves"]).items()
            }
            biases = {str(kind): float(x) for kind, x in dict(point["biases"]).items()}
            sizes = {len(numbers) for c in curves.values() for numbers in (c.predicted, c.correct)}
            if "all" not in curves or sizes != {len(thresholds)} or not biases.keys() <= set(BIASES):
                raise ValueError(f"operating point {name!r}")
            points[str(name)] = OperatingPoint(curves, biases)
        temperature = float(values["temperature"])
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature {temperature!r}")
        return Calibration(temperature, points, thresholds, dict(values.get("test", {})))
