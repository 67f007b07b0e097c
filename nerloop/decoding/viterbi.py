"""The best legal label sequence of each sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nerloop.errors import PluginError
from nerloop.tags import OUTSIDE, Scheme, is_legal, split_tag

BUCKET = 256
"""Sentences decoded at once: enough to make NumPy's overhead a call small, few enough to stay in the CPU's cache."""


class Viterbi:
    """The best legal label sequence of each sentence. Legal transitions score 0 unless the objective learned scores.

    Of equally good sequences, the one with the lowest id at the last token wins, then at the token before, and so on.
    Source: Viterbi, Error bounds for convolutional codes (1967). Hard constraints on tag transitions have been common
    since Lample et al. (2016).
    """

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Set the legal transitions. `labels` are the names by id, with "O"; `scheme` says which may follow which."""
        parts = [split_tag(label) for label in labels]
        border = (OUTSIDE, "")
        self._transitions = _penalties([[is_legal(before, after, scheme) for after in parts] for before in parts])
        self._start = _penalties([is_legal(border, part, scheme) for part in parts])
        self._end = _penalties([is_legal(part, border, scheme) for part in parts])
        self._legal = self._transitions, self._start, self._end

    def learn(self, values: Mapping[str, np.ndarray]) -> None:
        """Add learned scores to the legal transitions. Arrays with other names are ignored.

        Args:
            values: "transitions" is (labels, labels), from the row's label to the column's; "start" and "end" are
                (labels,). Illegal transitions stay impossible.

        Raises:
            PluginError: an array has another shape or holds no finite numbers
        """
        learned = []
        for name, legal in zip(("transitions", "start", "end"), self._legal, strict=True):
            scores = values.get(name, np.zeros(legal.shape))
            if scores.shape != legal.shape or not np.isfinite(scores).all():
                what = f"shape {scores.shape}" if scores.shape != legal.shape else "numbers that are not finite"
                raise PluginError(f"decoding viterbi: learned {name}: found {what}, expected {legal.shape} scores")
            learned.append(legal + scores)
        self._transitions, self._start, self._end = learned

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        decoded = [np.empty(0, dtype=np.int64)] * len(scores)
        # Longest first: the sentences that have a token t are then the first rows of their bucket.
        order = sorted((i for i in range(len(scores)) if len(scores[i])), key=lambda i: -len(scores[i]))
        for start in range(0, len(order), BUCKET):
            bucket = order[start : start + BUCKET]
            for i, path in zip(bucket, self._decode_bucket([scores[i] for i in bucket]), strict=True):
                decoded[i] = path
        return decoded

    def _decode_bucket(self, scores: list[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids of some sentences, longest first."""
        lengths = np.array([len(s) for s in scores])
        num_labels = scores[0].shape[1]
        emissions = np.zeros((lengths[0], len(scores), num_labels))  # (tokens, sentences, labels)
        for row, s in enumerate(scores):
            emissions[: len(s), row] = s
        # best: (sentences, labels) score of the best path that ends in each label at the current token. came_from: the
        # label before, on that path. Sentences that have ended are not updated any more.
        best = emissions[0] + self._start
        came_from = np.zeros(emissions.shape, dtype=np.int32)
        for t in range(1, int(lengths[0])):
            running = int((lengths > t).sum())
            paths = best[:running, :, None] + self._transitions  # (sentences, label before, label)
            came_from[t, :running] = paths.argmax(axis=1)
            best[:running] = paths.max(axis=1) + emissions[t, :running]
        # Follow the best paths back. A sentence joins at its own last token, with its best final label.
        labels = (best + self._end).argmax(axis=1)
        tags = np.empty(came_from.shape[:2], dtype=np.int64)
        for t in range(int(lengths[0]) - 1, -1, -1):
            running = int((lengths > t).sum())
            tags[t, :running] = labels[:running]
            labels[:running] = came_from[t, np.arange(running), labels[:running]]
        return [tags[: len(s), row] for row, s in enumerate(scores)]


def _penalties(legal: list[bool] | list[list[bool]]) -> np.ndarray:
    """Return 0 for legal, minus infinity for illegal; sums with learned scores stay minus infinity."""
    return np.where(np.array(legal), 0.0, -np.inf)
