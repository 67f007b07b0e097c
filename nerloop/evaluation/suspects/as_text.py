"""Write suspects as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nerloop.errors import printable
from nerloop.inspection.as_text import table
from nerloop.inspection.finding import count_of

MOST_LETTERS = 40
"""Most characters shown of a span."""
LEAST_AGREEMENT = 0.5
"""Share of the file's spans that a model should find before its suspects are worth reading."""


def as_text(found: Mapping[str, Any], number: int) -> str:
    """Return the first suspects, as `Suspects.to_json` returns them, as text."""
    shown = found["suspects"][:number]
    rows = [("", "where", "sure", "label in the file", "the model's")]
    rows += [
        (str(i), s["location"], f"{s['confidence']:.3f}", spans_text(s["file"]), spans_text(s["model"]))
        for i, s in enumerate(shown, start=1)
    ]
    return "\n".join([summary(found, len(shown)), "", *([table(rows, len(rows[0]))] if shown else [])])


def summary(found: Mapping[str, Any], shown: int) -> str:
    """Return the number of suspects, the source of the model's labels, and the share of the file's spans it confirms.

    A model that confirms few spans makes many errors of its own, and most suspects are these.
    """
    total = len(found["suspects"])
    part = f"; the {shown:,} most suspicious ones" if shown < total else ""
    agreement = found["confirmed"] / max(1, found["spans"])
    text = (
        f"{count_of(total, 'label')} contradicted by {found['source']}, which confirms {agreement:.0%} of "
        f"{found['spans']:,} spans in {found['sentences']:,} sentences{part}"
    )
    if agreement < LEAST_AGREEMENT:
        text += ". It confirms so few that most suspects are probably its own errors: train a better model first"
    return text


def spans_text(spans: Sequence[Mapping[str, Any]]) -> str:
    """Return spans on one line: "LOC New York + PER Anna", "nothing" for none."""
    return " + ".join(f"{span['type']} {_cut(printable(span['text']))}" for span in spans) or "nothing"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."
