"""Put neighbouring sentences of a document into one window, so that the model sees each with its context."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from nerloop.alignment.all import All
from nerloop.alignment.first import First
from nerloop.alignment.windows import special_tokens
from nerloop.errors import ConfigError, shorten
from nerloop.types import Example, Feature, Tokenizer

LABELLED = {"all": All, "first": First}
WINDOW = 256
"""Default number of subwords of a window; README.md in this folder shows the measurements."""


class Document:
    """Consecutive sentences of a document fill a window of at most `max_length` subwords; windows don't overlap.

    Each sentence is labelled and decided once, as by `all` or `first`, and has the same subwords as there. Only special
    tokens are fewer: one pair a window. A sentence longer than a window is cut into windows of its own, and a sentence
    without a known document gets a window of its own. Their features are exactly those of `all` or `first`.
    """

    needs_documents = True
    fingerprint = ""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        label_subwords: Literal["all", "first"] = "all",
        max_length: int | None = None,
        stride: int | None = None,
    ) -> None:
        """Check the options against the model's limit.

        Args:
            tokenizer: a fast tokenizer
            labels: the label names by id
            label_subwords: which subwords carry a token's label, as the alignment of that name does
            max_length: subwords of a window, special tokens included (default: the model's limit, at most 256)
            stride: subwords that two neighbouring windows of a long sentence share (default: a quarter of a window)
        """
        if label_subwords not in LABELLED:
            raise ConfigError(
                f"alignment.label_subwords: found {shorten(label_subwords)}, expected {' or '.join(LABELLED)}"
            )
        if max_length is None:
            max_length = min(WINDOW, tokenizer.model_max_length)
        self._sentences = LABELLED[label_subwords](tokenizer, labels, max_length=max_length, stride=stride)
        self.max_length = self._sentences.max_length
        self.labels_every_subword = self._sentences.labels_every_subword
        before, after = special_tokens(tokenizer)
        self._num_before, self._num_after = len(before), len(after)

    def split(self, examples: Sequence[Example]) -> Iterator[Feature]:
        """Yield the features of examples: one a window of several sentences, or several for a long sentence."""
        return map(self._join, self._windows(examples))

    def join(self, features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the scores of every token by index of the example: (tokens, labels) each."""
        return self._sentences.join(features, scores)

    def spread(self, features: Sequence[Feature], probabilities: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of the labels of subwords, (subwords, labels) a feature, given those of tokens."""
        return self._sentences.spread(features, probabilities)

    def _windows(self, examples: Sequence[Example]) -> Iterator[list[Feature]]:
        """Yield the features to join for each window; only one window is held in memory at a time."""
        window: list[Feature] = []
        length, document = 0, ""
        sentences = itertools.groupby(self._sentences.split(examples), key=lambda f: f.atom)
        for example, (_, group) in zip(examples, sentences, strict=True):
            first, *further = group  # a long sentence has several features and shares no window with other sentences
            added = len(first) - self._num_before - self._num_after
            is_next = bool(example.document) and example.document == document and not further
            if is_next and window and length + added <= self.max_length:
                window.append(first)
                length += added
                continue
            if window:
                yield window
            window, length, document = [first], len(first), example.document
            if further:
                yield window
                yield from ([part] for part in further)
                window = []
        if window:
            yield window

    def _join(self, window: list[Feature]) -> Feature:
        """Return one feature for the sentences of a window, with a single pair of special tokens around all of them."""
        if len(window) == 1:
            return window[0]
        num_tokens = tuple(itertools.chain.from_iterable(f.num_tokens for f in window))
        # Tokens are numbered through the atom, so each sentence's numbers are shifted by the tokens before it.
        shifts = itertools.accumulate(num_tokens[:-1], initial=0)
        tokens = [np.where(f.tokens >= 0, f.tokens + shift, -1) for f, shift in zip(window, shifts, strict=True)]
        return replace(
            window[0],
            input_ids=self._end_to_end([f.input_ids for f in window]),
            labels=self._end_to_end([f.labels for f in window]),
            tokens=self._end_to_end(tokens),
            examples=tuple(itertools.chain.from_iterable(f.examples for f in window)),
            num_tokens=num_tokens,
        )

    def _end_to_end(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate values of sentences, dropping the special tokens between two sentences."""
        last = len(values) - 1
        return np.concatenate(
            [v[self._num_before * (i > 0) : len(v) - self._num_after * (i < last)] for i, v in enumerate(values)]
        )


def describe_lone_sentences(num_alone: int, num_sentences: int, name: str) -> str:
    """Return a line that says how many sentences of `name` have no known document, or "" if all have one."""
    if not num_alone:
        return ""
    if num_alone == num_sentences:
        return (
            f"no documents are known in {name}, so each sentence gets a window of its own: documents come with "
            "-DOCSTART- lines or document ids"
        )
    return (
        f"{num_alone} of {num_sentences} sentences of {name} belong to no known document and get windows of their own"
    )
