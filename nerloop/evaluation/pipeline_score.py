"""What transformers' own `pipeline` makes of the model we save, so that nobody is surprised by it."""

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


def count_pipeline(model: PreTrainedModel, tokenizer: Tokenizer, examples: Iterable[Example]) -> dict[str, Counts]:
    """Return by aggregation strategy the counts of what `pipeline` finds in sentences joined with spaces.

    Keys: ("gold",), ("predicted",), ("correct",). A span is correct where its characters and type are exactly
    right. What the pipeline cuts off at the model's limit is lost, as it is for whoever calls it.
    """
    from transformers import TokenClassificationPipeline

    training = model.training
    pipeline = TokenClassificationPipeline(model=model.eval(), tokenizer=tokenizer, device=model.device)
    counts: dict[str, Counts] = {strategy: Counter() for strategy in STRATEGIES}
    for example in examples:
        gold = character_spans(example)
        text = " ".join(example.tokens)
        # An empty text is refused by the pipeline, and it has no entities.
        outputs = _forward(pipeline, text) if text.strip() else None
        for strategy in STRATEGIES:
            found = _found(pipeline, outputs, strategy) if outputs is not None else set()
            counts[strategy].update(
                {
                    ("gold",): len(gold) + len(example.missed),
                    ("predicted",): len(found),
                    ("correct",): len(gold & found),
                }
            )
    model.train(training)
    return counts


def f1_of(counts: Counts) -> float:
    """Return the F1 of counts as `count_pipeline` returns them."""
    return scores(counts["correct",], counts["gold",], counts["predicted",])["f1"]


def character_spans(example: Example) -> set[tuple[int, int, str]]:
    """Return the gold spans as characters of the tokens joined with spaces, half-open, with their types.

    Those of `example.missed`, which no span of tokens is, are not among them.
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
    # One forward serves both strategies, which differ in postprocessing alone; a test holds that calling the pipeline
    # itself gives the same.
    inputs = pipeline.preprocess(text, **pipeline._preprocess_params)
    return [pipeline.forward(chunk, **pipeline._forward_params) for chunk in inputs]


def _found(pipeline: Any, outputs: list[dict[str, Any]], strategy: str) -> set[tuple[int, int, str]]:
    from transformers.pipelines.token_classification import AggregationStrategy

    entities = pipeline.postprocess(
        [dict(output) for output in outputs], aggregation_strategy=AggregationStrategy(strategy)
    )
    return {(int(e["start"]), int(e["end"]), str(e["entity_group"])) for e in entities}
