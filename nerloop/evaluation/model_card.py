"""The README.md of a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerloop.config import Config
from nerloop.evaluation.tables import HEADINGS, markdown_table, rows_of

DOCUMENTS = (
    "It was trained on sentences in the company of their neighbours in the document, so give it whole documents: "
    "sentences in their order, a `-DOCSTART-` line before each document (in plain text: a blank line between two). "
    "transformers' pipeline sees what it is given, and nothing around it.\n\n"
)


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
