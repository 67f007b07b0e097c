"""Figures as text: the tables at the end of a run, in TensorBoard and in the model card; predictions files."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nerloop.config import Config
from nerloop.data.columns import DOCUMENT, escape
from nerloop.errors import printable
from nerloop.evaluators import seqeval
from nerloop.inference import Tagged
from nerloop.tags import to_spans
from nerloop.types import Example

DEMO_HINT = (
    "For real work:\n"
    "  accelerate launch -m nerloop.train --model.name_or_path bert-base-cased \\\n"
    "      --data.train train.conll --data.validation dev.conll --data.test test.conll"
)
DOCUMENTS = (
    "It was trained on sentences in the company of their neighbours in the document, so give it whole documents: "
    "sentences in their order, a `-DOCSTART-` line before each document (in plain text: a blank line between two). "
    "transformers' pipeline sees what it is given, and nothing around it.\n\n"
)
HEADINGS = ("type", "precision", "recall", "f1", "support")


def rows_of(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table per type, the total last."""
    whole = {**metrics, "support": metrics.get("gold_spans")}
    return [
        (type_, *(_cell(m.get(n)) for n in HEADINGS[1:]))
        for type_, m in [*metrics.get("per_type", {}).items(), ("all", whole)]
    ]


def plain_table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    """Return rows as text in columns, the first to the left, the others to the right."""
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
    """Return rows and headings of the confusion between types: gold down, predicted across."""
    confusion: dict[str, dict[str, int]] = metrics.get("confusion", {})
    types = sorted({*confusion, *(p for row in confusion.values() for p in row)} - {seqeval.NOTHING})
    names = [*types, seqeval.NOTHING]
    rows = [
        [gold or "(no such span)", *(str(confusion.get(gold, {}).get(predicted, 0)) for predicted in names)]
        for gold in names
    ]
    rows[-1][-1] = "-"
    return rows, ["gold \\ predicted", *types, "(missed)"]


def evaluation_markdown(metrics: dict[str, Any]) -> str:
    """Return the table per type and the confusion as Markdown, for TensorBoard."""
    return f"{markdown_table(rows_of(metrics), HEADINGS)}\n\n{markdown_table(*confusion_rows(metrics))}"


def final_report(results: dict[str, Any], folder: Path, *, entities: str = "", is_demo: bool = False) -> str:
    """Return what a run ends with: the table, the confusion, where things are and how to use them."""
    parts = []
    for split in ("test", "validation"):
        if best := results.get(split, {}).get("best"):
            metrics = best[results["decoding"]]
            table = plain_table(rows_of(metrics), HEADINGS)
            parts.append(f"{split} ({results['decoding']}, model of step {results['best_step']})\n\n{table}")
            if not any("gold \\" in part for part in parts) and "confusion" in metrics:
                parts.append(plain_table(*confusion_rows(metrics)))
    if "pipeline" in results.get("validation", {}):
        found = ", ".join(f"{name} {f1:.4f}" for name, f1 in results["validation"]["pipeline"].items())
        parts.append(f"transformers' pipeline on validation, F1 by aggregation strategy: {found}")
    if entities:
        parts.append(entities)
    model, logs = shlex.quote(str(folder / "model")), folder if folder.parent == Path() else folder.parent
    parts.append(
        f"model        {folder / 'model'}\n"
        f"predict      python -m nerloop.predict --model {model} FILE\n"
        f"TensorBoard  tensorboard --logdir {shlex.quote(str(logs))}"
    )
    if is_demo:
        parts.append(f"This was the embedded demo. {DEMO_HINT}")
    return "\n\n".join(parts)


def example_line(tokens: Sequence[str], tagged: Tagged, decoding: str) -> str:
    """Return the entities found in one sentence, for the end of a run."""
    lines = [f"found in: {printable(' '.join(tokens))}"]
    for span in tagged.spans(decoding):
        text = printable(" ".join(tokens[span["start"] : span["end"]]))
        lines.append(f"  {span['type']:<5} {text}  ({span['confidence']:.2f})")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing"])


Write = Callable[[Sequence[Example], Sequence[Tagged]], None]


def writer(
    write_lines: Callable[[Iterable[str]], None], form: str, decoding: str, *, with_documents: bool = True
) -> Write:
    """Return a function that writes predictions as they come, as "jsonl" or "conll"."""
    document = "" if with_documents else None  # of the sentence before

    def write(examples: Sequence[Example], tagged: Sequence[Tagged]) -> None:
        nonlocal document
        if form == "jsonl":
            write_lines(jsonl_lines(examples, tagged, decoding))
            return
        write_lines(conll_lines(examples, tagged, decoding, document))
        if with_documents and examples:
            document = examples[-1].document

    return write


@contextlib.contextmanager
def writing_predictions(path: Path, decoding: str) -> Iterator[Write]:
    """Give a function that writes predictions as they come, in both forms: to `path` with .jsonl and with .conll."""
    with contextlib.ExitStack() as files:
        writers = []
        for form in ("jsonl", "conll"):
            named = path.with_name(f"{path.name}.{form}")
            file = files.enter_context(named.open("w", encoding="utf-8", newline="\n"))
            writers.append(writer(file.writelines, form, decoding))

        def write(examples: Sequence[Example], tagged: Sequence[Tagged]) -> None:
            for write_one in writers:
                write_one(examples, tagged)

        yield write


def write_nothing(examples: Sequence[Example], tagged: Sequence[Tagged]) -> None:
    """Do nothing, as processes do that have no file to write."""


def jsonl_lines(examples: Sequence[Example], tagged: Sequence[Tagged], decoding: str) -> Iterable[str]:
    """Yield a JSON object a sentence: tokens, gold (where known), tags, spans with text and confidence."""
    for example, found in zip(examples, tagged, strict=True):
        record: dict[str, Any] = {"tokens": example.tokens}
        if example.tags:
            record["gold"] = example.tags
        record["tags"] = found.tags[decoding]
        record["spans"] = [
            {**span, "text": " ".join(example.tokens[span["start"] : span["end"]])} for span in found.spans(decoding)
        ]
        yield json.dumps(record | _character_spans(example, found, decoding), ensure_ascii=False) + "\n"


def _character_spans(example: Example, found: Tagged, decoding: str) -> dict[str, Any]:
    """Return what a prediction says of the text that its sentence comes from, nothing where there is none.

    Offsets are in code points of that text. White space within a span's text is single spaces.
    """
    if not example.offsets:
        return {}
    spans = [{**span, **_in_text(example, span["start"], span["end"])} for span in found.spans(decoding)]
    record: dict[str, Any] = {
        "location": example.location, "document": example.document, "offsets": example.offsets, "character_spans": spans
    }  # fmt: skip
    if example.tags:
        gold = [span for span in to_spans(example.tags) if span not in example.widened]
        whole = [{**_in_text(example, start, end), "type": type_} for start, end, type_ in gold]
        record["gold_character_spans"] = whole + [span._asdict() for span in example.missed]
    return record


def _in_text(example: Example, start: int, end: int) -> dict[str, Any]:
    """Return where tokens lie in the text, and that stretch of it."""
    pieces, at = [], example.offsets[start][0]
    for token, (begin, stop) in zip(example.tokens[start:end], example.offsets[start:end], strict=True):
        pieces += [" " * (begin - at), token]
        at = stop
    return {"start": example.offsets[start][0], "end": at, "text": "".join(pieces)}


def conll_lines(
    examples: Sequence[Example], tagged: Sequence[Tagged], decoding: str, document: str | None = ""
) -> Iterable[str]:
    r"""Yield the lines of the column form, conlleval's: token, gold tag where known, predicted tag.

    A blank line stands behind each sentence, and a -DOCSTART- line with its own before each document: `document` is
    that of the sentence before (none: no such lines). What a column can't hold is escaped: \s space, \t tab, \n \r
    line ends, \0 NUL, \b a byte order mark, \e an empty token, \\ a backslash, and with a \ before it a token that is
    -DOCSTART-.
    """
    for example, found in zip(examples, tagged, strict=True):
        if document is not None and example.document != document:
            document = example.document
            yield f"{DOCUMENT}{' O' if example.tags else ''} O\n\n"
        for i, tag in enumerate(found.tags[decoding]):
            gold = f" {example.tags[i]}" if example.tags else ""
            yield f"{escape(example.tokens[i])}{gold} {tag}\n"
        yield "\n"


def model_card(config: Config, results: dict[str, Any], labels: Sequence[str]) -> str:
    """Return the README.md of a saved model."""
    base = config.model.name_or_path
    decoding = results["decoding"]
    split = "test" if "test" in results else "validation"
    metrics = results.get(split, {}).get("best", {}).get(decoding)
    front = ["---", "library_name: transformers", "pipeline_tag: token-classification"]
    front += ["tags:", "- named-entity-recognition", "- nerloop"]
    if base and not Path(base).exists():
        front.append(f"base_model: {base}")
    parts = ["\n".join([*front, "---"]), f"# Named entities: {', '.join(sorted({x[2:] for x in labels if x != 'O'}))}"]
    origin = base or "a small encoder with random weights (nerloop's demo)"
    parts.append(f"Fine-tuned with nerloop from `{origin}` on `{config.data_name}`.")
    if metrics:
        parts.append(
            f"On the {split} split, decoded with `{decoding}`:\n\n{markdown_table(rows_of(metrics), HEADINGS)}"
        )
    parts.append(
        "## Use\n\n"
        "With nerloop, as it was evaluated (any length, one tag a token):\n\n"
        "    python -m nerloop.predict --model FOLDER sentences.conll\n\n"
        f"{DOCUMENTS if config.alignment.name == 'document' else ''}"
        "With transformers:\n\n"
        "    from transformers import pipeline\n"
        '    pipeline("token-classification", model=FOLDER, aggregation_strategy="first")'
    )
    if "pipeline" in results.get("validation", {}):
        ours = results["validation"]["best"][decoding]["f1"]
        found = ", ".join(f"`{name}` {f1:.4f}" for name, f1 in results["validation"]["pipeline"].items())
        parts.append(
            f"F1 on the validation split: nerloop {ours:.4f}; transformers' pipeline {found}. The pipeline takes "
            "text, not tokens, so it splits words its own way; it knows nothing of legal tag sequences; "
            + (
                "`simple` looks at every subword, of which only the first of each token was trained; "
                if "first" in (config.alignment.name, config.alignment.options.get("label_subwords"))
                else ""
            )
            + "and it cuts off what exceeds the model's limit."
        )
    return "\n\n".join(parts) + "\n"


def _cell(figure: float | None) -> str:
    """Return a figure as text; a plugin may not have it."""
    return "" if figure is None else str(figure) if isinstance(figure, int) else f"{figure:.4f}"


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")
