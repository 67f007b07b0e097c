"""Write an inspection as one self-contained page of HTML: no scripts, no fonts, no network.

Text of the data is escaped and keeps its own direction, also right to left. Control characters are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.inspection.charts import histogram, type_bars
from nerloop.inspection.escaping import text
from nerloop.inspection.finding import Finding, Severity, count_of
from nerloop.inspection.inspection import PERCENTILES, Inspection, percentiles
from nerloop.inspection.page import cards, hues_of, page, section, table
from nerloop.inspection.parts import Part
from nerloop.tags import to_spans
from nerloop.types import Example

MOST_EXAMPLES = 8
"""Example sentences shown for each file."""
MOST_TOKENS = 80
"""Tokens shown of each example sentence."""
MOST_TYPES = 40
"""Types shown in the charts."""


def as_html(inspection: Inspection) -> str:
    """Return an inspection as an HTML page."""
    types = sorted({type_ for spans in inspection.spans_per_split().values() for type_ in spans})
    hues = hues_of(types)
    sections = [
        section("Files", _cards(inspection) + _files_table(inspection)),
        section(_summary(inspection.findings), "".join(map(_finding, inspection.findings))),
    ]
    if types:
        sections.append(section("Types", _types(inspection, types, hues)))
    if inspection.parts:
        sections.append(section("Lengths", _lengths(inspection)))
        sections += [section(f"Sentences of {text(p.path)}", _examples(p, hues)) for p in inspection.parts]
    return page("the data", "Check before training", sections)


def tagged(example: Example, hues: dict[str, int]) -> str:
    """Return a sentence as HTML with its entities marked, in the direction of its own first letter."""
    parts: list[str] = []
    at = 0
    for start, end, type_ in to_spans(example.tags):
        if start >= MOST_TOKENS:
            break
        parts += map(_token, example.tokens[at:start])
        words = " ".join(map(_token, example.tokens[start:end]))
        parts.append(
            f'<mark style="--h:{hues[type_]}">{words} <span class="type" dir="ltr">{text(type_)}</span></mark>'
        )
        at = end
    parts += map(_token, example.tokens[at : max(at, MOST_TOKENS)])
    more = len(example.tokens) - max(at, MOST_TOKENS)
    if more > 0:
        parts.append(f'<span class="more" dir="ltr">and {count_of(more, "token")} more</span>')
    return f'<p class="sentence" dir="auto">{" ".join(parts)}</p>'


def _token(token: str) -> str:
    return text(token) or '<span class="more" dir="ltr">(empty)</span>'


def _cards(inspection: Inspection) -> str:
    statistics = [part.statistics for part in inspection.parts]
    figures = [
        ("sentences", f"{sum(s.num_sentences for s in statistics):,}"),
        ("tokens", f"{sum(s.num_tokens for s in statistics):,}"),
        ("spans", f"{sum(s.total_spans for s in statistics):,}"),
        ("scheme", str(inspection.scheme) if any(s.total_spans for s in statistics) else "none"),
    ]
    if inspection.limit is not None:
        subwords = sum(p.subwords.num_subwords for p in inspection.parts if p.subwords is not None)
        figures.append(("subwords a token", f"{subwords / max(1, sum(s.num_tokens for s in statistics)):.2f}"))
        figures.append(("subwords a window", f"{inspection.limit.max_length:,}"))
    return cards(figures)


def _files_table(inspection: Inspection) -> str:
    rows = [
        (
            f"{part.split} <small>{part.taken_by}</small><span class=path>{text(part.path)}</span>",
            f"{part.statistics.num_sentences:,}", f"{part.statistics.num_tokens:,}", f"{part.statistics.total_spans:,}",
        )
        for part in inspection.parts
    ]  # fmt: skip
    return table(("split and file", "sentences", "tokens", "spans"), rows) if rows else ""


def _summary(findings: Sequence[Finding]) -> str:
    counts = [(severity, sum(f.severity is severity for f in findings)) for severity in Severity]
    said = [f"{n} info" if s is Severity.INFO else count_of(n, str(s)) for s, n in counts if n]
    return f"Findings: {', '.join(said)}" if said else "No findings"


def _finding(finding: Finding) -> str:
    places = "".join(
        f'<li><code>{text(detail.where)}</code> <span dir="auto">{text(detail.text)}</span></li>'
        for detail in finding.details
    )
    if (more := finding.count - len(finding.details)) > 0 and finding.details:
        places += f"<li>and {more:,} more</li>"
    state = "" if finding.severity is Severity.INFO else " open"
    shown = f"{count_of(finding.count, 'case')}"
    listed = f"<details{state}><summary>{shown}</summary><ul>{places}</ul></details>" if places else ""
    return (
        f'<article class="finding {finding.severity}"><p><b>{finding.severity}</b> '
        f'<bdi>{text(finding.message)}</bdi></p><p class="where"><code>{text(finding.where)}</code></p>'
        f'<p class="action">nerloop {text(finding.action)}.</p>{listed}</article>'
    )


def _types(inspection: Inspection, types: Sequence[str], hues: dict[str, int]) -> str:
    spans = inspection.spans_per_split()
    total = {type_: sum(counts[type_] for counts in spans.values()) for type_ in types}
    commonest = sorted(types, key=lambda type_: (-total[type_], type_))
    note = f"<p>The {MOST_TYPES} commonest of {len(types):,} types.</p>" if len(types) > MOST_TYPES else ""
    return f"{note}<p>Share of the spans of each split.</p>{type_bars(spans, commonest[:MOST_TYPES], hues)}"


def _lengths(inspection: Inspection) -> str:
    figures, rows = [], []
    for part in inspection.parts:
        charts: list[tuple[str, np.ndarray, int | None]] = [("tokens", part.statistics.lengths, None)]
        if part.subwords is not None and inspection.limit is not None:
            charts.append(("subwords", part.subwords.lengths, inspection.limit.max_length))
        for unit, lengths, longest in charts:
            title = f"{part.split}: sentences by {unit}"
            figures.append(f"<figure><figcaption>{title}</figcaption>{histogram(lengths, unit, longest)}</figure>")
            found = [f"{n:,}" for n in percentiles(lengths).values()] or ["-"] * len(PERCENTILES)
            rows.append((f"{part.split}, {unit}", *found))
    headings = ("length", *(f"{p}%" if p < 100 else "longest" for p in PERCENTILES))
    note = ""
    if inspection.limit is not None:
        limit = inspection.limit
        num_long = sum(part.subwords.num_long for part in inspection.parts if part.subwords is not None)
        num_windows = sum(part.subwords.num_windows for part in inspection.parts if part.subwords is not None)
        note = (
            f"<p>A window of {text(inspection.model)} holds {limit.max_length:,} subwords, {limit.num_special} special "
            f"tokens included. {count_of(num_long, 'sentence')} exceed{'s' * (num_long == 1)} it"
            + (f" and become {count_of(num_windows, 'window')}" if num_long else "")
            + ".</p>"
        )
    return f'<div class="charts">{"".join(figures)}</div>{table(headings, rows)}{note}'


def _examples(part: Part, hues: dict[str, int]) -> str:
    chosen = example_sentences(part)
    none = "" if part.statistics.total_spans else "<p>No sentence has an entity.</p>"
    return none + "".join(
        f'<div class="example"><code>{text(part.examples[i].location)}</code>{tagged(part.examples[i], hues)}</div>'
        for i in chosen
    )


def example_sentences(part: Part) -> list[int]:
    """Return the indices of a few sentences: the first one, the first of each type, then others with entities."""
    first = [place.sentence for place in part.statistics.first_of_type.values()]
    with_entities = (int(i) for i in part.statistics.num_spans.nonzero()[0][: 2 * MOST_EXAMPLES])
    return sorted(list(dict.fromkeys([*range(min(1, len(part.examples))), *first, *with_entities]))[:MOST_EXAMPLES])
