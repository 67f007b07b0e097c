"""Compare an exported model with the original: logits, entities, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nerloop import demo
from nerloop.collators.pad import as_tensors
from nerloop.errors import ModelError
from nerloop.evaluation.predictor import Prediction, Predictor, Split
from nerloop.evaluators import Evaluator, count_examples, metrics_of
from nerloop.types import Example, Span

ROUNDING = 1e-3
"""Largest allowed difference between logits of an exact format, relative to the largest. Rounding gives about 1e-6."""

MOST = 256
"""The logits of this many sentences, or up to twice as many, are compared. The entities of all are."""


class Tagging(NamedTuple):
    """A model, and the predictor that tags with it."""

    predictor: Predictor
    model: Any


@dataclass(frozen=True)
class Comparison:
    """The differences between an export and the original on the same sentences."""

    sentences: int
    tokens: int
    logit_difference: float  # the largest one
    largest_logit: float  # of the original
    entities: int  # found by the original
    same_entities: int
    other_entities: int  # found only by the export
    confidence_difference: float  # the largest one among entities that both find
    metric: str  # the evaluator's main metric
    gold: str  # source of the gold tags for the metric: "file", or "original" if the sentences have none
    before: float
    after: float
    loss: float  # how much worse the metric is

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as it is saved in export.json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the comparison as it is printed."""
        gold = "gold tags" if self.gold == "file" else "the original's entities as gold"
        return [
            f"compared     {self.sentences} sentences, {self.tokens} tokens",
            f"logits       differ by {self.logit_difference:.1e} at most (largest logit {self.largest_logit:.1f})",
            f"entities     {self.same_entities} of {self.entities} the same, {self.other_entities} others; "
            f"confidences differ by {self.confidence_difference:.1e} at most",
            f"{self.metric:<12} {self.before:.4f} before, {self.after:.4f} after ({gold})",
        ]

    def check(self, *, is_exact: bool, max_loss: float) -> None:
        """Raise ModelError if an exact export has other logits, or if the metric loses more than `max_loss`."""
        relative = self.logit_difference / self.largest_logit
        if is_exact and not relative <= ROUNDING:  # not `>`, so that NaN is refused
            raise ModelError(
                f"the exported model computes something else: logits differ by {self.logit_difference:.1e} (the "
                f"largest is {self.largest_logit:.1e}), expected rounding; nothing is written"
            )
        if not self.loss <= max_loss:
            raise ModelError(
                f"the export loses {self.loss:.4f} of {self.metric} ({self.before:.4f} before, {self.after:.4f} "
                f"after), expected at most --max_loss {max_loss}; nothing is written"
            )


def generated_sentences() -> list[Example]:
    """Return sentences of the demo without tags, one sentence of a single token, and one longer than any window."""
    corpus = demo.splits()
    sentences = [replace(example, tags=()) for name in ("validation", "test") for example in corpus[name]]
    long = tuple(token for example in sentences[:100] for token in example.tokens)
    return [Example(long, location="long"), Example(("Paris",), location="short"), *sentences]


def compare(original: Tagging, exported: Tagging, examples: Sequence[Example], evaluator: Evaluator) -> Comparison:
    """Return the differences between the exported model and the original on these sentences.

    Raises ModelError if the exported model can't compute them.
    """
    difference, largest = logit_difference(original, exported, examples)
    predicted = [_predict(tagging, examples) for tagging in (original, exported)]
    main = original.predictor.main_decoding
    before, after = ([_confidences(one, main) for one in side] for side in predicted)
    both = [(a[span], b[span]) for a, b in zip(before, after, strict=True) for span in a.keys() & b.keys()]
    num_before, num_after = (sum(map(len, side)) for side in (before, after))
    has_gold = any(e.tags for e in examples) and all(len(e.tags) == len(e.tokens) for e in examples)
    if not has_gold:
        examples = [replace(e, tags=tuple(p.tags[main])) for e, p in zip(examples, predicted[0], strict=True)]
    metrics = [_metric(evaluator, examples, [one.tags[main] for one in side]) for side in predicted]
    loss = metrics[0] - metrics[1] if evaluator.greater_is_better else metrics[1] - metrics[0]
    return Comparison(
        sentences=len(examples), tokens=sum(len(e.tokens) for e in examples),
        logit_difference=difference, largest_logit=largest,
        entities=num_before, same_entities=len(both), other_entities=num_after - len(both),
        confidence_difference=max((abs(a - b) for a, b in both), default=0.0),
        metric=evaluator.main_metric, gold="file" if has_gold else "original",
        before=metrics[0], after=metrics[1], loss=loss,
    )  # fmt: skip


def logit_difference(original: Tagging, exported: Tagging, examples: Sequence[Example]) -> tuple[float, float]:
    """Return the largest absolute difference between logits of the two models, and the largest logit of the original.

    Both compute the same padded rows. Raises ModelError if the exported model fails.
    """
    import torch

    from nerloop.model.forward import feature_logits

    alignment, collate = exported.predictor.alignment, exported.predictor.collator
    split = Split.of(examples[:: max(1, len(examples) // MOST)], alignment, collate)
    difference = largest = np.float32(0)
    for group in split.groups:
        for forward in group:
            batch = collate([split.features[i] for i in forward])
            try:
                found = exported.model(batch.inputs)
            except Exception as error:  # each runtime has its own exceptions
                rows, width = batch.inputs["input_ids"].shape
                reason = " ".join(str(error).split())[:200]
                raise ModelError(f"the exported model fails on {rows} rows of {width} subwords: {reason}") from error
            with torch.inference_mode():
                expected = feature_logits(original.model, as_tensors(batch))
            for logits, (row, start, length) in zip(expected, batch.places, strict=True):
                wanted = logits.numpy()
                # np.maximum keeps a NaN, which max() may lose.
                difference = np.maximum(difference, np.abs(wanted - found[row, start : start + length]).max())
                largest = np.maximum(largest, np.abs(wanted).max())
    return float(difference), float(largest)


def _predict(tagging: Tagging, examples: Sequence[Example]) -> list[Prediction]:
    """Return the prediction for each sentence."""
    predictor, model = tagging
    tagged = predictor.tag(model, Split.untagged(examples, predictor.alignment, predictor.collator))
    return [tagged[i] for i in range(len(examples))]


def _confidences(prediction: Prediction, decoding: str) -> dict[Span, float]:
    """Return the confidences of a sentence's entities."""
    return {Span(s["start"], s["end"], s["type"]): s["confidence"] for s in prediction.spans(decoding)}


def _metric(evaluator: Evaluator, examples: Sequence[Example], tags: Sequence[Sequence[str]]) -> float:
    """Return the main metric of predicted tags."""
    return float(metrics_of(evaluator, count_examples(evaluator, examples, tags))[evaluator.main_metric])
