"""Score a saved model with transformers' own `pipeline`, whose F1 differs from nerloop's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nerloop.evaluators import Counts
from nerloop.evaluators.seqeval import scores
from nerloop.tags import to_spans
from nerloop.types import Example, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STRATEGIES = ("simple", "first")
"""The aggregation strategies of `pipeline` that are scored."""


def count_pipeline(model: PreTrainedModel, tokenizer: Tokenizer, examples: Iterable[Example]) -> dict[str, Counts]:
    """Return the counts of `pipeline` on sentences joined with spaces, by aggregation strategy.

    Keys: ("gold",), ("predicted",), ("correct",). A span is correct if its characters and its type are exactly right.
    The pipeline cuts text at the model's limit; gold spans beyond it count as missed.
    """
    from transformers import TokenClassificationPipeline

    training = model.training
    pipeline = TokenClassificationPipeline(model=model.eval(), tokenizer=tokenizer, device=model.device)
    counts: dict[str, Counts] = {strategy: Counter() for strategy in STRATEGIES}
    for example in examples:
        gold = character_spans(example)
        text = " ".join(example.tokens)
        # The pipeline raises for an empty text, which has no entities anyway.
        outputs = _forward(pipeline, text) if text.strip() else None
        for strategy in STRATEGIES:
            predicted = _predicted_spans(pipeline, outputs, strategy) if outputs is not None else set()
            counts[strategy].update(
                {
                    ("gold",): len(gold) + len(example.missed),
                    ("predicted",): len(predicted),
                    ("correct",): len(gold & predicted),
                }
            )
    model.train(training)
    return counts


def f1_of(counts: Counts) -> float:
    """Return the F1 of counts as `count_pipeline` returns them."""
    return scores(counts["correct",], counts["gold",], counts["predicted",])["f1"]


def character_spans(example: Example) -> set[tuple[int, int, str]]:
    """Return the gold spans as (start, end, type), in characters of the tokens joined with spaces; half-open.

    Spans in `example.missed` are left out: no span of tokens matches them.
    """
    starts, ends, at = [], [], 0
    for token in example.tokens:
        starts.append(at)
        ends.append(at + len(token))
        at += len(token) + 1
    return {
        (starts[start], ends[end - 1], type_)
        for start, end, type_ in set(to_spans(example.tags)) - set(example.widened)
    }


def _forward(pipeline: Any, text: str) -> list[dict[str, Any]]:
    # The strategies differ only in postprocessing, so one forward serves both. A test checks that calling the pipeline
    # itself gives the same result.
    inputs = pipeline.preprocess(text, **pipeline._preprocess_params)
    return [pipeline.forward(chunk, **pipeline._forward_params) for chunk in inputs]


def _predicted_spans(pipeline: Any, outputs: list[dict[str, Any]], strategy: str) -> set[tuple[int, int, str]]:
    from transformers.pipelines.token_classification import AggregationStrategy

    entities = pipeline.postprocess(
        [dict(output) for output in outputs], aggregation_strategy=AggregationStrategy(strategy)
    )
    return {(int(e["start"]), int(e["end"]), str(e["entity_group"])) for e in entities}
