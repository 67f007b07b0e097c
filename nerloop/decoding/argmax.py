"""The best label of each token by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.decoding.lattice import Lattice, LatticeProbabilities
from nerloop.tags import Scheme


class Argmax(LatticeProbabilities):
    """The best label of each token by itself, legal or not. Of equal scores, the lowest id wins."""

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Set the label names by id. The scheme is ignored, so the lattice has all label sequences, legal or not."""
        self._lattice = Lattice(labels, np.zeros((len(labels),) * 2), np.zeros(len(labels)), np.zeros(len(labels)))

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        return [s.argmax(axis=1) for s in scores]
