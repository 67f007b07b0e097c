"""Plugins that turn token scores into labels: Viterbi over legal transitions, or argmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Decoding(Protocol):
    """A decoding is built as `cls(labels, scheme, **options)`: the label names by id, and the scheme of the data.

    These methods are optional:

    `learn(values)`: gets the arrays that the objective has learned, by name (`Objective.learned`), before each
        evaluation and when a saved model is loaded.
    `span_probabilities(scores, spans, temperature)`: the confidences of spans, (spans,) a sentence. Without it the
        confidence of a span is the mean probability of the tags of its tokens.
    `sequence_logs(scores, paths, temperature)`: the log-probabilities of label sequences, (sentences,). Without it no
        temperature is fitted.
    `bias(values)`: adds to the scores of kinds of transitions (`nerloop.decoding.viterbi.BIASES`) from now on. Without
        it there are no operating points.
    """

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return label ids, (tokens,) a sentence, from log-probabilities, (tokens, labels) a sentence."""
        ...
