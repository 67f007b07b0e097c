"""Label only the first subword of each token; it decides the token's tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nerloop.alignment.subwords import subwords_of
from nerloop.alignment.windows import join_scores, special_tokens, spread_probabilities, windows_of
from nerloop.errors import ConfigError
from nerloop.types import IGNORE, Example, Feature, Tokenizer

MAX_LENGTH = 512
"""Default number of subwords of a window. The cost of attention grows with its square."""


class First:
    """The first subword of a token carries its label and decides its tag; the others carry no label.

    A sentence of more than `max_length` subwords is cut into windows that share `stride` subwords. In training and in
    prediction each subword counts in one window only: the one that shows most context around it.
    """

    labels_every_subword = False
    fingerprint = ""  # empty: the cache key already covers the code of built-in alignments

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        max_length: int | None = None,
        stride: int | None = None,
    ) -> None:
        """Check the options against the model's limit.

        Args:
            tokenizer: a fast tokenizer
            labels: the label names by id
            max_length: subwords of a window, special tokens included (default: the model's limit, at most 512)
            stride: subwords that two neighbouring windows of a long sentence share (default: a quarter of a window)
        """
        self.tokenizer = tokenizer
        self.label_ids = {label: i for i, label in enumerate(labels)}
        self._before, self._after = (np.array(ids, dtype=np.int64) for ids in special_tokens(tokenizer))
        num_special = len(self._before) + len(self._after)
        limit = tokenizer.model_max_length
        self.max_length = min(MAX_LENGTH, limit) if max_length is None else max_length
        if not num_special < self.max_length <= limit:
            raise ConfigError(
                f"alignment.max_length: found {self.max_length}, "
                f"expected more than {num_special} (special tokens) and at most {limit} (the model's limit)"
            )
        self._room = self.max_length - num_special
        self.stride = self._room // 4 if stride is None else stride
        if not 0 <= self.stride < self._room:
            raise ConfigError(
                f"alignment.stride: found {stride}, expected 0 to {self._room - 1}: a window of {self.max_length} "
                f"subwords holds {self._room} besides the special tokens"
            )

    def split(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the features of examples: one a sentence, or several windows of a long sentence."""
        features = []
        for i, (ids, token_of) in enumerate(subwords_of(self.tokenizer, [e.tokens for e in examples])):
            # A subword is the first of its token if the one before belongs to another token.
            is_first = np.ones(len(token_of), dtype=bool)
            np.not_equal(token_of[1:], token_of[:-1], out=is_first[1:])
            decides = np.where(is_first, token_of, -1)
            labels = self._label(examples[i].tags, token_of, is_first)
            for window in windows_of(len(ids), self._room, self.stride):
                features.append(
                    Feature(
                        input_ids=np.concatenate([self._before, ids[window.start : window.stop], self._after]),
                        labels=self._surround(window.own(labels, IGNORE), IGNORE),
                        tokens=self._surround(window.own(decides, -1), -1),
                        atom=i,
                        examples=(i,),
                        num_tokens=(len(examples[i].tokens),),
                    )
                )
        return features

    def join(self, features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the scores of every token by index of the example: (tokens, labels) each."""
        return join_scores(features, scores)

    def spread(self, features: Sequence[Feature], probabilities: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of the labels of subwords, (subwords, labels) a feature, given those of tokens."""
        return spread_probabilities(features, probabilities)

    def _label(self, tags: Sequence[str], token_of: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        """Return the labels of a sentence's subwords, (subwords,); `token_of` is the token index of each."""
        if not tags:
            return np.full(len(token_of), IGNORE, dtype=np.int64)
        of_token = np.array([self.label_ids[tag] for tag in tags], dtype=np.int64)
        return np.where(is_first, of_token[token_of], IGNORE)

    def _surround(self, values: np.ndarray, nothing: int) -> np.ndarray:
        """Return values with `nothing` in the places of the special tokens."""
        surrounded = np.full(len(self._before) + len(values) + len(self._after), nothing, dtype=np.int64)
        surrounded[len(self._before) : len(self._before) + len(values)] = values
        return surrounded
