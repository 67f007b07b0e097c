"""Sort spans into buckets: known or new names, short or long, in short or long sentences, of rare or common types.

A model can memorise the names in the training data. The recall on other names shows how well it generalises.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nerloop.evaluation.report.sentences import ScoredSentence
from nerloop.tags import OUTSIDE, to_spans
from nerloop.types import Example, Span

SURFACE = ("same_type", "other_type", "unseen")
ENTITY_LENGTHS = (1, 2, 3, 5)
SENTENCE_LENGTHS = (10, 20, 40)
FREQUENCIES = (0, 9, 99, 999, 9_999)


@dataclass
class TrainingNames:
    """The surface forms of the entities in the training data, with their types, and the number of spans of each type.

    A form is its tokens joined with spaces, as written: "Paris" and "PARIS" differ.
    """

    types_of: dict[str, set[str]] = field(default_factory=dict)
    frequency: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def of(examples: Iterable[Example]) -> TrainingNames:
        """Return the names in annotated sentences."""
        names = TrainingNames()
        for example in examples:
            if all(tag == OUTSIDE for tag in example.tags):
                continue
            for start, end, type_ in to_spans(example.tags):
                names.types_of.setdefault(" ".join(example.tokens[start:end]), set()).add(type_)
                names.frequency[type_] += 1
        return names

    def seen(self, form: str, type_: str) -> str:
        """Return whether an entity of this form is in the training data: "same_type", "other_type" or "unseen"."""
        types = self.types_of.get(form)
        return "unseen" if types is None else "same_type" if type_ in types else "other_type"


def buckets(sentence: ScoredSentence, span: Span, names: TrainingNames | None) -> Iterator[tuple[str, str]]:
    """Yield each breakdown with the span's bucket. Without the training data, two of the breakdowns are left out."""
    if names is not None:
        yield "surface", names.seen(sentence.text(span), span.type)
    yield "entity_length", bucket(span.end - span.start, ENTITY_LENGTHS)
    yield "sentence_length", bucket(sentence.num_tokens, SENTENCE_LENGTHS)
    if names is not None:
        yield "type_frequency", bucket(names.frequency[span.type], FREQUENCIES)


def bucket(number: int, ends: tuple[int, ...]) -> str:
    """Return the name of a number's bucket; `ends` are the last numbers of the buckets.

    Numbers start at 1, or at `ends[0]` if that is lower.

    bucket(4, (1, 2, 3, 5)) -> "4-5"; bucket(9, (1, 2, 3, 5)) -> "6+"
    """
    i = bisect.bisect_left(ends, number)
    low = ends[i - 1] + 1 if i else min(1, ends[0])
    if i == len(ends):
        return f"{low}+"
    return f"{low}" if low == ends[i] else f"{low}-{ends[i]}"


def order_of(breakdown: str) -> list[str]:
    """Return the buckets of a breakdown in their natural order."""
    if breakdown == "surface":
        return list(SURFACE)
    ends = {"entity_length": ENTITY_LENGTHS, "sentence_length": SENTENCE_LENGTHS, "type_frequency": FREQUENCIES}
    return [bucket(end, ends[breakdown]) for end in (*ends[breakdown], ends[breakdown][-1] + 1)]
