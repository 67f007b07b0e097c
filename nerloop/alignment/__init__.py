"""Plugins between tokens and subwords: examples are split into features, their scores joined into scores of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from nerloop.types import Example, Feature


class Alignment(Protocol):
    """An alignment is built as `cls(tokenizer, labels, **options)`: a fast tokenizer, and the label names by id.

    Optional attributes: `needs_documents`, true where `split` looks across sentences; `labels_every_subword`, false
    where only a token's first subword carries a label; `fingerprint`, a string of the class itself that changes
    whenever the features would, which lets them be cached.
    """

    def split(self, examples: Sequence[Example]) -> Iterable[Feature]:
        """Return the features of examples, those of an atom side by side; labels are IGNORE where there are no tags.

        It is called with some thousand consecutive examples at a time, with whole documents where `needs_documents`.
        Atoms and examples are numbered from 0 in each call.
        """
        ...

    def join(self, features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the scores of every token, (tokens, labels) an example, by the example's index.

        `scores` are log-probabilities, (subwords, labels) a feature; the features are whole atoms, in any order.
        A token that no subword speaks for gets a row of equal scores.
        """
        ...
