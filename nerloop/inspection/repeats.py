"""Findings about repeated sentences: within a split, in two splits, and with different tags."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from nerloop.errors import shorten
from nerloop.inspection.finding import Detail, Finding, Severity, count_of, name_of, percent
from nerloop.inspection.parts import Part, by_split, excerpt
from nerloop.inspection.statistics import NUM_PLACES, Place

LONG_ENOUGH = 5
"""Sentences of at least this many tokens hardly repeat by chance; short ones, such as "LONDON 1996-08-30", do."""


def about_repeats(parts: Sequence[Part]) -> Iterator[Finding]:
    """Yield the findings about sentences that occur more than once. Empty sentences are ignored."""
    splits = {split: _Sentences(of_split) for split, of_split in by_split(parts).items()}
    for earlier, later in itertools.combinations(splits, 2):
        yield from _leaks(earlier, splits[earlier], later, splits[later])
    yield from _contradictions(_Sentences(parts))
    for split, sentences in splits.items():
        yield from _duplicates(split, sentences)


class _Sentences:
    """The hashes of the sentences of several parts, which are numbered consecutively."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.statistics.num_sentences for part in parts)])
        self.lengths = np.concatenate([part.statistics.lengths for part in parts])
        self.tokens = np.concatenate([part.statistics.token_hashes for part in parts])
        self.tags = np.concatenate([part.statistics.tag_hashes for part in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, index: int) -> tuple[Part, int]:
        """Return the part of a sentence and its number there."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part], int(index - self._starts[part])

    def where(self, index: int) -> str:
        """Return file:line of a sentence."""
        part, sentence = self.at(index)
        return part.sentence(Place(sentence, 0))

    def excerpt(self, index: int) -> str:
        """Return the beginning of a sentence."""
        part, sentence = self.at(index)
        return excerpt(part.examples[sentence].tokens)


def _leaks(earlier: str, known: _Sentences, later: str, sentences: _Sentences) -> Iterator[Finding]:
    # A twin of a sentence is the first sentence of the other split with the same tokens.
    leaked = np.flatnonzero(np.isin(sentences.tokens, known.tokens) & (sentences.lengths > 0))
    if not len(leaked):
        return
    first_of, hashes = _first_of(known.tokens)
    twins = first_of[np.searchsorted(hashes, sentences.tokens[leaked])]
    details = [
        Detail(sentences.where(i), f"{sentences.excerpt(i)} (also {known.where(twin)})")
        for i, twin in _long_ones_first(leaked, twins, sentences.lengths)
    ]
    num_long = int((sentences.lengths[leaked] >= LONG_ENOUGH).sum())
    yield Finding(
        Severity.WARNING if num_long else Severity.INFO,
        "leak",
        details[0].where,
        f"{count_of(len(leaked), 'sentence')} of the {name_of(later)} ({percent(len(leaked), len(sentences))}) "
        f"{'is' if len(leaked) == 1 else 'are'} in the {name_of(earlier)} too, "
        f"{num_long:,} of at least {LONG_ENOUGH} tokens",
        f"trains and scores as the files say, so F1 on the {name_of(later)} is higher than on text nobody has seen",
        len(leaked),
        tuple(details),
    )


def _duplicates(split: str, sentences: _Sentences) -> Iterator[Finding]:
    _, first, inverse = np.unique(sentences.tokens, return_index=True, return_inverse=True)
    first_of = first[inverse]
    again = np.flatnonzero((first_of != np.arange(len(sentences))) & (sentences.lengths > 0))
    if not len(again):
        return
    details = [
        Detail(sentences.where(i), f"{sentences.excerpt(i)} (also {sentences.where(twin)})")
        for i, twin in _long_ones_first(again, first_of[again], sentences.lengths)
    ]
    num_long = int((sentences.lengths[again] >= LONG_ENOUGH).sum())
    yield Finding(
        Severity.INFO,
        "duplicate",
        details[0].where,
        f"{count_of(len(again), 'sentence')} of the {name_of(split)} ({percent(len(again), len(sentences))}) "
        f"{'repeats an earlier one' if len(again) == 1 else 'repeat earlier ones'}, "
        f"{num_long:,} of at least {LONG_ENOUGH} tokens",
        f"{'trains on' if split == 'train' else 'scores'} each as often as it occurs",
        len(again),
        tuple(details),
    )


def _contradictions(sentences: _Sentences) -> Iterator[Finding]:
    # Sorted by tokens, then by tags: neighbours with the same tokens and different tags contradict each other.
    order = np.lexsort((sentences.tags, sentences.tokens))
    tokens, tags = sentences.tokens[order], sentences.tags[order]
    differs = (tokens[1:] == tokens[:-1]) & (tags[1:] != tags[:-1])
    pairs = np.sort(np.stack([order[:-1][differs], order[1:][differs]], axis=1), axis=1)  # (contradictions, 2)
    if not len(pairs):
        return
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    details = [_difference(sentences, *pair) for pair in pairs[:NUM_PLACES].tolist()]
    number = len(np.unique(sentences.tokens[pairs[:, 0]]))
    yield Finding(
        Severity.WARNING, "contradiction", details[0].where,
        f"{count_of(number, 'sentence')} {'occurs' if number == 1 else 'occur'} with different tags",
        "trains and scores as tagged; no model can be right about both",
        number, tuple(details),
    )  # fmt: skip


def _difference(sentences: _Sentences, first: int, second: int) -> Detail:
    """Return the first token whose tags differ, of two sentences with the same tokens."""
    (part, i), (other, j) = sentences.at(second), sentences.at(first)
    here, there = part.examples[i], other.examples[j]
    token = next(t for t, tags in enumerate(zip(here.tags, there.tags, strict=True)) if len(set(tags)) == 2)
    return Detail(
        part.where(Place(i, token)),
        f"{shorten(here.tokens[token], 40)} is {here.tags[token]}, but {there.tags[token]} at "
        f"{other.where(Place(j, token))}: {excerpt(here.tokens)}",
    )


def _first_of(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first index of each distinct hash, and the distinct hashes in ascending order."""
    distinct, first = np.unique(hashes, return_index=True)
    return first, distinct


def _long_ones_first(indices: np.ndarray, twins: np.ndarray, lengths: np.ndarray) -> list[tuple[int, int]]:
    """Return the first few sentences, each with its twin: long sentences first, otherwise in order."""
    order = np.argsort(lengths[indices] < LONG_ENOUGH, kind="stable")[:NUM_PLACES]
    return list(zip(indices[order].tolist(), twins[order].tolist(), strict=True))
