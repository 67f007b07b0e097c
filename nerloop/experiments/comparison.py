"""Compare configurations: summarize each over its seeds, and give each pair's difference with its uncertainty."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nerloop.errors import ConfigError
from nerloop.experiments import statistics
from nerloop.experiments.finished import FinishedRun
from nerloop.experiments.statistics import Difference, SpanCounts

METRICS = ("f1", "precision", "recall", "accuracy")
TOLERANCE = 1e-9
"""Allowed difference between F1 from span counts and F1 in results.json, which rounds in another order."""
COSTS = ("train_seconds", "samples_per_second", "subwords_per_second")
"""The timings in results.json that are compared."""


@dataclass(frozen=True)
class Configuration:
    """A configuration and its finished runs, sorted by seed, all on the same data."""

    name: str
    runs: Sequence[FinishedRun]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, ascending."""
        return [run.seed for run in self.runs]


def compare(configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Return the comparison as plain values, for JSON. Fractions from 0 to 1; differences are b - a.

    {"configurations": [{"name", "folders", "seeds", "metric", "settings", "decoding", "splits": {SPLIT: {METRIC: S}},
    "decodings": {DECODING: {SPLIT: {METRIC: S}}}, "per_type": {SPLIT: {TYPE: S}}, "cost": {NAME: S}}], "pairs": [{"a",
    "b", "split", "metric", "greater_is_better", "difference", "interval", "bootstrap_interval", "p_value",
    "p_value_holm", "test", "seeds", "seeds_for_half_a_point"}], "differing_settings": {NAME: [a value for each
    configuration]}} with S = {"mean", "sd", "min", "max", "values"}, see `summary`. Raises ConfigError for runs that
    can't be compared.
    """
    check_comparable([run for one in configurations for run in one.runs])
    pairs = [pair for a, b in itertools.combinations(configurations, 2) for pair in _pairs(a, b)]
    # Holm's correction is applied to each split by itself, since a reader asks which configuration is best on a split.
    for split in {pair["split"] for pair in pairs}:
        family = [p for p in pairs if p["split"] == split and p["p_value"] is not None]
        for pair, corrected in zip(family, statistics.holm([p["p_value"] for p in family]), strict=True):
            pair["p_value_holm"] = corrected
    settings = [one.runs[0].settings for one in configurations]
    names = sorted({name for of_one in settings for name in of_one})
    return {
        "configurations": [_configuration(one) for one in configurations],
        "pairs": pairs,
        "differing_settings": {
            name: list(values)
            for name, *values in ((name, *(of_one.get(name) for of_one in settings)) for name in names)
            if any(value != values[0] for value in values)
        },
    }


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Raise ConfigError unless all runs have the same data, labels, version of nerloop and scored splits."""
    first = runs[0]
    if not first.splits:
        raise ConfigError(f"{first.folder}: has no scores of held-out data, expected validation or test to compare on")
    for run in runs[1:]:
        for name, what in (("fingerprints", "other data"), ("labels", "other labels")):
            mine, its = first.environment.get(name), run.environment.get(name)
            if mine != its:
                raise ConfigError(
                    f"{run.folder}: was trained on {what} than {first.folder} (environment.json: {name}), "
                    "expected the same for all runs"
                )
        versions = [r.environment.get("versions", {}).get("nerloop") for r in (first, run)]
        if versions[0] != versions[1]:
            raise ConfigError(
                f"{run.folder}: is of nerloop {versions[1]}, {first.folder} of {versions[0]}; train one of them again"
            )
        if run.splits != first.splits:
            raise ConfigError(f"{run.folder}: has scores of {run.splits}, expected {first.splits} as in {first.folder}")


def summary(values: Iterable[float]) -> dict[str, Any]:
    """Return the mean, the sample standard deviation (None for one value), the minimum, the maximum, and the values."""
    numbers = [float(value) for value in values]
    return {
        "mean": float(np.mean(numbers)),
        "sd": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
        "min": min(numbers),
        "max": max(numbers),
        "values": numbers,
    }


def _configuration(one: Configuration) -> dict[str, Any]:
    """Return a configuration as `compare` returns it."""
    runs, first = one.runs, one.runs[0]
    metrics = list(dict.fromkeys([first.metric, *METRICS]))

    def summaries(split: str, decoding: str | None) -> dict[str, Any]:
        found = [run.scores(split, decoding) for run in runs]
        return {name: summary(m[name] for m in found) for name in metrics if all(name in m for m in found)}

    decodings = list(first.results[first.splits[0]]["best"]) if first.splits else []
    per_type = {}
    for split in first.splits:
        found = [run.scores(split).get("per_type", {}) for run in runs]
        types = sorted(set().union(*found))
        # A type that is in neither the gold nor the predicted spans of a run has no score there.
        per_type[split] = {type_: summary(m[type_]["f1"] for m in found if type_ in m) for type_ in types}
    timings = [run.results["timing"] for run in runs]
    cost = {name: summary(t[name] for t in timings) for name in COSTS if all(t.get(name) is not None for t in timings)}
    memory = [run.memory_gib for run in runs]
    if all(value is not None for value in memory):
        cost["memory_gib"] = summary(value for value in memory if value is not None)
    return {
        "name": one.name,
        "folders": [str(run.folder) for run in runs],
        "seeds": one.seeds,
        "metric": first.metric,
        "settings": first.settings,
        "decoding": first.results["decoding"],
        "splits": {split: summaries(split, None) for split in first.splits},
        "decodings": {name: {split: summaries(split, name) for split in first.splits} for name in decodings}
        | (_pipelines([run.pipeline for run in runs]) if first.metric == "f1" else {}),
        "per_type": per_type,
        "cost": cost,
    }


def _pipelines(scored: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the F1 of transformers' `pipeline` on validation as further decodings, if all runs were scored by it."""
    return {
        name: {"validation": {"f1": summary(scores[name] for scores in scored)}}
        for name in scored[0]
        if all(name in scores for scores in scored)
    }


def _pairs(a: Configuration, b: Configuration) -> list[dict[str, Any]]:
    """Return the differences b - a by split, over the seeds that both have."""
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if not seeds:
        raise ConfigError(f"{a.name} has the seeds {a.seeds} and {b.name} {b.seeds}, expected some in common")
    runs = [[run for run in one.runs if run.seed in seeds] for one in (a, b)]
    metric, its = runs[0][0].metric, runs[1][0].metric
    if metric != its:
        raise ConfigError(f"{a.name} is judged by {metric} and {b.name} by {its}, expected the same metric for all")
    return [
        {
            "a": a.name,
            "b": b.name,
            "split": split,
            "metric": metric,
            "greater_is_better": runs[0][0].greater_is_better,
            **as_values(_difference(runs[0], runs[1], split, metric)),
        }
        for split in a.runs[0].splits
    ]


def _difference(a: Sequence[FinishedRun], b: Sequence[FinishedRun], split: str, metric: str) -> Difference:
    """Return the difference b - a of runs that are paired by seed. F1 is tested by sentence, other metrics by run."""
    values = [[float(run.scores(split)[metric]) for run in runs] for runs in (a, b)]
    if metric != "f1":  # the counts of each sentence only give F1
        return statistics.compare_values(*values)
    counts = [SpanCounts(*np.stack([run.span_counts(split) for run in runs], axis=1)) for runs in (a, b)]
    for of_side, runs, reported in zip(counts, (a, b), values, strict=True):
        for run, found, stated in zip(runs, of_side.f1(), reported, strict=True):
            if abs(found - stated) > TOLERANCE:
                raise ConfigError(
                    f"{run.folder}: its predictions of {split} don't give the F1 in results.json; was a file changed?"
                )
    return statistics.compare(*counts)


def as_values(difference: Difference) -> dict[str, Any]:
    """Return a difference as plain values, for JSON."""
    return {
        "difference": difference.difference,
        "interval": difference.interval and list(difference.interval),
        "bootstrap_interval": difference.bootstrap_interval and list(difference.bootstrap_interval),
        "p_value": difference.p_value,
        "p_value_holm": difference.p_value,  # `compare` corrects it
        "test": difference.test,
        "seeds": difference.seeds,
        "seeds_for_half_a_point": difference.seeds_for_half_a_point,
    }
