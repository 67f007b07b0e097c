"""Compute the probability of a span, or of a whole label sequence, over all label sequences of a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nerloop.tags import OUTSIDE, split_tag, starts_span
from nerloop.types import Span

BUCKET = 256
"""Sentences computed at once: enough to make NumPy's overhead per call small, few enough to stay in the CPU's cache."""
CELLS = 4_000_000
"""Most scores in a bucket, padding included. It bounds memory: a few float64 arrays of this size exist at once."""
TINY = 1e-290
"""Sums of weights below this may have lost a summand to underflow, so they are recomputed from logarithms."""


class Lattice:
    """The label sequences of a sentence. A sequence's probability is proportional to its exponentiated score.

    The score is the sum of the model's scores of the labels and of the scores of the transitions. Spans are read from
    a sequence as `nerloop.tags.to_spans` reads them, so only the transitions decide what is legal. All sums are in
    float64 and in logarithms. Source: the forward-backward algorithm (Rabiner, A tutorial on hidden Markov models,
    1989); constrained to a span as in Culotta and McCallum, Confidence estimation for information extraction (2004).
    """

    def __init__(self, labels: Sequence[str], transitions: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        """Set the labels by id, and the scores of transitions, minus infinity where there is none.

        Args:
            labels: the label names by id
            transitions: (labels, labels), from the row's label to the column's
            start: (labels,), of a sentence's first label
            end: (labels,), of its last
        """
        parts = [split_tag(label) for label in labels]
        self._types = np.array([type_ for _, type_ in parts], dtype=object)
        self.is_outside = np.array([prefix == OUTSIDE for prefix, _ in parts])
        self.starts = np.array([[starts_span(before, after) for after in parts] for before in parts])  # a span starts
        self.transitions, self.start, self.end = transitions, start, end

    def span_probabilities(
        self, scores: Sequence[np.ndarray], spans: Sequence[Sequence[Span]], temperature: float = 1.0
    ) -> list[np.ndarray]:
        """Return for each sentence the probabilities, (spans,), that exactly these spans are entities.

        Args:
            scores: (tokens, labels) for each sentence
            spans: the spans of each sentence
            temperature: divides all scores, those of transitions included
        """
        found = [np.ones(0)] * len(scores)
        with_spans = [i for i in range(len(scores)) if len(spans[i])]
        cooled = self._cooled(temperature)
        for bucket, emissions, lengths in in_buckets([scores[i] for i in with_spans]):
            of_bucket = [spans[with_spans[i]] for i in bucket]
            logs = cooled._span_logs(emissions / temperature, lengths, of_bucket)
            cuts = np.cumsum([len(s) for s in of_bucket])[:-1]
            for i, part in zip(bucket, np.split(np.exp(np.minimum(logs, 0.0)), cuts), strict=True):
                found[with_spans[i]] = part
        return found

    def sequence_logs(
        self, scores: Sequence[np.ndarray], paths: Sequence[np.ndarray], temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probability of a label sequence of each sentence, (sentences,): 0 for no tokens.

        `paths` are label ids, (tokens,) for each sentence. An impossible sequence gives minus infinity.
        """
        found = np.zeros(len(scores))
        cooled = self._cooled(temperature)
        for bucket, emissions, lengths in in_buckets(scores):
            emissions /= temperature
            alpha = cooled._forward(emissions, lengths)
            totals = logsumexp(alpha[lengths - 1, np.arange(len(bucket))] + cooled.end)
            for row, i in enumerate(bucket):
                path = paths[i]
                along = emissions[np.arange(len(path)), row, path].sum() + cooled.transitions[path[:-1], path[1:]].sum()
                found[i] = along + cooled.start[path[0]] + cooled.end[path[-1]] - totals[row]
        return found

    def _cooled(self, temperature: float) -> Lattice:
        """Return the lattice with its scores divided by the temperature."""
        if temperature == 1.0:
            return self
        cooled = object.__new__(Lattice)
        cooled.__dict__ |= self.__dict__
        cooled.transitions, cooled.start, cooled.end = (
            scores / temperature for scores in (self.transitions, self.start, self.end)
        )
        return cooled

    def _forward(self, emissions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the log of the summed weights of all sequences up to each token, (tokens, sentences, labels)."""
        step = _Step(self.transitions)
        alpha = np.full(emissions.shape, -np.inf)
        alpha[0] = emissions[0] + self.start
        for t in range(1, len(emissions)):
            running = int((lengths > t).sum())
            # Sentences are sorted, longest first, so those that have token t are the first `running` ones.
            alpha[t, :running] = step(alpha[t - 1, :running]) + emissions[t, :running]
        return alpha

    def _backward(self, emissions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the log of the summed weights of all sequences after each token, (tokens, sentences, labels)."""
        step = _Step(self.transitions.T)
        beta = np.full(emissions.shape, -np.inf)
        beta[lengths - 1, np.arange(len(lengths))] = self.end
        for t in range(len(emissions) - 2, -1, -1):
            running = int((lengths > t + 1).sum())
            beta[t, :running] = step(beta[t + 1, :running] + emissions[t + 1, :running])
        return beta

    def _span_logs(self, emissions: np.ndarray, lengths: np.ndarray, spans: Sequence[Sequence[Span]]) -> np.ndarray:
        """Return the log-probabilities of the spans of a bucket, sentence by sentence."""
        rows = np.repeat(np.arange(len(spans)), [len(s) for s in spans])
        first, stop = (np.array([s[at] for of_row in spans for s in of_row]) for at in (0, 1))
        types = np.array([s[2] for of_row in spans for s in of_row], dtype=object)
        alpha, beta = self._forward(emissions, lengths), self._backward(emissions, lengths)
        totals = logsumexp(alpha[lengths - 1, np.arange(len(spans))] + self.end)[rows]
        # inside: (spans, labels), the log of the summed weights of all sequences up to the current token in which the
        # span starts at its first token and has not ended. Where first is 0, alpha[first - 1] is not used.
        inside = np.where(
            (first == 0)[:, None], self.start, _Step(_only(self.transitions, self.starts))(alpha[first - 1, rows])
        )
        is_of_type = self._types == types[:, None]
        inside = np.where(is_of_type, inside + emissions[first, rows], -np.inf)
        continuing = _Step(_only(self.transitions, ~self.starts & ~self.is_outside))
        for k in range(1, int((stop - first).max())):
            longer = np.flatnonzero(stop - first > k)
            inside[longer] = continuing(inside[longer]) + emissions[first[longer] + k, rows[longer]]
        # The span ends at the end of the sentence, or where the next label continues nothing.
        is_last = stop == lengths[rows]
        after = np.minimum(stop, lengths[rows] - 1)
        leaving = _Step(_only(self.transitions, self.starts | self.is_outside))(inside)
        leaving = logsumexp(leaving + emissions[after, rows] + beta[after, rows])
        return np.asarray(np.where(is_last, logsumexp(inside + self.end), leaving) - totals)


class LatticeProbabilities:
    """The methods of a decoding with a lattice that return probabilities, of spans and of label sequences."""

    _lattice: Lattice

    def span_probabilities(
        self, scores: Sequence[np.ndarray], spans: Sequence[Sequence[Span]], temperature: float = 1.0
    ) -> list[np.ndarray]:
        """Return the probabilities of spans; see `Lattice.span_probabilities`."""
        return self._lattice.span_probabilities(scores, spans, temperature)

    def sequence_logs(
        self, scores: Sequence[np.ndarray], paths: Sequence[np.ndarray], temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities of label sequences; see `Lattice.sequence_logs`."""
        return self._lattice.sequence_logs(scores, paths, temperature)


def in_buckets(scores: Sequence[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield the sentences that have tokens, in buckets: their indices, scores and lengths, longest first.

    The scores are (tokens, sentences, labels) in float64, 0 after the end of a sentence. At token t, the sentences that
    are long enough to have it come first.
    """
    order = sorted((i for i in range(len(scores)) if len(scores[i])), key=lambda i: -len(scores[i]))
    start = 0
    while start < len(order):
        # Every sentence of a bucket is padded to the length of its first one.
        size = max(1, min(BUCKET, CELLS // scores[order[start]].size))
        bucket = order[start : start + size]
        start += size
        lengths = np.array([len(scores[i]) for i in bucket])
        emissions = np.zeros((lengths[0], len(bucket), scores[bucket[0]].shape[1]))
        for row, i in enumerate(bucket):
            emissions[: len(scores[i]), row] = scores[i]
        yield bucket, emissions, lengths


class _Step:
    """Sum over the previous label: log-weights, (rows, labels) -> (rows, labels).

    A matrix product is many times faster than a logsumexp of (rows, labels, labels). But it loses a sequence that is
    e^700 times less likely than the best one so far, and that sequence may turn out to be the only legal one. So sums
    that are almost 0 are recomputed in logarithms.
    """

    def __init__(self, transitions: np.ndarray) -> None:
        finite = transitions[np.isfinite(transitions)]
        self._transitions = transitions
        self._shift = finite.max() if finite.size else 0.0
        self._weights = np.exp(transitions - self._shift)  # at most 1

    def __call__(self, logs: np.ndarray) -> np.ndarray:
        greatest = _greatest(logs)
        sums = np.exp(logs - greatest) @ self._weights
        with np.errstate(divide="ignore"):
            found = np.log(sums) + (greatest + self._shift)
        if (sums < TINY).any():
            is_reachable = np.isfinite(logs).astype(float) @ np.isfinite(self._transitions).astype(float) > 0
            again = np.flatnonzero(((sums < TINY) & is_reachable).any(axis=1))
            found[again] = logsumexp((logs[again, :, None] + self._transitions).transpose(0, 2, 1))
        return np.asarray(found)


def _only(transitions: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the scores of some transitions, minus infinity for all others."""
    return np.where(which, transitions, -np.inf)


def _greatest(logs: np.ndarray) -> np.ndarray:
    """Return the maxima over the last axis, which is kept; 0 where all are minus infinity."""
    greatest = logs.max(axis=-1, keepdims=True)
    return np.where(np.isfinite(greatest), greatest, 0.0)


def logsumexp(logs: np.ndarray) -> np.ndarray:
    """Return the log of the summed exponentials over the last axis; minus infinity where all of them are."""
    greatest = _greatest(logs)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(logs - greatest).sum(axis=-1)) + greatest[..., 0])
