"""Write the README.md of a saved model, its model card on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from nerloop import plugins
from nerloop.alignment import Alignment
from nerloop.config import Config
from nerloop.evaluation.tables import describe_distillation, markdown_table, metrics_table, pipeline_f1, target_rows
from nerloop.run.folder import short_name

DOCUMENTS = (
    "The model was trained on windows of several sentences of a document. Give it whole documents: sentences in their "
    "order, a `-DOCSTART-` line before each document (in plain text, a blank line between two documents). "
    "transformers' pipeline sees only the text of one call.\n\n"
)


def model_card(config: Config, results: dict[str, Any], labels: Sequence[str], alignment: Alignment) -> str:
    """Return the README.md of a saved model, with the metrics of results.json."""
    base = config.model.name_or_path
    decoding = results["decoding"]
    split = "test" if "test" in results else "validation"
    metrics = results.get(split, {}).get("best", {}).get(decoding)
    front = f"---\n{_metadata(config, split, metrics or {})}\n---"
    parts = [front, f"# Named entities: {', '.join(sorted({x[2:] for x in labels if x != 'O'}))}"]
    origin = _public(base) if base else "a small encoder with random weights (nerloop's demo)"
    parts.append(f"Fine-tuned with nerloop from `{origin}` on `{_public(config.data_name)}`.")
    if distillation := results.get("distillation"):
        parts.append(f"It {describe_distillation(distillation)}.")
    if metrics:
        parts.append(f"On the {split} split, decoded with `{decoding}`:\n\n{markdown_table(*metrics_table(metrics))}")
    parts.append(_confidences(results))
    parts.append(
        "## Use\n\n"
        "With nerloop, as it was evaluated (any length, one tag a token):\n\n"
        "    python -m nerloop.predict --model FOLDER sentences.conll\n\n"
        "or from Python:\n\n"
        "    import nerloop\n"
        '    nerloop.load(FOLDER).tag("Anna Smith flew to Paris.")\n\n'
        f"{DOCUMENTS if getattr(alignment, 'needs_documents', False) else ''}"
        "With transformers:\n\n"
        "    from transformers import pipeline\n"
        '    pipeline("token-classification", model=FOLDER, aggregation_strategy="first")'
    )
    if "pipeline" in results.get("validation", {}):
        nerloop_f1 = results["validation"]["best"][decoding].get("f1")
        scored = results["validation"]["pipeline"]
        f1_by_strategy = ", ".join(f"`{name}` {f1:.4f}" for name, f1 in pipeline_f1(scored))
        first_only = (
            "`simple` reads every subword, but only the first one of each token was trained; "
            if not getattr(alignment, "labels_every_subword", True)
            else ""
        )
        compared = "" if nerloop_f1 is None else f" (nerloop on the whole split: {nerloop_f1:.4f})"
        parts.append(
            f"F1 of transformers' pipeline on {scored['sentences']} validation sentences: {f1_by_strategy}"
            f"{compared}. The pipeline takes text instead "
            f"of tokens and splits words its own way; it ignores which tag sequences are legal; {first_only}it cuts "
            "text at the model's limit."
        )
    return "\n\n".join(parts) + "\n"


def _public(name: str) -> str:
    """Return a hub name as it is, and only the last part of a path, which tells nothing of this machine."""
    return short_name(name) if Path(name).exists() else name


def _metadata(config: Config, split: str, metrics: Mapping[str, Any]) -> str:
    """Return the metadata of a model card as the hub defines them, in YAML. Paths on this machine are left out."""
    base, dataset = config.model.name_or_path, config.data.dataset
    hub_name = None if dataset is None or Path(dataset).exists() else dataset
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "nerloop"],
        base_model=base if base and not Path(base).exists() else None,
        datasets=[hub_name] if hub_name else None,
    )
    scores_on_split = {n: float(metrics[n]) for n in ("f1", "precision", "recall", "accuracy") if n in metrics}
    if scores_on_split:
        name = short_name(config.data_name)
        data.model_name = f"{short_name(base or 'encoder')}-{name}"
        data.eval_results = [
            EvalResult(
                task_type="token-classification", task_name="Named entity recognition", dataset_type=hub_name or name,
                dataset_name=name, dataset_config=config.data.dataset_config, dataset_split=split, metric_type=metric,
                metric_name=metric.capitalize(), metric_value=round(value, 6),
            )
            for metric, value in scores_on_split.items()
        ]  # fmt: skip
    return data.to_yaml()


def _confidences(results: dict[str, Any]) -> str:
    """Return the section on confidences: their meaning, their measured quality, and what the pipeline lacks."""
    temperature = results.get("validation", {}).get("calibration", {}).get("temperature")
    fitted = "" if temperature is None else f", at temperature {temperature:.2f}, which was fitted on validation"
    decoding = results["decoding"]
    has_probabilities = hasattr(plugins.find("decoding", decoding), "span_probabilities")
    meaning = (
        f"the probability of exactly this entity among all tag sequences that `{decoding}` chooses from{fitted}"
        if has_probabilities
        else "the mean probability of its tags"
    )
    lines = [f"## Confidences\n\nnerloop's confidence of an entity is {meaning}."]
    test = results.get("test", {})
    if "calibration" in test:
        errors = test["calibration"]
        lines.append(
            f"Expected calibration error on test: {errors['ece']:.3f} (without the temperature "
            f"{errors['ece_uncalibrated']:.3f})."
        )
    if points := test.get("operating_points"):
        rows = [(name, *(f"{scores[m]:.4f}" for m in ("precision", "recall", "f1"))) for name, scores in points.items()]
        lines.append(
            "Operating points of `nerloop.predict`, chosen on validation, on test:\n\n"
            f"{markdown_table(rows, ('--operating_point', 'precision', 'recall', 'f1'))}"
        )
    if rows := [(f"--target_{name}", *cells) for name, *cells in target_rows(test.get("targets", {}), ("delivered",))]:
        lines.append(
            "Targets of `nerloop.predict`. The least confidence was chosen on validation; precision and recall are "
            f"those on test:\n\n{markdown_table(rows, ('target', 'least confidence', 'precision', 'recall'))}"
        )
    lines.append(
        "transformers' pipeline has none of this. It takes the best label of each subword, legal after the one before "
        "or not; its `score` is the softmax of single subwords, not of the entity; it knows no temperature, no "
        "operating points, thresholds or learned transitions."
    )
    return "\n\n".join(lines)
