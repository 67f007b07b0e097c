"""Write an evaluation as tables for the terminal."""

from __future__ import annotations

import math
from typing import Any

from nerloop.evaluation.tables import Table, confusion_rows, metrics_table, plain_table

NAME_OF = {
    "missed": "missed", "spurious": "spurious", "wrong_type": "wrong type", "too_short": "too short",
    "too_long": "too long", "shifted": "shifted", "split": "split", "merged": "merged",
}  # fmt: skip
TITLE_OF = {
    "surface": "name in the training data", "entity_length": "tokens of the entity",
    "sentence_length": "tokens of the sentence", "type_frequency": "spans of the type in training",
}  # fmt: skip
BUCKET_OF = {"same_type": "with this type", "other_type": "with another type", "unseen": "not at all"}
MOST_TYPES = 30
"""Most types with a row of their own in a table."""


def as_text(found: dict[str, Any]) -> str:
    """Return an evaluation, as `Analysis.to_json` returns it, as text."""
    parts = [plain_table(*scores_table(found)), plain_table(*partial_table(found)), plain_table(*errors_table(found))]
    if found["errors_by_type"]:
        parts.append(plain_table(*errors_by_type_table(found)))
    if "confusion" in found["scores"]:
        parts.append(plain_table(*confusion_rows(found["scores"])))
    parts += [plain_table(*breakdown_table(found, name)) for name, of in found["by"].items() if of is not None]
    parts.append(f"expected calibration error {calibration_error_text(found['calibration'])}")
    return "\n\n".join(parts)


def has_strict_scores(found: dict[str, Any]) -> bool:
    """Return whether the evaluator's F1 is that of strict matching, as seqeval's is. Intervals are of such an F1."""
    f1 = found["scores"].get("f1")
    return isinstance(f1, int | float) and math.isclose(f1, found["partial"]["strict"]["f1"], abs_tol=1e-12)


def scores_table(found: dict[str, Any]) -> Table:
    """Return the evaluator's scores as rows and headings, with the 95% interval of F1 if there is one."""
    rows, headings = metrics_table(found["scores"])
    if not has_strict_scores(found):
        return rows, headings
    intervals = [*(found["interval"]["per_type"].get(row[0]) for row in rows[:-1]), found["interval"]]
    cells = ["" if of is None else interval_text(of["f1"]) for of in intervals]
    at = headings.index("f1") + 1
    rows = [(*row[:at], cell, *row[at:]) for row, cell in zip(rows, cells, strict=True)]
    return rows, (*headings[:at], "95% interval", *headings[at:])


def partial_table(found: dict[str, Any]) -> Table:
    """Return the scores of partial matching as rows and headings."""
    names = ("correct", "incorrect", "partial", "missed", "spurious")
    rows = [
        (scheme, *(f"{of[name]:.4f}" for name in ("precision", "recall", "f1")), *(f"{of[name]:,}" for name in names))
        for scheme, of in found["partial"].items()
    ]
    return rows, ("matching", "precision", "recall", "f1", *names)


def errors_table(found: dict[str, Any]) -> Table:
    """Return the numbers of errors by kind as rows and headings."""
    errors, other = found["errors"], found["errors_with_other_type"]
    total = sum(errors.values())
    rows = [
        (NAME_OF[kind], f"{number:,}", f"{100 * number / max(1, total):.1f}%", f"{other[kind]:,}")
        for kind, number in errors.items()
    ]
    return [*rows, ("all", f"{total:,}", "", f"{sum(other.values()):,}")], ("error", "number", "share", "other type")


def errors_by_type_table(found: dict[str, Any]) -> Table:
    """Return the numbers of errors by type and kind as rows and headings, the types with most errors first."""
    of_type = sorted(found["errors_by_type"].items(), key=lambda item: (-sum(item[1].values()), item[0]))
    kinds = [kind for kind, number in found["errors"].items() if number]
    numbers = [(type_, [of[kind] for kind in kinds]) for type_, of in of_type]
    if rest := numbers[MOST_TYPES:]:
        summed = [sum(column) for column in zip(*(of for _, of in rest), strict=True)]
        numbers = [*numbers[:MOST_TYPES], (f"{len(rest):,} more", summed)]
    rows = [(type_, *(f"{number:,}" for number in of), f"{sum(of):,}") for type_, of in numbers]
    return rows, ("type", *(NAME_OF[kind] for kind in kinds), "all")


def breakdown_table(found: dict[str, Any], name: str) -> Table:
    """Return a breakdown as rows and headings."""
    rows: list[tuple[str, ...]] = [
        (
            BUCKET_OF.get(bucket, bucket), f"{of['gold']:,}", f"{of['recall']:.4f}",
            interval_text(of["interval"]["recall"]), f"{of['precision']:.4f}", f"{of['f1']:.4f}",
        )
        for bucket, of in found["by"][name].items()
    ]  # fmt: skip
    return rows, (TITLE_OF[name], "gold spans", "recall", "95% interval", "precision", "f1")


def calibration_error_text(error: dict[str, Any]) -> str:
    """Return the calibration error as text: "0.0312 (0.0541 uncalibrated)"."""
    before = error["ece_uncalibrated"]
    return f"{error['ece']:.4f}" + ("" if before in (None, error["ece"]) else f" ({before:.4f} uncalibrated)")


def interval_text(ends: list[float]) -> str:
    """Return an interval as text: "0.8012 to 0.8431"."""
    return f"{ends[0]:.4f} to {ends[1]:.4f}"
