"""The best legal label sequence of each sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nerloop.decoding.lattice import Lattice, LatticeProbabilities, in_buckets
from nerloop.errors import PluginError
from nerloop.tags import OUTSIDE, Scheme, is_legal, split_tag

BIASES = (
    "background_stay", "background_to_start", "end_to_background", "end_to_start", "inside_to_continue", "inside_to_end"
)  # fmt: skip
"""Kinds of transitions. The border of a sentence counts as background, as "O" does. Names: openai/privacy-filter."""


class Viterbi(LatticeProbabilities):
    """The best legal label sequence of each sentence. Legal transitions score 0 unless the objective learned scores.

    Of equally good sequences, the one with the lowest id at the last token wins, then at the token before, and so on.
    Source: Viterbi, Error bounds for convolutional codes (1967). Hard constraints on tag transitions have been common
    since Lample et al. (2016).
    """

    def __init__(self, labels: Sequence[str], scheme: Scheme) -> None:
        """Set the legal transitions. `labels` are the names by id, with "O"; `scheme` says which may follow which."""
        parts = [split_tag(label) for label in labels]
        border = (OUTSIDE, "")
        transitions = _penalties([[is_legal(before, after, scheme) for after in parts] for before in parts])
        start = _penalties([is_legal(border, part, scheme) for part in parts])
        end = _penalties([is_legal(part, border, scheme) for part in parts])
        self._labels = tuple(labels)
        self._legal = transitions, start, end
        self._lattice = Lattice(labels, *self._legal)
        self._biases = tuple(np.zeros(legal.shape) for legal in self._legal)

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
        self._lattice = Lattice(self._labels, *learned)

    def bias(self, values: Mapping[str, float]) -> None:
        """Add to the scores of transitions, by kind (see BIASES); kinds that are not named get 0.

        A positive "background_to_start" finds more spans, a negative one fewer. Biases decide which labels `decode`
        chooses. Probabilities stay those of the model, without them.
        """
        prefixes = [split_tag(label)[0] for label in self._labels]
        kinds = {name: float(values.get(name, 0.0)) for name in BIASES}
        outside, starts = self._lattice.is_outside, self._lattice.starts
        ends = np.array([prefix == "E" for prefix in prefixes])
        inside = np.where(ends, kinds["inside_to_end"], kinds["inside_to_continue"])
        after_background = np.where(outside, kinds["background_stay"], kinds["background_to_start"])
        after_span = np.where(outside, kinds["end_to_background"], np.where(starts, kinds["end_to_start"], inside))
        transitions = np.where(outside[:, None], after_background, after_span)
        before_border = np.where(outside, kinds["background_stay"], kinds["end_to_background"])
        self._biases = transitions, after_background, before_border

    def decode(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the label ids, (tokens,) a sentence."""
        decoded = [np.empty(0, dtype=np.int64)] * len(scores)
        for bucket, emissions, lengths in in_buckets(scores):
            tags = self._decode_bucket(emissions, lengths)
            for row, i in enumerate(bucket):
                decoded[i] = tags[: lengths[row], row]
        return decoded

    def _decode_bucket(self, emissions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the label ids, (tokens, sentences), of some sentences, longest first."""
        of_lattice = self._lattice.transitions, self._lattice.start, self._lattice.end
        transitions, start, end = (a + b for a, b in zip(of_lattice, self._biases, strict=True))
        # best: (sentences, labels) score of the best path that ends in each label at the current token. came_from: the
        # label before, on that path. Sentences that have ended are not updated any more.
        best = emissions[0] + start
        came_from = np.zeros(emissions.shape, dtype=np.int32)
        for t in range(1, int(lengths[0])):
            running = int((lengths > t).sum())
            paths = best[:running, :, None] + transitions  # (sentences, label before, label)
            came_from[t, :running] = paths.argmax(axis=1)
            best[:running] = paths.max(axis=1) + emissions[t, :running]
        # Follow the best paths back. A sentence joins at its own last token, with its best final label.
        labels = (best + end).argmax(axis=1)
        tags = np.empty(came_from.shape[:2], dtype=np.int64)
        for t in range(int(lengths[0]) - 1, -1, -1):
            running = int((lengths > t).sum())
            tags[t, :running] = labels[:running]
            labels[:running] = came_from[t, np.arange(running), labels[:running]]
        return tags


def _penalties(legal: list[bool] | list[list[bool]]) -> np.ndarray:
    """Return 0 for legal, minus infinity for illegal; sums with learned scores stay minus infinity."""
    return np.where(np.array(legal), 0.0, -np.inf)
