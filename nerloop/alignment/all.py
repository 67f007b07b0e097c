"""Label every subword; the first still decides for the token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.alignment.first import First
from nerloop.types import IGNORE, Tokenizer


class All(First):
    """Every subword carries the label of its token, behind the first one as a continuation: B-PER, then I-PER.

    The first subword decides for the token. The others are trained so that tools that look at them (transformers'
    `pipeline`) find sense there. A tag whose continuation is no label of the data continues as itself.
    """

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
            max_length: subwords of a window, special tokens included (none: the model's limit, at most 512)
            stride: subwords that two neighbouring windows of a long sentence share (none: a quarter of a window)
        """
        super().__init__(tokenizer, labels, max_length=max_length, stride=stride)
        # Only B- goes on as I-: an S- or E- must not open or leave open what its first subword says is closed.
        self._continuation = np.array(
            [
                self.label_ids.get(f"I-{label[2:]}" if label.startswith("B-") else label, i)
                for i, label in enumerate(labels)
            ],
            dtype=np.int64,
        )

    def _label(self, tags: Sequence[str], token_of: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        if not tags:
            return np.full(len(token_of), IGNORE, dtype=np.int64)
        of_token = np.array([self.label_ids[tag] for tag in tags], dtype=np.int64)[token_of]
        labels: np.ndarray = np.where(is_first, of_token, self._continuation[of_token])
        return labels
