"""Functions that the alignments share: find special tokens, cut windows of long sentences, join scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nerloop.types import IGNORE, Feature, Tokenizer


class Window(NamedTuple):
    """Subwords `start` to `stop` of a sentence.

    Of these, `own_start` to `own_stop` are trained on and decided here; the rest is context and counts in another
    window. The own parts of a sentence's windows cover it without gaps or overlaps.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    def own(self, values: np.ndarray, nothing: int) -> np.ndarray:
        """Return the values of this window's subwords, with `nothing` for those that another window owns."""
        if self.own_stop - self.own_start == self.stop - self.start:
            return values[self.start : self.stop]
        masked = np.full(self.stop - self.start, nothing, dtype=np.int64)
        masked[self.own_start - self.start : self.own_stop - self.start] = values[self.own_start : self.own_stop]
        return masked


def windows_of(num_subwords: int, room: int, stride: int) -> list[Window]:
    """Return the windows of a sentence: `room` subwords each; neighbours share `stride`, the last two maybe more.

    Each subword is owned by one window: the one with most context around it. A sentence without subwords has one empty
    window. windows_of(5, 4, 2) -> [Window(0, 4, 0, 2), Window(1, 5, 2, 5)]
    """
    if num_subwords <= room:
        return [Window(0, num_subwords, 0, num_subwords)]
    # The last window ends with the sentence, so all windows are full and none has little context.
    starts = [*range(0, num_subwords - room, room - stride), num_subwords - room]
    # Neighbours overlap from the later one's start to the earlier one's stop (earlier + room). The border between their
    # own parts is the middle of the overlap: both sides of it are then equally far from the end of their window.
    borders = [0, *((later + earlier + room) // 2 for earlier, later in itertools.pairwise(starts)), num_subwords]
    return [Window(s, s + room, borders[i], borders[i + 1]) for i, s in enumerate(starts)]


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a sentence, found by tokenising one word."""
    mask = tokenizer(["a"], is_split_into_words=True, return_special_tokens_mask=True)
    ids, special = mask["input_ids"], mask["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]


def join_scores(features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Return the scores of every token by index of the example: (tokens, labels) each.

    A token gets the scores of the subword that decides it, or zeros if none does.
    """
    joined: dict[int, np.ndarray] = {}
    whole: dict[int, np.ndarray] = {}  # by atom: scores of the tokens of all its examples, in one array
    for feature, s in zip(features, scores, strict=True):
        if feature.atom not in whole:
            whole[feature.atom] = np.zeros((sum(feature.num_tokens), s.shape[1]), dtype=s.dtype)
            ends = np.cumsum(feature.num_tokens)[:-1]
            # np.split returns views: filling the atom's array below also fills the arrays of its examples.
            joined.update(zip(feature.examples, np.split(whole[feature.atom], ends), strict=True))
        decides = feature.tokens >= 0
        whole[feature.atom][feature.tokens[decides]] = s[decides]
    return joined


def spread_probabilities(
    features: Sequence[Feature], probabilities: Mapping[int, np.ndarray], continuation: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the probabilities of the labels of subwords, (subwords, labels) a feature, given those of tokens.

    Each labelled subword gets those of its token. A subword that decides no token belongs to the token before it; its
    label is `continuation[label of the token]`. Subwords without a label get zeros.
    """
    spread: list[np.ndarray] = []
    atom, last, of_tokens = None, -1, np.zeros((0, 0))
    for feature in features:
        if feature.atom != atom:
            atom, last = feature.atom, -1
            of_tokens = np.concatenate([probabilities[i] for i in feature.examples])
        # A window may begin within a token; the window before it then has the subword that decides the token.
        tokens = np.maximum.accumulate(np.concatenate([[last], feature.tokens]))[1:]
        last = int(tokens[-1])
        rows = np.zeros((len(feature), of_tokens.shape[1]), dtype=of_tokens.dtype)
        has_label = feature.labels != IGNORE
        rows[has_label] = of_tokens[tokens[has_label]]
        if continuation is not None:
            further = has_label & (feature.tokens < 0)
            rows[further] = rows[further] @ np.eye(len(continuation), dtype=rows.dtype)[continuation]
        spread.append(rows)
    return spread
