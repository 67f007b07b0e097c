"""Precision, recall and F1 of spans. Spans are extracted by seqeval in its default mode, as conlleval does."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from nerloop.evaluators import Counts
from nerloop.types import Span

NOTHING = ""
"""Key in the confusion for "no span with these borders". It can't be a real type, because types are never empty."""


class Seqeval:
    """Counts of spans and tokens, and seqeval's metrics of them."""

    main_metric = "f1"
    greater_is_better = True

    def count(
        self,
        gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
        *,
        widened: Sequence[Sequence[Span]] = (),
        missed: Sequence[Sequence[Span]] = (),
    ) -> Counts:
        """Return the counts of some sentences.

        A sentence's `widened` spans are in its gold tags but are not gold, so predicting one is wrong. Its `missed`
        spans are gold, but no prediction can match them. Token counts compare the tags only.

        Keys: ("tokens",), ("correct_tokens",), ("gold", TYPE), ("predicted", TYPE), ("correct", TYPE), and
        ("confusion", GOLD TYPE, PREDICTED TYPE). The confusion counts spans with equal borders; the type is "" on the
        side that has no such span.
        """
        counts: Counts = Counter()
        for span in itertools.chain.from_iterable(missed):
            counts["confusion", span.type, NOTHING] += 1
            counts["gold", span.type] += 1
        widened = widened or [()] * len(gold)
        for gold_tags, predicted_tags, not_gold in zip(gold, predicted, widened, strict=True):
            counts["tokens",] += len(gold_tags)
            counts["correct_tokens",] += sum(a == b for a, b in zip(gold_tags, predicted_tags, strict=True))
            gold_types = dict(types_by_borders(tuple(gold_tags)))
            for span in not_gold:  # seqeval's ends are inclusive
                gold_types.pop((span.start, span.end - 1), None)
            predicted_types = types_by_borders(tuple(predicted_tags))
            for borders in gold_types.keys() | predicted_types.keys():
                gold_type = gold_types.get(borders, NOTHING)
                predicted_type = predicted_types.get(borders, NOTHING)
                counts["confusion", gold_type, predicted_type] += 1
                counts["gold", gold_type] += gold_type != NOTHING
                counts["predicted", predicted_type] += predicted_type != NOTHING
                counts["correct", gold_type] += gold_type == predicted_type
        return +counts  # unary plus drops zeros, so that equal counts compare equal

    def metrics(self, counts: Counts) -> dict[str, Any]:
        """Return precision, recall, f1, accuracy, per_type, tokens, gold_spans, predicted_spans and confusion.

        `confusion[gold type][predicted type]` counts spans with equal borders; the type "" means no such span.
        """
        types = sorted({key[1] for key in counts if key[0] in ("gold", "predicted")})
        gold, predicted, correct = ({t: counts[side, t] for t in types} for side in ("gold", "predicted", "correct"))
        confusion: dict[str, dict[str, int]] = {}
        for key in sorted(key for key in counts if key[0] == "confusion"):
            confusion.setdefault(key[1], {})[key[2]] = counts[key]
        return {
            **scores(sum(correct.values()), sum(gold.values()), sum(predicted.values())),
            "accuracy": divide(counts["correct_tokens",], counts["tokens",]),
            "per_type": {t: {**scores(correct[t], gold[t], predicted[t]), "support": gold[t]} for t in types},
            "tokens": counts["tokens",],
            "gold_spans": sum(gold.values()),
            "predicted_spans": sum(predicted.values()),
            "confusion": confusion,
        }


@lru_cache(maxsize=2048)  # gold tags, and most predicted ones, come once for each decoding
def types_by_borders(tags: tuple[str, ...]) -> Mapping[tuple[int, int], str]:
    """Return the types of a sentence's spans by (first token, last token), both inclusive."""
    # Imported here, because it imports scikit-learn, which takes seconds.
    from seqeval.metrics.sequence_labeling import get_entities

    return MappingProxyType({(start, end): type_ for type_, start, end in get_entities(list(tags))})


def scores(correct: int, gold: int, predicted: int) -> dict[str, float]:
    """Return precision, recall and F1, 0 if undefined. Uses seqeval's order of operations, so that all digits agree."""
    precision, recall = divide(correct, predicted), divide(correct, gold)
    return {"precision": precision, "recall": recall, "f1": divide(2 * precision * recall, precision + recall)}


def divide(a: float, b: float) -> float:
    """Return a / b, or 0.0 if b is 0."""
    return a / b if b else 0.0
