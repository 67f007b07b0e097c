"""The token classification head: its labels, and rows for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nerloop.errors import ModelError, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def replace_head(model: PreTrainedModel, old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Replace a model's head by one for the labels `new`, in place; return the labels whose rows were kept from `old`.

    Raises ModelError if the model has no linear head with as many rows as `old` has labels.
    """
    import torch
    from torch import nn

    heads = [(n, m) for n, m in model.named_children() if isinstance(m, nn.Linear) and m.out_features == len(old)]
    if not heads:
        raise ModelError(f"{type(model).__name__}: found no linear head of {len(old)} labels to replace")
    name, head = heads[-1]
    fresh = nn.Linear(head.in_features, len(new), bias=head.bias is not None, dtype=head.weight.dtype)
    model._init_weights(fresh)
    kept = [label for label in new if label in old]
    with torch.no_grad():
        for label in kept:
            fresh.weight[list(new).index(label)] = head.weight[list(old).index(label)]
            if head.bias is not None:
                fresh.bias[list(new).index(label)] = head.bias[list(old).index(label)]
    setattr(model, name, fresh)
    set_labels(model.config, new)
    model.num_labels = len(new)
    return kept


def labels_of_head(config: PreTrainedConfig) -> list[str] | None:
    """Return the labels of a trained token classification head, by id, or None if the model has no such head.

    Raises ModelError if the ids are not consecutive.
    """
    if not any("ForTokenClassification" in name for name in config.architectures or []):
        return None
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise ModelError(
            f"config.json: id2label has ids {shorten(sorted(config.id2label))}, expected 0, 1, 2 and so on"
        )
    return [config.id2label[i] for i in range(config.num_labels)]


def set_labels(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    """Set the labels of a configuration, by id."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
