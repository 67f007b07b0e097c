"""Tokens to subwords: tokenise each distinct token once, then assemble the sentences from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nerloop.types import Tokenizer

CHUNK = 1_000
"""Sentences tokenised in one call: enough to keep the tokenizer's threads busy, few enough to save memory."""
TOGETHER = 50
"""Distinct tokens passed to the tokenizer as one sentence, since one call per token would be slow."""
TRICKY = (("New", "York", "'s", "", "the", "a", "."), ("é", "\u200e", "x" * 120, "don't", "U.S.", "%"))
"""Sentences that show whether a tokenizer looks across tokens: empty, invisible, long and punctuated ones."""


def subwords_of(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids and token indices, both (subwords,) int64, of each sentence, without special tokens or truncation.

    Most tokenizers split each token by itself, so a token has the same subwords in every sentence and needs to be
    tokenised only once. If a test shows that a tokenizer looks across tokens, it gets whole sentences instead.
    """
    chunks = (sentences[start : start + CHUNK] for start in range(0, len(sentences), CHUNK))
    if is_token_by_token(tokenizer, sentences[:TOGETHER]):
        vocabulary = _Vocabulary(tokenizer)
        return itertools.chain.from_iterable(map(vocabulary.subwords_of, chunks))
    return itertools.chain.from_iterable(encode(tokenizer, chunk) for chunk in chunks)


def is_token_by_token(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> bool:
    """Return whether these and some tricky sentences have the same subwords tokenised whole as token by token."""
    tested = [*TRICKY, *sentences]
    direct = encode(tokenizer, tested)
    assembled = _Vocabulary(tokenizer).subwords_of(tested)
    return all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in zip(direct, assembled, strict=True))


def encode(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids and token indices of each sentence, tokenised whole."""
    if not sentences:
        return
    encoded = tokenizer(
        [list(tokens) for tokens in sentences],
        is_split_into_words=True,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no warning about long input: it is cut into windows
    )
    for i, ids in enumerate(encoded["input_ids"]):
        yield np.array(ids, dtype=np.int64), np.array(encoded.word_ids(i), dtype=np.int64)


class _Vocabulary:
    """The subwords of every distinct token seen so far, in one array."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._number: dict[str, int] = {}  # index of each token into the arrays below
        self._ids = np.zeros(0, dtype=np.int64)
        self._starts = np.zeros(0, dtype=np.int64)  # (tokens,) index of a token's first id
        self._counts = np.zeros(0, dtype=np.int64)  # (tokens,) number of a token's ids

    def subwords_of(self, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ids and token indices of each sentence."""
        known, number = len(self._number), self._number
        tokens = [number.setdefault(token, len(number)) for tokens in sentences for token in tokens]
        self._learn(itertools.islice(number, known, None))
        counts = self._counts[tokens]  # (tokens of the chunk,)
        starts = np.cumsum(counts) - counts
        # The ids of token t are self._ids[self._starts[t] + 0, 1, ...], so one gather serves the whole chunk.
        within = np.arange(counts.sum()) - np.repeat(starts, counts)
        ids = self._ids[np.repeat(self._starts[tokens], counts) + within]
        # Number the tokens within their sentences, and repeat each number for each of the token's subwords.
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        firsts = np.cumsum(lengths) - lengths
        token_of = np.repeat(np.arange(len(tokens)) - np.repeat(firsts, lengths), counts)
        ends = np.concatenate([[0], np.cumsum(counts)])[np.concatenate([firsts, [len(tokens)]])]
        for start, stop in itertools.pairwise(ends.tolist()):
            yield ids[start:stop], token_of[start:stop]

    def _learn(self, tokens: Iterable[str]) -> None:
        """Add the subwords of new tokens."""
        batches = list(_batched(tokens))
        encoded = list(encode(self._tokenizer, batches))
        if not encoded:
            return
        # minlength: a token without subwords counts 0, also at the end of a batch
        counts = [np.bincount(of, minlength=len(batch)) for (_, of), batch in zip(encoded, batches, strict=True)]
        self._counts = np.concatenate([self._counts, *counts])
        self._starts = np.cumsum(self._counts) - self._counts
        self._ids = np.concatenate([self._ids, *(ids for ids, _ in encoded)])


def _batched(tokens: Iterable[str]) -> Iterator[tuple[str, ...]]:
    iterator = iter(tokens)
    while batch := tuple(itertools.islice(iterator, TOGETHER)):
        yield batch
