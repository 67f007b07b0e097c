"""What alignments share: special tokens, windows of long sentences, joining of scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nerloop.types import Feature, Tokenizer


class Window(NamedTuple):
    """Subwords `start` to `stop` of a sentence, of which `own_start` to `own_stop` count in this window alone."""

    start: int
    stop: int
    own_start: int
    own_stop: int

    def own(self, values: np.ndarray, nothing: int) -> np.ndarray:
        """Return the values of this window's subwords, `nothing` where another window counts."""
        if self.own_stop - self.own_start == self.stop - self.start:
            return values[self.start : self.stop]
        kept = np.full(self.stop - self.start, nothing, dtype=np.int64)
        kept[self.own_start - self.start : self.own_stop - self.start] = values[self.own_start : self.own_stop]
        return kept


def windows_of(num_subwords: int, room: int, stride: int) -> list[Window]:
    """Return the windows of a sentence: `room` subwords each, neighbours share `stride`, the last one ends at the end.

    Each subword counts in one window, the one where it stands furthest from an inner border: windows_of(5, 4, 2) is
    [Window(0, 4, 0, 2), Window(1, 5, 2, 5)], and a sentence of no subwords has one empty window.
    """
    if num_subwords <= room:
        return [Window(0, num_subwords, 0, num_subwords)]
    starts = [*range(0, num_subwords - room, room - stride), num_subwords - room]
    # Neighbours overlap from the later one's start to the earlier one's stop; the middle of that parts them.
    borders = [0, *((later + earlier + room) // 2 for earlier, later in itertools.pairwise(starts)), num_subwords]
    return [Window(s, s + room, borders[i], borders[i + 1]) for i, s in enumerate(starts)]


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a sentence, as it does around one word."""
    mask = tokenizer(["a"], is_split_into_words=True, return_special_tokens_mask=True)
    ids, special = mask["input_ids"], mask["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]


def join_scores(features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Return the scores of every token, (tokens, labels) an example: of the subword that decides it, else zeros."""
    joined: dict[int, np.ndarray] = {}
    whole: dict[int, np.ndarray] = {}  # by atom: the tokens of its examples end to end
    for feature, s in zip(features, scores, strict=True):
        if feature.atom not in whole:
            whole[feature.atom] = np.zeros((sum(feature.num_tokens), s.shape[1]), dtype=s.dtype)
            ends = np.cumsum(feature.num_tokens)[:-1]
            joined.update(zip(feature.examples, np.split(whole[feature.atom], ends), strict=True))
        decides = feature.tokens >= 0
        whole[feature.atom][feature.tokens[decides]] = s[decides]
    return joined
