"""Plugins that split examples into features (subwords), and join subword scores into token scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from nerloop.types import Example, Feature


class Alignment(Protocol):
    """An alignment is built as `cls(tokenizer, labels, **options)`: a fast tokenizer, and the label names by id.

    Optional attributes:
    - `needs_documents`: true if `split` looks across sentences
    - `labels_every_subword`: false if only the first subword of a token carries a label
    - `fingerprint`: a string, defined in the class itself, that changes whenever the features would; with it they are
      cached
    - `spread(features, probabilities)`: a method that an objective with teachers needs. It returns, for each feature,
      the probabilities of the labels of its subwords, (subwords, labels), given those of the tags of each token,
      (tokens, labels) by index of the example. It is `split` for tags that are only known by their probabilities: tags
      that are certain give each labelled subword its label, and every other subword a row of zeros. The features are
      whole atoms, in order, and have labels.
    """

    def split(self, examples: Sequence[Example]) -> Iterable[Feature]:
        """Return the features of examples; the features of an atom are consecutive.

        Labels are IGNORE if an example has no tags. Each call gets some thousand consecutive examples, and whole
        documents if `needs_documents` is true.
        Atoms and examples are numbered from 0 in each call.
        """
        ...

    def join(self, features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the scores of every token by index of the example: (tokens, labels) each.

        `scores` are log-probabilities, (subwords, labels) a feature; the features are whole atoms, in any order.
        A token that no subword decides gets a row of equal scores.
        """
        ...
