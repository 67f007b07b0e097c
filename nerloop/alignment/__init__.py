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
    - `spread(features, probabilities)`: a method that an objective with teachers needs. It returns the label
      probabilities of each feature's subwords, (subwords, labels), given those of the tokens, (tokens, labels) by index
      of the example. So it does for probabilities what `split` does for tags: a tag with probability 1 gives each
      labelled subword probability 1 for its label; subwords without a label get zeros. The features are whole atoms,
      in order, and have labels.
    """

    def split(self, examples: Sequence[Example]) -> Iterable[Feature]:
        """Return the features of examples; the features of an atom are consecutive.

        An atom is a group of features that must be scored and trained on together, such as the windows of a long
        sentence. Labels are IGNORE if an example has no tags. Each call gets some thousand consecutive examples, and
        whole documents if `needs_documents` is true. Atoms and examples are numbered from 0 in each call.
        """
        ...

    def join(self, features: Sequence[Feature], scores: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the scores of every token by index of the example: (tokens, labels) each.

        `scores` are log-probabilities, (subwords, labels) a feature; the features are whole atoms, in any order.
        A token that no subword decides gets a row of equal scores.
        """
        ...
