"""The best legal label sequence of each sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nerloop.tags import OUTSIDE, Scheme, is_legal, split_tag

BUCKET = 256
"""Sentences decoded side by side: enough to make NumPy's cost a call vanish, few enough to stay in the cache."""


class Viterbi:
    """The best legal label sequence of each sentence; all legal transitions score 0 unless an objective learned others.

    Among equally good sequences, that with the lowest ids, the last token's id first. Source: Viterbi, Error bounds for
    convolutional codes (1967); as hard constraints on tag transitions, common since Lample et al. (2016).
    """

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Take the label names by id, "O" among them, and the scheme that says which may follow which."""
        parts = [split_tag(label) for label in labels]
        border = (OUTSIDE, "")
        self._transitions = _penalties([[is_legal(before, after, scheme) for after in parts] for before in parts])
        self._start = _penalties([is_legal(border, part, scheme) for part in parts])
        self._end = _penalties([is_legal(part, border, scheme) for part in parts])
        self._legal = self._transitions, self._start, self._end

    def learn(self, values: Mapping[str, np.ndarray]) -> None:
        """Add learned scores to the legal transitions; arrays of other names are ignored.

        Args:
            values: "transitions" is (labels, labels), from the row's label to the column's; "start" and "end" are
                (labels,). Illegal transitions stay impossible.
        """
        transitions, start, end = self._legal
        self._transitions = transitions + values.get("transitions", 0.0)
        self._start = start + values.get("start", 0.0)
        self._end = end + values.get("end", 0.0)

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        found = [np.empty(0, dtype=np.int64)] * len(scores)
        # Longest first: the sentences still running at a token are then the first rows.
        order = sorted((i for i in range(len(scores)) if len(scores[i])), key=lambda i: -len(scores[i]))
        for start in range(0, len(order), BUCKET):
            bucket = order[start : start + BUCKET]
            for i, path in zip(bucket, self._decode_bucket([scores[i] for i in bucket]), strict=True):
                found[i] = path
        return found

    def _decode_bucket(self, scores: list[np.ndarray]) -> list[np.ndarray]:
        lengths = np.array([len(s) for s in scores])
        num_labels = scores[0].shape[1]
        emissions = np.zeros((lengths[0], len(scores), num_labels))  # (tokens, sentences, labels)
        for row, s in enumerate(scores):
            emissions[: len(s), row] = s
        best = emissions[0] + self._start
        came_from = np.zeros(emissions.shape, dtype=np.int32)
        for t in range(1, int(lengths[0])):
            running = int((lengths > t).sum())
            paths = best[:running, :, None] + self._transitions  # (sentences, label before, label)
            came_from[t, :running] = paths.argmax(axis=1)
            best[:running] = paths.max(axis=1) + emissions[t, :running]
        labels = (best + self._end).argmax(axis=1)
        tags = np.empty(came_from.shape[:2], dtype=np.int64)
        for t in range(int(lengths[0]) - 1, -1, -1):
            running = int((lengths > t).sum())
            tags[t, :running] = labels[:running]
            labels[:running] = came_from[t, np.arange(running), labels[:running]]
        return [tags[: len(s), row] for row, s in enumerate(scores)]


def _penalties(legal: list[bool] | list[list[bool]]) -> np.ndarray:
    return np.where(np.array(legal), 0.0, -np.inf)
