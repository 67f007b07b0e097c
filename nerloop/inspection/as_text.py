"""Write an inspection as text for the terminal, and the counts of a split as one line for the training log."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from nerloop.config import DataSettings
from nerloop.data.options import SETTINGS
from nerloop.errors import printable
from nerloop.inspection.finding import Finding, Severity, count_of, enumerate_some
from nerloop.inspection.first_sentence import describe_sentence, first_sentences
from nerloop.inspection.inspection import PERCENTILES, Inspection, percentiles
from nerloop.inspection.parts import Part

MOST_DETAILS = 5
"""Places listed for each finding; JSON and HTML list more."""
MOST_TYPES = 40
"""Types with a row of their own in the table of types; the others share one row."""


def as_text(inspection: Inspection) -> str:
    """Return an inspection as text: tables, then findings."""
    sections = [_sizes(inspection.parts)] if inspection.parts else []
    if any(inspection.spans_per_split().values()):
        sections.append(_types(inspection))
        sections.append(_scheme(inspection))
    if inspection.parts:
        sections.append(_lengths(inspection))
        sections.append(_first_sentences(inspection.parts))
    sections.append(_summary(inspection))
    sections += [_finding(finding) for finding in inspection.findings]
    return "\n\n".join(sections) + "\n"


def counts_line(part: Part) -> str:
    """Return the counts of a part on one line, the commonest types first, as training logs them."""
    s = part.statistics
    types = [f"{type_} {n}" for type_, n in sorted(s.spans_per_type.items(), key=lambda item: (-item[1], item[0]))]
    return f"{part.split:<10} {s.num_sentences:6} sentences {s.num_tokens:8} tokens {s.total_spans:7} entities" + (
        f": {printable(enumerate_some(types))}" if types else ""
    )


def inspect_command(data: DataSettings) -> str:
    """Return the shell command that inspects the data of these settings in full."""
    flags = [(split, paths) for split, paths in data.files().items()]
    if data.dataset is not None:
        flags = [("dataset", [data.dataset])]
        flags += [("dataset_config", [data.dataset_config])] if data.dataset_config is not None else []
    for setting in SETTINGS:
        value = getattr(data, setting.name)
        if value not in (setting.default, []) and not (setting.name == "format" and data.dataset is not None):
            flags.append((setting.name, value if isinstance(value, list) else [value]))
    return "python -m nerloop.inspect " + " ".join(f"--{name} {shlex.join(values)}" for name, values in flags)


def table(rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """Return rows as text in columns; the first `num_left` are aligned left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < num_left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _sizes(parts: Sequence[Part]) -> str:
    rows = [("split", "file", "sentences", "tokens", "spans", "documents")]
    for part in parts:
        s = part.statistics
        documents = f"{s.num_documents:,}" if s.num_documents else "-"
        rows.append((part.split, printable(part.path), f"{s.num_sentences:,}", f"{s.num_tokens:,}",
                     f"{s.total_spans:,}", documents))  # fmt: skip
    guessed = [
        f"{printable(p.path)} is taken as {p.split} {p.taken_by}" for p in parts if p.taken_by == "by its position"
    ]
    hint = "; --train, --validation and --test say otherwise" if guessed else ""
    return table(rows, 2) + "".join(f"\n{line}" for line in guessed) + hint


def _first_sentences(parts: Sequence[Part]) -> str:
    lines = [f"{part.split} {describe_sentence(e)}" for part in parts for e in first_sentences(part.examples)]
    return "\n".join(["as it was read (a bar separates tokens):", *(f"  {line}" for line in lines)])


def _types(inspection: Inspection) -> str:
    per_split = inspection.spans_per_split()
    types = sorted({type_ for spans in per_split.values() for type_ in spans})
    rows = [("spans of type", *per_split)]
    rows += [(printable(type_), *(f"{spans[type_]:,}" for spans in per_split.values())) for type_ in types[:MOST_TYPES]]
    if len(types) > MOST_TYPES:
        rest = types[MOST_TYPES:]
        rows.append((f"{len(rest):,} more", *(f"{sum(spans[t] for t in rest):,}" for spans in per_split.values())))
    rows.append(("all", *(f"{spans.total():,}" for spans in per_split.values())))
    return table(rows)


def _scheme(inspection: Inspection) -> str:
    against = inspection.against_scheme
    but = f", but {count_of(against, 'tag')} violate{'s' * (against == 1)} it" if against else ""
    return f"tags are {inspection.scheme}{but}"


def _lengths(inspection: Inspection) -> str:
    heading = ("", *(f"{p}%" if p < 100 else "longest" for p in PERCENTILES))
    rows = [(f"tokens a sentence, {p.split}", *_percentile_cells(p.statistics.lengths)) for p in inspection.parts]
    with_subwords = [(p, p.subwords) for p in inspection.parts if p.subwords is not None]
    rows += [(f"subwords a sentence, {p.split}", *_percentile_cells(s.lengths)) for p, s in with_subwords]
    text = table([heading, *rows])
    if inspection.limit is not None:
        ratio = sum(s.num_subwords for _, s in with_subwords) / max(
            1, sum(p.statistics.num_tokens for p in inspection.parts)
        )
        text += (
            f"\n{ratio:.2f} subwords a token; a window holds {inspection.limit.max_length}, "
            f"{inspection.limit.num_special} special tokens included"
        )
    return text


def _percentile_cells(lengths: np.ndarray) -> list[str]:
    return [f"{n:,}" for n in percentiles(lengths).values()] or ["-"] * len(PERCENTILES)


def _summary(inspection: Inspection) -> str:
    if not inspection.findings:
        return "no findings"
    counts = [f"{count_of(inspection.count(s), s.value) if s is not Severity.INFO else f'{inspection.count(s)} info'}"
              for s in Severity]  # fmt: skip
    return f"findings: {', '.join(counts)}"


def _finding(finding: Finding) -> str:
    lines = [f"{finding.severity}: {finding.line}"]
    places = [f"{d.where}: {d.text}" if d.text else d.where for d in finding.details[:MOST_DETAILS]]
    lines += [f"  {printable(place)}" for place in places]
    if (more := finding.count - min(MOST_DETAILS, len(finding.details))) > 0 and finding.details:
        lines.append(f"  and {more:,} more")
    return "\n".join([*lines, f"  nerloop {finding.action}"])
