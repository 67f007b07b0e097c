"""Count sentences, tokens and pairs of neighbouring tags of a split; labels and scheme follow from the counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nerloop.tags import OUTSIDE, split_tag, starts_span
from nerloop.types import Example


@dataclass
class TagCounts:
    """Counts over sentences; labels, scheme and the number of spans follow from `pairs`."""

    num_sentences: int = 0
    num_tokens: int = 0
    num_without_document: int = 0  # sentences whose document is not known
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)  # of neighbouring tags; either border is an O

    @staticmethod
    def of(examples: Iterable[Example]) -> TagCounts:
        """Return the counts of examples: those stored with them, else by counting."""
        stored = getattr(examples, "statistics", None)
        if isinstance(stored, TagCounts):
            return stored
        statistics = TagCounts()
        for _ in statistics.counting(examples):
            pass
        return statistics

    def counting(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yield the examples, and count each."""
        for example in examples:
            self.num_sentences += 1
            self.num_tokens += len(example.tokens)
            self.num_without_document += not example.document
            self.pairs.update(itertools.pairwise((OUTSIDE, *example.tags, OUTSIDE)))
            yield example

    @property
    def tags(self) -> Counter[str]:
        """How often each tag occurs."""
        counts: Counter[str] = Counter()
        for (_, tag), number in self.pairs.items():
            counts[tag] += number
        counts[OUTSIDE] -= self.num_sentences  # the border after each sentence
        return +counts

    @property
    def num_spans(self) -> int:
        """The number of spans: two neighbouring tags tell whether a span starts at the second."""
        return sum(n for (a, b), n in self.pairs.items() if starts_span(split_tag(a), split_tag(b)))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        pairs = [[a, b, n] for (a, b), n in self.pairs.items()]
        return {
            "num_sentences": self.num_sentences,
            "num_tokens": self.num_tokens,
            "num_without_document": self.num_without_document,
            "pairs": pairs,
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> TagCounts:
        """Return what `to_json` gave."""
        pairs = Counter({(a, b): n for a, b, n in values["pairs"]})
        return TagCounts(values["num_sentences"], values["num_tokens"], values["num_without_document"], pairs)
