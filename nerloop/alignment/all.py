"""Label every subword; the first still decides for the token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nerloop.alignment.first import First
from nerloop.types import IGNORE


class All(First):
    """Every subword carries the label of its token, behind the first one as a continuation: B-PER, then I-PER.

    The first subword decides for the token. The others are trained so that tools that look at them (transformers'
    `pipeline`) find sense there. A tag whose continuation is no label of the data continues as itself.
    """

    labels_every_subword = True
    fingerprint = ""

    def _label(self, tags: Sequence[str], token_of: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        if not tags:
            return np.full(len(token_of), IGNORE, dtype=np.int64)
        of_token = np.array([self.label_ids[tag] for tag in tags], dtype=np.int64)[token_of]
        labels: np.ndarray = np.where(is_first, of_token, self._continuation[of_token])
        return labels

    @cached_property
    def _continuation(self) -> np.ndarray:
        """The label that each label goes on as, (labels,)."""
        # Only B- goes on as I-: an S- or E- must not open or leave open what its first subword says is closed.
        goes_on_as = (f"I-{label[2:]}" if label.startswith("B-") else label for label in self.label_ids)
        return np.array([self.label_ids.get(name, i) for i, name in enumerate(goes_on_as)], dtype=np.int64)
