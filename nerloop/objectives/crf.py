"""A conditional random field: the likelihood of the tag sequence of a sentence, not of each tag by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nerloop.errors import ConfigError
from nerloop.types import IGNORE, MicroBatch, Tensor


class Crf(nn.Module):
    """The negative log-likelihood of the labels of a sentence's tokens under a linear-chain CRF.

    The score of a label sequence is the sum of the model's scores, of a learned score for each pair of neighbouring
    labels, and of learned scores for the first and the last label. Decoding uses the learned scores, too. They start at
    0, where the loss equals cross entropy.

    A chain consists of one subword for each token, the one that decides the token's tag, since decoding sees no others.
    Further labelled subwords (with `--alignment all`) add their cross entropy. A chain is cut where the next token of
    the sentence does not follow in the same feature: at the border of a window, and at a token without subwords or
    label. Each piece is a chain of its own, and no chain counts the transition across the cut. The scores of first and
    last labels count only at the ends of the sentence.

    Sources: Lafferty, McCallum and Pereira, Conditional random fields (2001); training of pieces: Sutton and McCallum,
    Piecewise training for undirected models (2005).
    """

    needs_places = True

    def __init__(self, labels: Sequence[str], *, learning_rate_factor: float = 100.0) -> None:
        """Start with scores of 0.

        Args:
            labels: the label names by id
            learning_rate_factor: learning rate of the transition scores, relative to train.learning_rate. They start at
                0 and have to reach the size of logits, for which an encoder's learning rate is too small.
        """
        super().__init__()
        is_number = isinstance(learning_rate_factor, int | float) and not isinstance(learning_rate_factor, bool)
        if not is_number or not 0 <= learning_rate_factor < math.inf:
            raise ConfigError(
                f"objective.learning_rate_factor: found {learning_rate_factor!r}, expected a number of 0 or more"
            )
        self.learning_rate_factor = float(learning_rate_factor)
        self.transitions = nn.Parameter(torch.zeros(len(labels), len(labels)))  # from the row's label to the column's
        self.start = nn.Parameter(torch.zeros(len(labels)))
        self.end = nn.Parameter(torch.zeros(len(labels)))

    def learned(self) -> dict[str, Tensor]:
        """Return the scores for decoding, as `nerloop.decoding.viterbi.Viterbi.learn` describes them."""
        return {"transitions": self.transitions, "start": self.start, "end": self.end}

    def loss(self, logits: Tensor, batch: MicroBatch) -> Tensor:
        """Return the negative log-likelihood of all chains plus the cross entropy of the other labelled subwords."""
        logits = (logits.float() if logits.dtype.itemsize < 4 else logits).flatten(0, 1)  # (cells, labels)
        # The model's scores are log-probabilities. So the log-likelihood of a chain is minus the cross entropy of its
        # labels, plus the learned scores along it, minus its log-partition. The log-partition is 0 as long as the
        # learned scores are 0.
        entropy = functional.cross_entropy(logits, batch.labels.flatten(), ignore_index=IGNORE, reduction="sum")
        # Use float64, since sums over a long sentence are large and their small differences matter. It costs little:
        # the tensors have one row a token. Apple's GPUs lack float64.
        exact = logits.dtype if logits.device.type == "mps" else torch.float64
        transitions, start, end = (p.to(exact) for p in (self.transitions, self.start, self.end))
        chains = chains_of(batch, len(start))
        # The sum is computed even if all counts are 0, so that every micro-batch gives every parameter a gradient: DDP
        # waits for one.
        counts = _to_device(chains.counts, logits).to(exact)
        found = entropy - (counts * torch.cat([transitions, start[None], end[None]])).sum()
        if len(chains.cells):
            scores = logits.index_select(0, _to_device(chains.cells, logits)).to(exact).log_softmax(-1)
            is_first, is_last = _to_device(chains.borders, logits).to(exact).unsqueeze(-1)  # (chains, 1) each
            parts = torch.split(scores, chains.running)
            found = found + log_partition(parts, is_first * start, transitions, is_last * end).sum()
        return found.to(logits.dtype)


def log_partition(scores: Sequence[Tensor], start: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Return the log of the summed exponentiated scores of all label sequences, (chains,): the forward recursion.

    Args:
        scores: for each position, (chains that reach it, labels); chains are sorted, longest first
        start: added at the first position of each chain, (chains, labels)
        transitions: (labels, labels), from the row's label to the column's
        end: added at the last position of each chain, (chains, labels)
    """
    first, *further = scores
    # Chains that end at a position leave `alpha` for `ended`. As chains are sorted, they are its last rows.
    # alpha: (chains that reach the position, labels), the log of the summed exponentiated scores of all sequences up to
    # the position that end in a label.
    alpha, ended = first + start, []
    for of_position in further:
        if len(of_position) < len(alpha):
            ended.append(alpha[len(of_position) :])
        alpha = (alpha[: len(of_position), :, None] + transitions).logsumexp(1) + of_position
    return (torch.cat([alpha, *reversed(ended)]) + end).logsumexp(-1)


def _to_device(array: np.ndarray, logits: Tensor) -> Tensor:
    return torch.from_numpy(array).to(logits.device, non_blocking=True)


class Chains(NamedTuple):
    """The chains of a micro-batch, longest first."""

    # (tokens,) cells of the logits: first tokens of all chains, then second tokens of chains that have one, ...
    cells: np.ndarray
    running: list[int]  # by position: number of chains that have such a token
    borders: np.ndarray  # (2, chains) bool: whether a chain starts at the start of a sentence, and ends at its end
    counts: np.ndarray  # (labels + 2, labels): how often a label follows each other, is the first, is the last


def chains_of(batch: MicroBatch, num_labels: int) -> Chains:
    """Return the chains of a micro-batch: runs of tokens of one sentence that are decided in the same feature."""
    tokens, labels, cells, is_first, is_last = _tokens_of(batch)
    begins = np.ones(len(tokens), dtype=bool)  # whether a token is the first of its chain
    begins[1:] = (tokens[1:] != tokens[:-1] + 1) | is_first[1:]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=len(tokens))
    # The order of `cells`: by position in the chain, then by rank of the chain.
    longest_first = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(longest_first)
    rank[longest_first] = np.arange(len(rank))
    position = np.arange(len(tokens)) - np.repeat(starts, lengths)
    order = np.lexsort((np.repeat(rank, lengths), position))
    # Neighbouring labels as one integer each, where the second token does not begin a chain.
    pairs = (labels[:-1] * num_labels + labels[1:])[~begins[1:]]
    return Chains(
        cells=cells[order],
        running=np.bincount(position).tolist(),
        borders=np.stack([is_first[starts], is_last[starts + lengths - 1]])[:, longest_first],
        counts=np.concatenate(
            [
                np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels),
                [np.bincount(labels[at], minlength=num_labels) for at in (is_first, is_last)],
            ]
        ),
    )


def _tokens_of(batch: MicroBatch) -> tuple[np.ndarray, ...]:
    """Return the tokens that have a label and are decided in this micro-batch, in the order of features and tokens.

    All arrays are (tokens,): number, label, cell, whether it is the first of its sentence, whether it is the last. The
    numbers skip one between two features, so that no chain continues from one to the next.
    """
    width = batch.labels.shape[1]
    found = [(np.zeros(0, dtype=np.int64),) * 3 + (np.zeros(0, dtype=bool),) * 2]
    number = 0
    for (row, start, _), feature in zip(batch.places, batch.features, strict=True):
        within = np.flatnonzero((feature.tokens >= 0) & (feature.labels != IGNORE))
        within = within[np.argsort(feature.tokens[within], kind="stable")]
        tokens = feature.tokens[within]
        ends = np.cumsum(feature.num_tokens)
        is_last = np.zeros(int(ends[-1]) + 1, dtype=bool)
        is_last[ends - 1] = True  # if the first sentence has no tokens, its index is -1: the extra place at the end
        is_first = np.roll(is_last, 1)
        is_first[0] = True
        found.append(
            (tokens + number, feature.labels[within], row * width + start + within, is_first[tokens], is_last[tokens])
        )
        number += len(is_last)
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))
