"""The best label of each token by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.tags import Scheme


class Argmax:
    """The best label of each token by itself, legal or not; of equals, the one with the lowest id."""

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Take what every decoding is given; neither has a say here."""

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        return [s.argmax(axis=1) for s in scores]
