"""The best label of each token by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerloop.decoding.lattice import Lattice
from nerloop.tags import Scheme
from nerloop.types import Span


class Argmax:
    """The best label of each token by itself, legal or not. Of equal scores, the lowest id wins."""

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Set the label names by id; the scheme is ignored."""
        self._lattice = Lattice(labels, np.zeros((len(labels),) * 2), np.zeros(len(labels)), np.zeros(len(labels)))

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        return [s.argmax(axis=1) for s in scores]

    def span_probabilities(
        self, scores: Sequence[np.ndarray], spans: Sequence[Sequence[Span]], temperature: float = 1.0
    ) -> list[np.ndarray]:
        """Return the probabilities of spans where each token has its label by itself, legal after the last or not.

        See `Lattice.span_probabilities`.
        """
        return self._lattice.span_probabilities(scores, spans, temperature)

    def sequence_logs(
        self, scores: Sequence[np.ndarray], paths: Sequence[np.ndarray], temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities of label sequences, legal or not; see `Lattice.sequence_logs`."""
        return self._lattice.sequence_logs(scores, paths, temperature)
