"""Count the subwords of sentences: lengths, windows, tokens without subwords, unknown tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from nerloop.alignment.first import First
from nerloop.alignment.subwords import subwords_of
from nerloop.alignment.windows import special_tokens, windows_of
from nerloop.inspection.statistics import NUM_PLACES, Place
from nerloop.types import Example, Tokenizer


@dataclass(frozen=True)
class Limit:
    """The size of a window, and how longer sentences are cut."""

    max_length: int  # subwords of a window, special tokens included
    num_special: int
    stride: int

    @staticmethod
    def of(tokenizer: Tokenizer, max_length: int | None = None, stride: int | None = None) -> Limit:
        """Return the limit that training would have with these options. Raises ConfigError for impossible ones."""
        alignment = First(tokenizer, (), max_length=max_length, stride=stride)
        return Limit(alignment.max_length, sum(map(len, special_tokens(tokenizer))), alignment.stride)

    def num_windows(self, num_subwords: int) -> int:
        """Return how many windows a sentence of `num_subwords` (without special tokens) is cut into."""
        return len(windows_of(num_subwords, self.max_length - self.num_special, self.stride))


@dataclass
class SubwordStatistics:
    """Counts of the subwords of a part."""

    lengths: np.ndarray  # (sentences,) int32, special tokens included
    num_subwords: int = 0  # without special tokens
    num_windows: int = 0  # of the sentences that don't fit into one
    long: list[Place] = field(default_factory=list)
    num_long: int = 0
    without: list[Place] = field(default_factory=list)  # the first tokens without subwords
    num_without: int = 0
    unknown: list[Place] = field(default_factory=list)  # the first tokens with unknown subwords
    num_unknown: int = 0

    @staticmethod
    def of(
        tokenizer: Tokenizer, examples: Sequence[Example], num_tokens: np.ndarray, limit: Limit
    ) -> SubwordStatistics:
        """Return the statistics of sentences, read once and in order; `num_tokens` has the length of each sentence."""
        lengths = np.zeros(len(examples), dtype=np.int32)
        found = SubwordStatistics(lengths)
        unknown_id = -1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        for i, (ids, token_of) in enumerate(subwords_of(tokenizer, _Tokens(examples))):
            lengths[i] = len(ids) + limit.num_special
            found.num_subwords += len(ids)
            if lengths[i] > limit.max_length:
                found.num_long += 1
                found.num_windows += limit.num_windows(len(ids))
                _keep(found.long, [Place(i, 0)])
            if unknown_id in ids:
                of = np.unique(token_of[ids == unknown_id]).tolist()
                found.num_unknown += len(of)
                _keep(found.unknown, [Place(i, token) for token in of])
            if missing := int(num_tokens[i]) - _num_distinct(token_of):
                found.num_without += missing
                has_subwords = set(token_of.tolist())
                _keep(found.without, [Place(i, t) for t in range(num_tokens[i]) if t not in has_subwords])
        return found


class _Tokens(Sequence[tuple[str, ...]]):
    """The tokens of examples, read on access."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(index, int):
            return self._examples[index].tokens
        return [example.tokens for example in self._examples[index]]


def _num_distinct(token_of: np.ndarray) -> int:
    """Return how many tokens have subwords; token indices rise from left to right."""
    return int(np.count_nonzero(token_of[1:] != token_of[:-1])) + 1 if len(token_of) else 0


def _keep(places: list[Place], more: list[Place]) -> None:
    places += more[: max(0, NUM_PLACES - len(places))]
