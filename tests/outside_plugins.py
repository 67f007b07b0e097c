"""Plugins as a user would write them, outside the package: the tests name them by dotted path."""

from __future__ import annotations

from collections import Counter

import torch

from nerloop.alignment.first import First
from nerloop.types import IGNORE


class Focal:
    """The focal loss (Lin et al., 2017): subwords that are predicted well count less."""

    def __init__(self, labels, *, gamma: float = 2.0):
        self.gamma = gamma

    def loss(self, logits, batch):
        logs = logits.float().log_softmax(-1)
        kept = batch.labels != IGNORE
        of_label = logs[kept].gather(1, batch.labels[kept][:, None])[:, 0]
        return -((1 - of_label.exp()) ** self.gamma * of_label).sum()


class Pairs(torch.nn.Module):
    """Cross entropy after adding a learned score for the pair of neighbouring labels; decoding gets the scores."""

    needs_places = True
    learning_rate_factor = 100.0

    def __init__(self, labels):
        super().__init__()
        self.transitions = torch.nn.Parameter(torch.zeros(len(labels), len(labels)))

    def loss(self, logits, batch):
        total = 0.0 * logits.float().sum() + 0.0 * self.transitions.sum()
        for row, start, length in batch.places:
            labels = batch.labels[row, start : start + length]
            kept = labels != IGNORE
            labels, scores = labels[kept], logits[row, start : start + length][kept].float()
            if len(labels):
                scores = torch.cat([scores[:1], scores[1:] + self.transitions.float()[labels[:-1]]])
                total = total + torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
        return total

    def learned(self):
        return {"transitions": self.transitions}


class Mistakes:
    """An evaluator that knows no F1: the share of wrong tags, the fewer the better."""

    main_metric = "error_rate"
    greater_is_better = False

    def count(self, gold, predicted):
        pairs = [(a, b) for g, p in zip(gold, predicted, strict=True) for a, b in zip(g, p, strict=True)]
        return +Counter({("tokens",): len(pairs), ("wrong",): sum(a != b for a, b in pairs)})

    def metrics(self, counts):
        return {"error_rate": counts[("wrong",)] / max(1, counts[("tokens",)])}


class Halved:
    """An adaptation that trains the biases alone."""

    def apply(self, model):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        return model

    def merge(self, model):
        return model


class Plain:
    """An alignment with the methods that each one must have, and no other."""

    def __init__(self, tokenizer, labels):
        self._first = First(tokenizer, labels)

    def split(self, examples):
        return self._first.split(examples)

    def join(self, features, scores):
        return self._first.join(features, scores)
