"""Apply an operating point and confidence thresholds, chosen by the flags of a command or in `Tagger.tag`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import Any

from nerloop.decoding.operating_points import DEFAULT, Calibration
from nerloop.decoding.thresholds import Thresholds
from nerloop.errors import ConfigError
from nerloop.evaluation.predictor import Predictor, build_decodings
from nerloop.inspection.finding import count_of
from nerloop.model.saved import SavedModel
from nerloop.tags import Scheme, split_tag

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The operating point and the threshold that a user asks for: at most one of the confidence and the two targets."""

    operating_point: str = DEFAULT
    min_confidence: float | None = None
    target_precision: float | None = None
    target_recall: float | None = None
    per_type: bool = False

    @staticmethod
    def of(arguments: Any) -> Choice:
        """Return the choice that parsed arguments hold under the names of the fields."""
        return Choice(**{field.name: getattr(arguments, field.name) for field in fields(Choice)})

    def asked(self) -> dict[str, Any]:
        """Return the fields that differ from their default, with their values."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


def with_biases(predictor: Predictor, saved: SavedModel, name: str) -> Predictor:
    """Return the predictor with the biases of an operating point in new decodings; both share the model.

    Raises ConfigError if the model does not have the operating point, or its decoding takes no biases.
    """
    if name == DEFAULT:
        return predictor
    biases = saved.calibration.point(name).biases
    found = replace(predictor, decodings=build_decodings(saved.plugins["decoding"], predictor.labels, saved.scheme))
    found.learn(saved.learned)
    decoding: Any = found.decodings[found.main_decoding]
    if not hasattr(decoding, "bias"):
        raise ConfigError(f"--operating_point {name}: decoding {found.main_decoding} has none; use viterbi")
    decoding.bias(biases)
    return found


def at_operating_point(predictor: Predictor, saved: SavedModel, choice: Choice) -> Predictor:
    """Return the predictor with the choice applied.

    Raises ConfigError if the model does not support what is asked for.
    """
    calibration, name = saved.calibration, choice.operating_point
    predictor = with_biases(predictor, saved, name)
    if name != DEFAULT and not calibration.point(name).biases:
        log.warning("warning: operating point %s: on validation nothing was better, so it is the default", name)
    thresholds = thresholds_for(calibration, saved.scheme, choice)
    if thresholds:
        # Name, curve of validation, and threshold of the types that have one of their own, then of all others.
        in_effect = [(type_, type_, threshold) for type_, threshold in thresholds.by_type.items()]
        if not {split_tag(label)[1] for label in predictor.labels} - {""} <= thresholds.by_type.keys():
            others = ("other types", "") if thresholds.by_type else ("all types", "all")
            in_effect.insert(0, (*others, thresholds.of_all))
        for types, curve, threshold in in_effect:
            scores = _on_validation(calibration, name, curve, threshold)
            log.info("%s: spans with a confidence of %.3f or more are kept%s", types, threshold, scores)
    return replace(predictor, thresholds=thresholds)


def _on_validation(calibration: Calibration, name: str, type_: str, threshold: float) -> str:
    """Return the scores of a threshold on validation, in brackets; "" if they are not known.

    A threshold may reach a precision with very few spans, so the recall and the number of spans are shown as well.
    """
    curve = calibration.points[name].curves.get(type_) if name in calibration.points else None
    if curve is None or threshold not in calibration.thresholds:
        return ""
    at = calibration.thresholds.index(threshold)
    scores = f"precision {curve.precision(at):.3f}, recall {curve.recall(at):.3f}"
    return f" (on validation: {scores}, {count_of(curve.predicted[at], 'span')})"


def thresholds_for(calibration: Calibration, scheme: Scheme, choice: Choice) -> Thresholds:
    """Return the thresholds that a choice asks for, none by default. Raises ConfigError like `at_operating_point`."""
    asked = {flag: value for flag in ("min_confidence", "target_precision", "target_recall")
             if (value := getattr(choice, flag)) is not None}  # fmt: skip
    for flag, value in asked.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"--{flag}: found {value:g}, expected a number from 0 to 1")
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(f'--{flag}' for flag in asked)} are both given; expected one of them")
    if choice.per_type and not asked.keys() & {"target_precision", "target_recall"}:
        raise ConfigError("--per_type: expected --target_precision or --target_recall with it")
    if not asked:
        return Thresholds(scheme=scheme)
    ((flag, value),) = asked.items()
    if flag == "min_confidence":
        return Thresholds(value, scheme=scheme)
    target, name = flag.removeprefix("target_"), choice.operating_point
    types = [t for t in calibration.point(name).curves if t != "all"] if choice.per_type else []
    by_type, missed = {}, {}
    for type_ in types:
        try:
            by_type[type_] = calibration.threshold_for(name, target, value, type_)
        except ConfigError as error:
            missed[type_] = error
    if types and not by_type:
        raise next(iter(missed.values()))
    for type_ in missed:  # a type that never reaches a precision keeps its surest spans; for a recall, all of them
        by_type[type_] = max(calibration.thresholds) if target == "precision" else 0.0
        log.warning("warning: --target_%s %g: %s did not reach it on validation", target, value, type_)
    if not types:
        of_all = calibration.threshold_for(name, target, value)
    else:  # for types that validation did not have
        of_all = max(calibration.thresholds) if target == "precision" else 0.0
    return Thresholds(of_all, by_type, scheme)
