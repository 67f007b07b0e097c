"""Write metrics as text: tables for the final report of a run, for TensorBoard and for the model card."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerloop.errors import printable
from nerloop.evaluation.predictor import Prediction
from nerloop.evaluators import seqeval

DEMO_HINT = (
    "For real work:\n"
    "  accelerate launch -m nerloop.train --model.name_or_path bert-base-cased \\\n"
    "      --data.train train.conll --data.validation dev.conll --data.test test.conll"
)
HEADINGS = ("type", "precision", "recall", "f1", "support")

Table = tuple[list[tuple[str, ...]], tuple[str, ...]]
"""Rows and headings."""


def metrics_table(metrics: dict[str, Any]) -> Table:
    """Return precision, recall and F1 per type, the total last; of metrics without "f1", a row for each number."""
    if "f1" not in metrics:
        numbers = [(n, v) for n, v in metrics.items() if isinstance(v, int | float)]
        return [(name, _cell(value)) for name, value in numbers], ("metric", "value")
    whole = {**metrics, "support": metrics.get("gold_spans")}
    by_type = [*metrics.get("per_type", {}).items(), ("all", whole)]
    return [(type_, *(_cell(m.get(n)) for n in HEADINGS[1:])) for type_, m in by_type], HEADINGS


def plain_table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    """Return rows as aligned text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [headings, *rows]
    )


def markdown_table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    """Return rows as a Markdown table."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def confusion_rows(metrics: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """Return the confusion matrix of types as rows and headings: a row a gold type, a column a predicted type."""
    confusion: dict[str, dict[str, int]] = metrics.get("confusion", {})
    types = sorted({*confusion, *(p for row in confusion.values() for p in row)} - {seqeval.NOTHING})
    names = [*types, seqeval.NOTHING]
    rows = [
        [gold or "(no such span)", *(str(confusion.get(gold, {}).get(predicted, 0)) for predicted in names)]
        for gold in names
    ]
    rows[-1][-1] = "-"  # no span on either side
    return rows, ["gold \\ predicted", *types, "(no equal borders)"]


def evaluation_markdown(metrics: dict[str, Any]) -> str:
    """Return the table per type and the confusion matrix as Markdown, for TensorBoard."""
    confusion = f"\n\n{markdown_table(*confusion_rows(metrics))}" if "confusion" in metrics else ""
    return markdown_table(*metrics_table(metrics)) + confusion


def final_report(
    results: dict[str, Any],
    folder: Path,
    *,
    entities: str = "",
    is_demo: bool = False,
    flags: str = "",
    has_tensorboard: bool = True,
) -> str:
    """Return the report printed at the end of a run: tables, confusion matrix, paths and commands.

    `flags` are those that `nerloop.predict` needs for the model.
    """
    parts = []
    for split in ("test", "validation"):
        if best := results.get(split, {}).get("best"):
            metrics = best[results["decoding"]]
            table = plain_table(*metrics_table(metrics))
            parts.append(f"{split} ({results['decoding']}, model of step {results['best_step']})\n\n{table}")
            if not any("gold \\" in part for part in parts) and "confusion" in metrics:
                parts.append(plain_table(*confusion_rows(metrics)))
    if "pipeline" in results.get("validation", {}):
        f1_by_strategy = ", ".join(f"{name} {f1:.4f}" for name, f1 in pipeline_f1(results["validation"]["pipeline"]))
        num = results["validation"]["pipeline"]["sentences"]
        parts.append(
            f"transformers' pipeline on {num} validation sentences, F1 by aggregation strategy: {f1_by_strategy}"
        )
    if distillation := results.get("distillation"):
        parts.append(describe_distillation(distillation))
    if entities:
        parts.append(entities)
    model, logs = shlex.quote(str(folder / "model")), folder if folder.parent == Path() else folder.parent
    report = f"report       {folder / 'report.html'}\n" if {"test", "validation"} & results.keys() else ""
    parts.append(
        f"model        {folder / 'model'}\n"
        f"{report}"
        f"predict      python -m nerloop.predict --model {model}{flags} FILE"
        + (f"\nTensorBoard  tensorboard --logdir {shlex.quote(str(logs))}" if has_tensorboard else "")
    )
    if is_demo:
        parts.append(f"This was the embedded demo. {DEMO_HINT}")
    return "\n\n".join(parts)


def target_rows(targets: dict[str, dict[str, Any]], measured: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row for each target: its name, the least confidence, precision and recall by the keys `measured`."""
    return [
        (f"{target} {value}", f"{of['threshold']:g}",
         *(f"{of[on][metric]:.4f}" for on in measured for metric in ("precision", "recall")))
        for target, values in targets.items()
        for value, of in values.items()
    ]  # fmt: skip


def describe_distillation(distillation: dict[str, Any]) -> str:
    """Return a line on the teachers: {"teachers": 1, "unlabelled_sentences": 9} -> "learned from ... sentences"."""
    teachers, sentences = distillation["teachers"], distillation["unlabelled_sentences"]
    what = f" and {sentences} unlabelled sentences" if sentences else ""
    return f"learned from the labels{what}, with the probabilities of {teachers} teacher{'s' * (teachers > 1)}"


def pipeline_f1(scored: dict[str, Any]) -> list[tuple[str, float]]:
    """Return (strategy, F1) of transformers' pipeline: {"simple": 0.5, "sentences": 9} -> [("simple", 0.5)]."""
    return [(name, f1) for name, f1 in scored.items() if name != "sentences"]


def example_line(tokens: Sequence[str], tagged: Prediction, decoding: str) -> str:
    """Return the entities found in one sentence, for the end of a run."""
    lines = [f"found in: {printable(' '.join(tokens))}"]
    for span in tagged.spans(decoding):
        text = printable(" ".join(tokens[span["start"] : span["end"]]))
        lines.append(f"  {span['type']:<5} {text}  ({span['confidence']:.2f})")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing"])


def _cell(value: float | None) -> str:
    """Return a metric as text, "" for one that the evaluator does not have."""
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")
