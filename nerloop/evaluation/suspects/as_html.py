"""Write suspects as one self-contained HTML page, the most suspicious first, with filters by kind and type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nerloop.evaluation.report.as_html import chip, filters, item, style, type_rules
from nerloop.evaluation.suspects.as_text import summary
from nerloop.inspection.escaping import text
from nerloop.inspection.page import hues_of, page, section

NAME_OF = {
    "missed": "not an entity?", "spurious": "entity missing?", "wrong_type": "other type?", "too_short": "too long?",
    "too_long": "too short?", "shifted": "shifted?", "split": "several in one?", "merged": "one cut in several?",
}  # fmt: skip
"""What may be wrong with the label, by kind of suspect: the kind of the model's error if the label were right."""


def as_html(found: Mapping[str, Any], title: str, number: int) -> str:
    """Return the first suspects, as `Suspects.to_json` returns them, as an HTML page."""
    shown = found["suspects"][:number]
    types = sorted({span["type"] for s in shown for side in ("file", "model") for span in s["sentence"][side]})
    numbers, hues = {type_: i for i, type_ in enumerate(types)}, hues_of(types)
    kinds = Counter(suspect["kind"] for suspect in shown)
    chips = [chip("all", "all", len(shown), checked=True)]
    chips += [chip(kind, NAME_OF[kind], kinds[kind]) for kind in NAME_OF if kinds[kind]]
    rules = [f"main:has(#kind-{kind}:checked) .item:not(.{kind}) {{ display: none; }}" for kind in sorted(kinds)]
    items = "".join(_item(suspect, numbers, hues) for suspect in shown)
    body = f"<p>{text(summary(found, len(shown)))}.</p>"
    if shown:
        body += (
            '<p class="note">Each item has the label in the file above the model’s. A confidence near 1 means that '
            "the model finds its own label far more probable: look there first. A suspect is a question, not an "
            "error.</p>"
            f"{filters('What may be wrong', chips, types)}"
            f'<div class="errors">{items}<p class="count"></p></div>'
        )
    css = style() + "\n".join([*rules, *type_rules(types), ""])
    return page("suspects", f"Labels to check <small>{text(title)}</small>", [section("Suspects", body)], style=css)


def _item(suspect: Mapping[str, Any], numbers: dict[str, int], hues: dict[str, int]) -> str:
    sentence = suspect["sentence"]
    sides = {"gold": sentence["file"], "predicted": sentence["model"]}
    hits = {name: _indices(sentence[side], suspect[side]) for name, side in (("gold", "file"), ("predicted", "model"))}
    error = {"kind": suspect["kind"], "confidence": suspect["confidence"], **hits}
    shown = {"tokens": sentence["tokens"], "location": suspect["location"], **sides}
    return item(shown, error, numbers, hues, names=("file", "model"), classes=suspect["kind"])


def _indices(spans: Sequence[Any], chosen: Sequence[Any]) -> list[int]:
    return [i for i, span in enumerate(spans) if span in chosen]
