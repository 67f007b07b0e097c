"""Plugins that turn token scores into labels: Viterbi over legal transitions, or argmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Decoding(Protocol):
    """A decoding is built as `cls(labels, scheme, **options)`: the label names by id, and the scheme of the data.

    It may have a method `learn(values)`. Before each evaluation, and when a saved model is loaded, it gets the arrays
    that the objective has learned, by name (`Objective.learned`).
    """

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return label ids, (tokens,) a sentence, from log-probabilities, (tokens, labels) a sentence."""
        ...
