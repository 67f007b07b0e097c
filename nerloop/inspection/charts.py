"""Draw charts as inline SVG: histograms of lengths, bars of types.

Horizontal positions are in percent, without a view box, so that text keeps its size on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nerloop.inspection.escaping import text

MAX_BINS = 40
TAIL = 99.5
"""Lengths above this percentile share the last bar; else one long sentence would squeeze the others into the first."""
HEIGHT, BASELINE = 150, 124  # pixels: of a histogram, and of its bars' feet
ROW, BAR = 20, 14  # pixels: of a bar's row and of the bar itself


class Bins(NamedTuple):
    """Bars of a histogram: bar i counts lengths from i * width to (i + 1) * width - 1, the last also longer ones."""

    width: int
    counts: list[int]
    has_tail: bool


def bins_of(lengths: np.ndarray) -> Bins:
    """Return the counts of lengths, ints of shape (sentences,), in at most MAX_BINS bars of equal width."""
    longest = int(lengths.max(initial=0))
    reach = int(np.percentile(lengths, TAIL, method="inverted_cdf")) if len(lengths) else 0
    width = reach // MAX_BINS + 1
    number = reach // width + 1
    counts = np.bincount(np.minimum(lengths // width, number - 1), minlength=number)
    return Bins(width, counts.tolist(), longest >= number * width)


def histogram(lengths: np.ndarray, unit: str, limit: int | None = None) -> str:
    """Return a histogram of lengths as SVG, with a line at `limit` if the chart reaches it."""
    width, counts, has_tail = bins_of(lengths)
    step, top = 100 / len(counts), max(1, *counts)
    bars = []
    for i, count in enumerate(counts):
        if not count:
            continue
        height = max(1.0, (BASELINE - 16) * count / top)
        is_tail = has_tail and i == len(counts) - 1
        first, last = i * width, (i + 1) * width - 1
        named = f"{first} or more" if is_tail else str(first) if first == last else f"{first} to {last}"
        bars.append(
            f'<rect class="bar{" tail" if is_tail else ""}" x="{i * step + step * 0.08:.3f}%" '
            f'y="{BASELINE - height:.1f}" width="{step * 0.84:.3f}%" height="{height:.1f}">'
            f"<title>{named} {unit}: {count:,} sentences</title></rect>"
        )
    marks = [f'<line class="axis" x1="0" x2="100%" y1="{BASELINE}" y2="{BASELINE}"/>']
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        value = int(len(counts) * width * share)
        label = f"{value:,}{'+' if share == 1 and has_tail else ''}{f' {unit}' if share == 1 else ''}"
        marks.append(f'<text x="{share * 100:g}%" y="{BASELINE + 18}" text-anchor="{anchor}">{label}</text>')
    marks.append(f'<text x="0" y="10">{top:,}</text>')
    if limit is not None and limit < len(counts) * width:
        at = 100 * limit / (len(counts) * width)
        anchor, shift = ("end", -4) if at > 50 else ("start", 4)
        marks.append(f'<line class="limit" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="{BASELINE}"/>')
        marks.append(
            f'<text class="limit" x="{at:.2f}%" dx="{shift}" y="10" text-anchor="{anchor}">limit {limit:,}</text>'
        )
    return (
        f'<svg class="histogram" role="img" aria-label="sentences by length in {unit}" width="100%" height="{HEIGHT}">'
        f"{''.join(bars)}{''.join(marks)}</svg>"
    )


def type_bars(spans: Mapping[str, Mapping[str, int]], types: Sequence[str], hues: Mapping[str, int]) -> str:
    """Return the share of each type in each split as SVG: one group of bars for each type, one bar for each split."""
    totals = {split: max(1, sum(counts.values())) for split, counts in spans.items()}
    shares = {(t, s): spans[s].get(t, 0) / totals[s] for t in types for s in spans}
    top = max(shares.values(), default=0) or 1
    parts, y = [], 0
    for type_ in types:
        name = text(type_ if len(type_) <= 40 else f"{type_[:38]}…")
        parts.append(f'<text class="name" x="0" y="{y + 14}">{name}</text>')
        y += ROW
        for i, split in enumerate(spans):
            share = shares[type_, split]
            width = 54 * share / top  # the label of the longest bar fits beside it on a phone
            parts.append(
                f'<rect class="of-{i}" style="--h:{hues[type_]}" x="0" y="{y}" width="{width:.2f}%" height="{BAR}" '
                f'rx="2"/><text x="{width:.2f}%" dx="6" y="{y + 11}">{split} {100 * share:.1f}% '
                f"({spans[split].get(type_, 0):,})</text>"
            )
            y += ROW - 2
        y += 10
    return (
        f'<svg class="types" role="img" aria-label="share of each type in each split" width="100%" height="{y}">'
        f"{''.join(parts)}</svg>"
    )
