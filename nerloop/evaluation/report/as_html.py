"""Write an evaluation as one self-contained HTML page: no scripts, no fonts, no network.

The filters are form controls that CSS selects on (`:has`), so they work with the keyboard and without scripts. The page
has only the worst errors of each kind and type, so its size does not grow with the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from nerloop.evaluation.report.as_text import (
    BUCKET_OF,
    MOST_TYPES,
    NAME_OF,
    TITLE_OF,
    calibration_error_text,
    errors_by_type_table,
    errors_table,
    has_strict_scores,
    interval_text,
    partial_table,
    scores_table,
)
from nerloop.evaluation.tables import target_rows
from nerloop.evaluators.seqeval import NOTHING
from nerloop.inspection.escaping import text
from nerloop.inspection.finding import count_of
from nerloop.inspection.page import cards, hues_of, page, section, table, text_table

MOST_OF_KIND = 60
"""Errors shown of each kind."""
MOST_OF_TYPE = 8
"""Errors shown at least of each kind and type."""
CONTEXT = 25
"""Number of tokens shown before and after an error."""
MOST_TOKENS = 120
"""Most tokens shown of a sentence."""
MOST_LETTERS = 80
"""Most characters shown of a token, and of a span in a heading."""
MEANING = {
    "missed": "A gold span that no predicted span overlaps. Confidence: how sure the model was of the tags it gave.",
    "spurious": "A predicted span that no gold span overlaps.",
    "wrong_type": "The same borders, another type.",
    "too_short": "The predicted span lies inside the gold one.",
    "too_long": "The gold span lies inside the predicted one.",
    "shifted": "The spans overlap, and neither lies inside the other.",
    "split": "One gold span, several predicted ones.",
    "merged": "Several gold spans, one predicted one.",
}

Shown = tuple[dict[str, Any], dict[str, Any]]
"""A sentence and one of its errors."""


def as_html(found: dict[str, Any], title: str) -> str:
    """Return an evaluation, as `Analysis.to_json` returns it, as an HTML page."""
    shown = worst(found["mistakes"])
    types = sorted({span["type"] for s in found["mistakes"] for side in ("gold", "predicted") for span in s[side]})
    hues = hues_of(types)
    sections = [section("Scores", _scores(found)), section("Errors", _errors(found))]
    if "confusion" in found["scores"]:
        sections.append(section("Types", _confusion(found["scores"]["confusion"])))
    if any(of is not None for of in found["by"].values()):
        sections.append(section("Breakdowns", _breakdowns(found["by"])))
    if found["calibration"]["bins"]:
        sections.append(section("Confidence", _calibration(found["calibration"])))
    if any(found.get("targets", {}).values()):
        sections.append(section("Targets", _targets(found["targets"])))
    if shown:
        sections.append(section("Sentences with errors", _sentences(found, shown, types, hues)))
    return page(
        "evaluation", f"Evaluation <small>{text(title)}</small>", sections, style=style() + _rules(shown, types)
    )


def style() -> str:
    """Return the CSS of pages with errors."""
    return resources.files("nerloop.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")


def worst(mistakes: Iterable[dict[str, Any]]) -> list[Shown]:
    """Return the errors to show: the most confident ones of each kind, and some of each kind and type.

    Errors whose confidence is not known come last.
    """
    errors = [(sentence, error) for sentence in mistakes for error in sentence["errors"]]
    errors.sort(key=lambda shown: -1.0 if shown[1]["confidence"] is None else shown[1]["confidence"], reverse=True)
    of_kind: Counter[str] = Counter()
    of_type: Counter[tuple[str, str]] = Counter()
    chosen = []
    for sentence, error in errors:
        keys = [(error["kind"], type_) for type_ in types_in(sentence, error)]
        if of_kind[error["kind"]] < MOST_OF_KIND or any(of_type[key] < MOST_OF_TYPE for key in keys):
            chosen.append((sentence, error))
            of_kind[error["kind"]] += 1
            of_type.update(keys)
    return chosen


def types_in(sentence: dict[str, Any], error: dict[str, Any]) -> list[str]:
    """Return the types of an error's gold and predicted spans."""
    sides = ("gold", "predicted")
    return sorted({sentence[side][i]["type"] for side in sides for i in error[side]})


def _rules(shown: Sequence[Shown], types: Sequence[str]) -> str:
    """Return CSS that hides the errors that the filters exclude."""
    kinds = {error["kind"] for _, error in shown}
    rules = [f"main:has(#kind-{kind}:checked) .kind:not(.{kind}) {{ display: none; }}" for kind in sorted(kinds)]
    return "\n".join([*rules, *type_rules(types), ""])


def _scores(found: dict[str, Any]) -> str:
    scores, interval, is_strict = found["scores"], found["interval"], has_strict_scores(found)
    figures = [
        (name, f"{scores[name]:.4f}<small>{low:.4f} to {high:.4f}</small>")
        for name, (low, high) in ((n, interval[n]) for n in ("f1", "precision", "recall"))
        if is_strict and name in scores
    ]
    figures += [("sentences", f"{found['sentences']:,}")]
    figures += [(n.replace("_", " "), f"{scores[n]:,}") for n in ("gold_spans", "predicted_spans") if n in scores]
    return (
        cards(figures)
        + text_table(*scores_table(found))
        + ('<p class="note">Intervals: 95%, bootstrap over sentences (BCa).</p>' if is_strict else "")
        + text_table(*partial_table(found))
        + f'<p class="note">SemEval’s matching: strict is {"the score above" if is_strict else "the F1 of seqeval"}, '
        "exact ignores types, partial gives half for an overlap, type takes an overlap of the right type as correct. "
        "Each span is compared with one other, so of two parts of an entity one is spurious here. Below, both belong "
        "to one error.</p>"
    )


def _errors(found: dict[str, Any]) -> str:
    rows, headings = errors_table(found)
    kinds = [*(f"<br><small>{MEANING[kind]}</small>" for kind in found["errors"]), ""]
    note = (
        '<p class="note">Each wrong span belongs to one error. “other type”: the borders differ and the types do, too '
        "(for “wrong type” all of them).</p>"
    )
    by_type = text_table(*errors_by_type_table(found)) if found["errors_by_type"] else ""
    of_kind = table(headings, [(f"{row[0]}{kind}", *row[1:]) for row, kind in zip(rows, kinds, strict=True)])
    return of_kind + note + by_type


def _confusion(confusion: dict[str, dict[str, int]]) -> str:
    """Return the confusion of types as a table whose cells are shaded by their share of the gold type."""
    support = Counter({gold: sum(row.values()) for gold, row in confusion.items()})
    for row in confusion.values():
        support.update(dict.fromkeys(row, 0))
    names = [name for name, _ in sorted(support.items(), key=lambda item: (-item[1], item[0])) if name != NOTHING]
    shown, note = [*names[:MOST_TYPES], NOTHING], ""
    if len(names) > MOST_TYPES:
        note = f"<p>The {MOST_TYPES} commonest of {len(names):,} types.</p>"
    head = "".join(f"<th class=n>{text(name) or '(no equal borders)'}</th>" for name in shown)
    lines = []
    for gold in shown:
        row = confusion.get(gold, {})
        cells = []
        for predicted in shown:
            if gold == predicted == NOTHING:
                cells.append("<td class=n></td>")
                continue
            color = "--info" if gold == predicted else "--error"
            share = row.get(predicted, 0) / max(1, support[gold])
            cells.append(
                f'<td class="n cell" style="--of:var({color});--share:{share:.3f}">{row.get(predicted, 0):,}</td>'
            )
        lines.append(f"<tr><th>{text(gold) or '(no such span)'}</th>{''.join(cells)}</tr>")
    return (
        f'{note}<div class="scroll"><table><thead><tr><th>gold \\ predicted</th>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div><p class="note">Only spans with equal '
        "borders are paired here. A span that the model found with other borders is in the last row, its gold span in "
        "the last column.</p>"
    )


def _breakdowns(by: dict[str, Any]) -> str:
    tables = []
    for name, found in by.items():
        if found is None:
            continue
        rows = [
            (
                text(BUCKET_OF.get(bucket, bucket)), f"{of['gold']:,}",
                f"{of['recall']:.4f}<span class=meter><i style=\"width:{100 * of['recall']:.1f}%\"></i></span>"
                f"<small>{interval_text(of['interval']['recall'])}</small>",
                f"{of['precision']:.4f}",
            )
            for bucket, of in found.items()
        ]  # fmt: skip
        tables.append(table((TITLE_OF[name], "gold spans", "recall", "precision"), rows))
    missing = (
        ""
        if by["surface"] is not None
        else '<p class="note">The training data are not known, so names that occur in them can’t be told from new ones '
        "(--train FILE names them).</p>"
    )
    return f'{missing}<div class="tables">{"".join(tables)}</div>'


def _targets(targets: dict[str, dict[str, Any]]) -> str:
    """Return the scores at each target's threshold: on validation, where it was chosen, and on this data."""
    headings = (
        "target",
        "least confidence",
        "precision, validation",
        "recall, validation",
        "precision here",
        "recall here",
    )
    return table(headings, target_rows(targets, ("validation", "delivered"))) + (
        '<p class="note">For each target, the least confidence of an entity was chosen on validation. '
        "<code>python -m nerloop.predict --target_precision 0.95</code> uses it.</p>"
    )


def _calibration(found: dict[str, Any]) -> str:
    """Return the reliability curve: bars for how often the model is right, lines for its mean confidence."""
    height, base = 170, 146
    parts = [f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/>']
    for one in found["bins"]:
        x, width = 100 * one["low"], 100 * (one["high"] - one["low"])
        top, sure = (base - (base - 14) * one[name] for name in ("correct", "confidence"))
        tooltip = (
            f"confidence {one['low']:.1f} to {one['high']:.1f}: {count_of(one['spans'], 'span')}, "
            f"{100 * one['correct']:.1f}% correct, mean confidence {100 * one['confidence']:.1f}%"
        )
        parts.append(
            f'<rect class="bar" x="{x + width * 0.08:.2f}%" width="{width * 0.84:.2f}%" y="{top:.1f}" '
            f'height="{base - top:.1f}"><title>{tooltip}</title></rect>'
            f'<line class="ideal" x1="{x:.2f}%" x2="{x + width:.2f}%" y1="{sure:.1f}" y2="{sure:.1f}"/>'
            f'<text x="{x + width / 2:.2f}%" y="{min(top, sure) - 4:.1f}" text-anchor="middle">{one["spans"]:,}</text>'
        )
    parts += [
        f'<text x="{at}%" y="{height - 4}" text-anchor="{anchor}">{label}</text>'
        for at, anchor, label in ((0, "start", "0"), (50, "middle", "confidence 0.5"), (100, "end", "1"))
    ]
    return (
        f"<p>Expected calibration error {calibration_error_text(found)}.</p>"
        "<figure><figcaption>bars: share of correct spans; lines: mean confidence; numbers: spans</figcaption><svg "
        f'class="curve" role="img" aria-label="share of correct spans by confidence" width="100%" height="{height}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _sentences(found: dict[str, Any], shown: Sequence[Shown], types: Sequence[str], hues: dict[str, int]) -> str:
    """Return the filters and the errors by kind, the most confident first."""
    numbers = {type_: i for i, type_ in enumerate(types)}
    by_kind: dict[str, list[str]] = {kind: [] for kind in found["errors"]}
    for sentence, error in shown:
        by_kind[error["kind"]].append(item(sentence, error, numbers, hues))
    chips = [chip("all", "all", len(shown), checked=True)]
    lists = []
    for kind, items in by_kind.items():
        if not items:
            continue
        total = found["errors"][kind]
        chips.append(chip(kind, NAME_OF[kind], len(items)))
        part = f": the {len(items):,} worst of {total:,}" if len(items) < total else ""
        lists.append(
            f'<div class="kind {kind}"><h3>{NAME_OF[kind]}{part}</h3><p class="note">{MEANING[kind]}</p>'
            f"{''.join(items)}</div>"
        )
    return f'{filters("Kind of error", chips, types)}<div class="errors">{"".join(lists)}<p class="count"></p></div>'


def filters(legend: str, chips: Sequence[str], types: Sequence[str]) -> str:
    """Return the form controls that choose a kind and a type."""
    options = "".join(f'<option value="{i}">{text(type_)}</option>' for i, type_ in enumerate(types))
    return (
        f"<fieldset><legend>{legend}</legend>{''.join(chips)}</fieldset>"
        f'<p><label>Type <select id="type"><option value="">all</option>{options}</select></label></p>'
    )


def type_rules(types: Sequence[str]) -> list[str]:
    """Return CSS that hides the items of other types than the chosen one."""
    return [
        f'main:has(#type option[value="{i}"]:checked) .item:not(.t{i}) {{ display: none; }}' for i in range(len(types))
    ]


def chip(kind: str, name: str, number: int, *, checked: bool = False) -> str:
    """Return one choice of the filter by kind, with the number of its items."""
    return (
        f'<label class="chip"><input type="radio" name="kind" id="kind-{kind}"{" checked" if checked else ""}>{name} '
        f"<b>{number:,}</b></label>"
    )


def item(
    sentence: dict[str, Any],
    error: dict[str, Any],
    numbers: dict[str, int],
    hues: dict[str, int],
    names: tuple[str, str] = ("gold", "model"),
    classes: str = "",
) -> str:
    """Return an error with its sentence, gold above predicted; of a long sentence only the part around the error.

    `names` are the names of the two sides. `classes` are additional classes of the element, for filters.
    """
    classes = " ".join([*(f"t{numbers[type_]}" for type_ in types_in(sentence, error)), *classes.split()])
    spans = [sentence[side][i] for side in ("gold", "predicted") for i in error[side]]
    low = max(0, min(span["start"] for span in spans) - CONTEXT)
    high = min(len(sentence["tokens"]), max(span["end"] for span in spans) + CONTEXT, low + MOST_TOKENS)
    sides = [
        f'<dt>{name}</dt><dd dir="auto">{_marked(sentence, side, error[side], low, high, hues)}</dd>'
        for name, side in zip(names, ("gold", "predicted"), strict=True)
    ]
    heading = [
        " + ".join(_named(sentence["tokens"], sentence[side][i]) for i in error[side]) or "nothing"
        for side in ("gold", "predicted")
    ]
    sure = "" if error["confidence"] is None else f"<span>confidence {error['confidence']:.3f}</span>"
    return (
        f'<article class="item {classes}"><p class="head"><b>{heading[0]} → {heading[1]}</b>{sure}'
        f"<code>{text(sentence['location'])}</code></p><dl>{''.join(sides)}</dl></article>"
    )


def _named(tokens: Sequence[str], span: dict[str, Any]) -> str:
    """Return the type and the text of a span as HTML: "ORG Bank of Peru"."""
    words = _cut(" ".join(tokens[span["start"] : span["end"]]))
    return f"{text(span['type'])} <bdi>{text(words)}</bdi>"  # a name written from right to left must not turn the arrow


def _marked(sentence: dict[str, Any], side: str, hits: Sequence[int], low: int, high: int, hues: dict[str, int]) -> str:
    """Return tokens `low` to `high` with the spans of one side marked. The spans in `hits` are the error's own."""
    tokens = sentence["tokens"]
    parts, at = ["…"] if low else [], low
    for i, span in enumerate(sentence[side]):
        start, end = max(span["start"], low), min(span["end"], high)
        if start >= end:
            continue
        parts += map(_token, tokens[at:start])
        words = " ".join(map(_token, tokens[start:end]))
        parts.append(
            f'<mark{" class=hit" if i in hits else ""} style="--h:{hues[span["type"]]}">{words} '
            f'<span class="type" dir="ltr">{text(span["type"])}</span></mark>'
        )
        at = end
    parts += map(_token, tokens[at:high])
    return " ".join([*parts, "…"] if high < len(tokens) else parts)


def _token(token: str) -> str:
    return text(_cut(token)) or "␣"


def _cut(words: str) -> str:
    return words if len(words) <= MOST_LETTERS else f"{words[: MOST_LETTERS - 2]}…"
