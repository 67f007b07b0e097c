"""Write a comparison as one self-contained page of HTML: no scripts, no fonts, no network."""

from __future__ import annotations

from typing import Any

from nerloop.experiments.as_text import cost_rows, p_value, points, shown_metrics, spread, type_rows, verdict
from nerloop.experiments.statistics import SIGNIFICANT
from nerloop.inspection.escaping import text
from nerloop.inspection.page import page, section, text_table

STYLE = """
.runs circle { fill: var(--accent); fill-opacity: .55; }
.runs line { stroke: var(--ink); stroke-width: 2; }
.runs line.zero { stroke: var(--line); stroke-width: 1; }
.runs line.clear { stroke: var(--accent); stroke-width: 3; }
.runs { margin-bottom: 14px; }
.runs .name { font-size: 13px; font-weight: 500; }
"""
ROW, TOP = 46, 16  # pixels: height of a row of a chart, and space above the first one


def as_html(comparison: dict[str, Any]) -> str:
    """Return a comparison, as `compare` returns it, as an HTML page."""
    configurations, pairs = comparison["configurations"], comparison["pairs"]
    sections = []
    if pairs:
        sections.append(
            _section("Differences", _intervals(pairs) + "".join(f"<p>{text(verdict(p))}</p>" for p in pairs))
        )
    for split in configurations[0]["splits"]:
        sections.append(_section(f"Runs, {split}", _runs(configurations, split)))
    sections.append(_section("Scores", _scores(configurations)))
    if comparison["differing_settings"]:
        rows = [[name, *map(str, values)] for name, values in comparison["differing_settings"].items()]
        sections.append(
            _section("Settings that differ", text_table(rows, ["setting", *(c["name"] for c in configurations)]))
        )
    names = [one["name"] for one in configurations]
    for split in configurations[0]["per_type"]:
        if rows := type_rows(configurations, split):
            sections.append(_section(f"F1 by type, {split}", text_table(rows, ["type", *names])))
    sections.append(_section("Cost", text_table(cost_rows(configurations, {}, 2), ["", *names])))
    return page("comparison", "Comparison over seeds", sections, style=STYLE)


def _section(title: str, body: str) -> str:
    return section(text(title), body)


def _scores(configurations: list[dict[str, Any]]) -> str:
    metrics = shown_metrics(configurations)
    rows = [
        [one["name"], split, decoding, *(spread(scored[name]) if name in scored else "" for name in metrics)]
        for one in configurations
        for decoding, by_split in one["decodings"].items()
        for split, scored in by_split.items()
    ]
    note = '<p class="note">x 100: mean ± standard deviation over the seeds (lowest to highest)</p>'
    return text_table(rows, ["configuration", "split", "decoding", *metrics]) + note


def _intervals(pairs: list[dict[str, Any]]) -> str:
    """Return a chart of the interval of each difference, on one axis in points with a line at zero."""
    drawn = [pair for pair in pairs if pair["interval"] is not None]
    reach = 1.1 * max((abs(end) for pair in drawn for end in pair["interval"]), default=0.0) or 0.01
    parts = []
    for i, pair in enumerate(drawn):
        y = TOP + i * ROW + 28
        low, middle, high = (
            50 + 50 * x / reach for x in (pair["interval"][0], pair["difference"], pair["interval"][1])
        )
        name = f"{pair['b']} - {pair['a']}, {pair['split']}: {points(pair['difference'])}, p {p_value(pair['p_value'])}"
        kind = ' class="clear"' if pair["p_value_holm"] <= SIGNIFICANT else ""
        parts.append(
            f'<text class="name" x="0" y="{y - 14}">{text(name)}</text>'
            f'<line{kind} x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
            f'<circle cx="{middle:.2f}%" cy="{y}" r="5"/>'
        )
    height = TOP + len(drawn) * ROW + 24
    axis = "".join(
        f'<text x="{at}%" y="{height - 4}" text-anchor="{anchor}">{points(value)}</text>'
        for at, value, anchor in ((0, -reach, "start"), (50, 0.0, "middle"), (100, reach, "end"))
    )
    return (
        f'<figure class="runs"><figcaption>difference in points, 95% interval</figcaption>'
        f'<svg width="100%" height="{height}" role="img" aria-label="intervals of the differences">'
        f'<line class="zero" x1="50%" x2="50%" y1="0" y2="{height - 18}"/>{"".join(parts)}{axis}</svg></figure>'
    )


def _runs(configurations: list[dict[str, Any]], split: str) -> str:
    """Return a chart of the score of each run and the mean of each configuration, on one axis."""
    found = [(one["name"], one["splits"][split][one["metric"]]) for one in configurations]
    low, high = min(s["min"] for _, s in found), max(s["max"] for _, s in found)
    margin = 0.08 * (high - low) or 0.005
    low, high = low - margin, high + margin
    parts = []
    for i, (name, scored) in enumerate(found):
        y = TOP + i * ROW + 28
        at = [100 * (value - low) / (high - low) for value in [*scored["values"], scored["mean"]]]
        dots = "".join(f'<circle cx="{x:.2f}%" cy="{y}" r="5"/>' for x in at[:-1])
        mean = f'<line x1="{at[-1]:.2f}%" x2="{at[-1]:.2f}%" y1="{y - 9}" y2="{y + 9}"/>'
        parts.append(f'<text class="name" x="0" y="{y - 14}">{text(name)}: {spread(scored)}</text>{dots}{mean}')
    height = TOP + len(found) * ROW + 24
    axis = (
        f'<text x="0%" y="{height - 4}">{100 * low:.1f}</text>'
        f'<text x="100%" y="{height - 4}" text-anchor="end">{100 * high:.1f}</text>'
    )
    caption = f"{configurations[0]['metric']} x 100: a dot for each seed, a line for the mean"
    return (
        f'<figure class="runs"><figcaption>{text(caption)}</figcaption>'
        f'<svg width="100%" height="{height}" role="img" aria-label="scores of the runs">'
        f"{''.join(parts)}{axis}</svg></figure>"
    )
