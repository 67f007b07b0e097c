"""Write a comparison as text for the terminal. Scores are percentages, differences are percentage points."""

from __future__ import annotations

from typing import Any

from nerloop.evaluation.tables import plain_table
from nerloop.experiments.statistics import SIGNIFICANT


def as_text(comparison: dict[str, Any]) -> str:
    """Return a comparison as text: its tables, then a sentence for each pair."""
    configurations = comparison["configurations"]
    parts = [plain_table(*_scores(configurations))]
    if comparison["differing_settings"]:
        names = [one["name"] for one in configurations]
        rows = [[name, *map(_setting, values)] for name, values in comparison["differing_settings"].items()]
        parts.append(plain_table(rows, ["setting", *names]))
    names = [one["name"] for one in configurations]
    for split in configurations[0]["per_type"]:
        if rows := type_rows(configurations, split):
            parts.append(plain_table(rows, [f"F1 on {split}", *names]))
    parts.append(plain_table(cost_rows(configurations, {"memory_gib": 2}, 1), ["cost", *names]))
    parts.append("\n".join(map(verdict, comparison["pairs"])) or "one configuration: nothing to compare it with")
    return "\n\n".join(parts)


def verdict(pair: dict[str, Any]) -> str:
    """Return a sentence about the difference of a pair: its size, its uncertainty, and the seeds it would take."""
    name = pair["metric"]
    text = f"{pair['split']}: {pair['b']} - {pair['a']} = {points(pair['difference'])} points of {name}"
    if pair["interval"] is None or pair["p_value"] is None:
        return f"{text}; one seed says nothing about the spread, expected at least 2"
    better = pair["b"] if (pair["difference"] > 0) == pair["greater_is_better"] else pair["a"]
    if pair["test"] == "none":
        every = "no span differs" if pair["seeds"] == 1 else "the same with every seed"
        return f"{text}, {every}" + (f": {better} is better" if pair["difference"] else "")
    low, high = pair["interval"]
    text += f", 95% interval {points(low)} to {points(high)}"
    if pair["bootstrap_interval"] is not None:
        text += f" (bootstrap {points(pair['bootstrap_interval'][0])} to {points(pair['bootstrap_interval'][1])})"
    test = {"randomization": "approximate randomization", "t": "Student's t"}[pair["test"]]
    text += f", p {p_value(pair['p_value'])} by {test}"
    if pair["p_value_holm"] != pair["p_value"]:
        text += f", {p_value(pair['p_value_holm'])} after Holm's correction"
    text += f", {pair['seeds']} seed{'s' * (pair['seeds'] != 1)}"
    is_clear = pair["p_value_holm"] <= SIGNIFICANT
    text += f": {better} is better" if is_clear else ": no difference shown"
    if pair["seeds"] == 1:
        return f"{text}, of these two models; other seeds may differ"
    needed = pair["seeds_for_half_a_point"]
    if needed is None:
        return f"{text}; with so few sentences, no number of seeds would detect half a point"
    return f"{text}; {needed} seeds would detect half a point in 4 of 5 cases"


def p_value(value: float) -> str:
    """Return a p-value as text: "0.034", "< 0.001"."""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def points(value: float) -> str:
    """Return a fraction as signed percentage points: 0.0123 -> "+1.23"."""
    return f"{100 * value:+.2f}"


def spread(summary: dict[str, Any], scale: float = 100, digits: int = 1) -> str:
    """Return mean, standard deviation and range as text: "67.9 ± 1.2 (66.3 to 69.5)"."""
    mean, low, high = (f"{scale * summary[name]:.{digits}f}" for name in ("mean", "min", "max"))
    if summary["sd"] is None:
        return mean
    return f"{mean} ± {scale * summary['sd']:.{digits}f} ({low} to {high})"


def _scores(configurations: list[dict[str, Any]]) -> tuple[list[list[str]], list[str]]:
    rows = []
    for one in configurations:
        for decoding, by_split in one["decodings"].items():
            for split, metrics in by_split.items():
                shown = [spread(metrics[name]) if name in metrics else "" for name in shown_metrics(configurations)]
                rows.append([one["name"], split, decoding, str(len(one["seeds"])), *shown])
    return rows, ["configuration", "split", "decoding", "seeds", *shown_metrics(configurations)]


def shown_metrics(configurations: list[dict[str, Any]]) -> list[str]:
    """Return the metrics that have a column in tables of scores: the main one, and precision and recall if known."""
    known = {name for one in configurations for metrics in one["splits"].values() for name in metrics}
    return [name for name in dict.fromkeys([configurations[0]["metric"], "precision", "recall"]) if name in known]


def type_rows(configurations: list[dict[str, Any]], split: str) -> list[list[str]]:
    """Return a row for each entity type: its name, and its F1 on a split in each configuration."""
    found = [one["per_type"].get(split, {}) for one in configurations]
    types = sorted({type_ for of_one in found for type_ in of_one})
    return [[t, *(spread(of_one[t]) if t in of_one else "" for of_one in found)] for t in types]


def cost_rows(configurations: list[dict[str, Any]], digits: dict[str, int], otherwise: int) -> list[list[str]]:
    """Return a row for each kind of cost: its name, and the cost of each configuration.

    `digits` are the decimals by name of the cost; all other costs have `otherwise`.
    """
    found = [one["cost"] for one in configurations]
    names = dict.fromkeys(name for of_one in found for name in of_one)
    return [
        [name, *(spread(of_one[name], 1, digits.get(name, otherwise)) if name in of_one else "" for of_one in found)]
        for name in names
    ]


def _setting(value: Any) -> str:
    return "null" if value is None else str(value)
