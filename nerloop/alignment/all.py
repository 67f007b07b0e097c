"""Label every subword; the first subword still decides the token's tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from nerloop.alignment.first import First
from nerloop.alignment.windows import spread_probabilities
from nerloop.types import IGNORE, Feature


class All(First):
    """Every subword carries the label of its token; after the first one B- becomes I-: B-PER, I-PER, I-PER.

    The first subword decides the token's tag. The others are trained for tools that read every subword, such as
    transformers' `pipeline`. If the data has no I- label of that type, the label is repeated instead.
    """

    labels_every_subword = True
    fingerprint = ""

    def spread(self, features: Sequence[Feature], probabilities: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Return the label probabilities of subwords. After the first one of a token, those of B- count for I-."""
        return spread_probabilities(features, probabilities, self._continuation)

    def _label(self, tags: Sequence[str], token_of: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        if not tags:
            return np.full(len(token_of), IGNORE, dtype=np.int64)
        of_token = np.array([self.label_ids[tag] for tag in tags], dtype=np.int64)[token_of]
        labels: np.ndarray = np.where(is_first, of_token, self._continuation[of_token])
        return labels

    @cached_property
    def _continuation(self) -> np.ndarray:
        """The label of further subwords, by label of the first one; (labels,)."""
        # Only B- changes, to I-. After S- or E- the span is closed, so an I- would open it again.
        continuations = (f"I-{label[2:]}" if label.startswith("B-") else label for label in self.label_ids)
        return np.array([self.label_ids.get(name, i) for i, name in enumerate(continuations)], dtype=np.int64)
