"""The best label of each token by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.tags import Scheme


class Argmax:
    """The best label of each token by itself, legal or not. Of equal scores, the lowest id wins."""

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Accept the arguments of every decoding; both are ignored."""

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        return [s.argmax(axis=1) for s in scores]
