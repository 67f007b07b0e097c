"""Check a collator: every feature is in the batch, unchanged, and the model computes the same logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nerloop.collators import Collator
from nerloop.contracts.checking import LONGEST, checking, require
from nerloop.errors import PluginError, shorten
from nerloop.model.compat import choose_collator
from nerloop.types import IGNORE, Feature, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_collator(build: Callable[..., Collator], tokenizer: Tokenizer, model: PreTrainedModel | None = None) -> None:
    """Raise PluginError unless a collator keeps every feature whole and, if a model is given, keeps its logits."""
    max_length = min(LONGEST, tokenizer.model_max_length)
    random = np.random.RandomState(0)
    with checking("collator", build):
        collator = build(tokenizer)
        for lengths in (
            [1],
            [max_length],
            [3, 3],
            [1] * 40,
            [max_length, 1, max_length, 1],
            [7, *range(1, max_length, 9)],
        ):
            _check_layout(collator, [_feature(random, n, len(tokenizer)) for n in lengths])
            costs = [collator.num_cells(lengths[: i + 1]) for i in range(len(lengths))]
            problem = f"num_cells: found {costs[-1]} for {shorten(lengths)}, expected at least"
            require(costs[-1] >= sum(lengths), f"{problem} {sum(lengths)}, their sum")
            require(costs == sorted(costs), f"{problem} {max(costs)}, that of the first few of them")
        if model is not None and (reason := choose_collator(collator, model, tokenizer)[1]):
            raise PluginError(f"can't be used with {type(model).__name__}: {reason}")


def _feature(random: np.random.RandomState, length: int, num_ids: int) -> Feature:
    labels = np.where(random.rand(length) < 0.5, random.randint(0, 3, length), IGNORE)
    return Feature(random.randint(0, num_ids, length), labels, np.full(length, -1), 0, (0,), (length,))


def _check_layout(collator: Collator, features: Sequence[Feature]) -> None:
    import torch

    batch = collator(features)
    require("input_ids" in batch.inputs, f"found inputs {sorted(batch.inputs)}, expected input_ids among them")
    input_ids, labels = batch.inputs["input_ids"], batch.labels
    for name, tensor in (("input_ids", input_ids), ("labels", labels)):
        is_right = tensor.dtype == torch.long and tensor.ndim == 2 and tensor.shape == input_ids.shape
        require(is_right, f"{name} are {tensor.dtype} {tuple(tensor.shape)}, expected int64, (rows, width)")
    require(len(batch.places) == len(features), f"found {len(batch.places)} places for {len(features)} features")
    taken = torch.zeros(input_ids.shape, dtype=torch.long)
    for (row, start, length), feature in zip(batch.places, features, strict=True):
        place, (rows, width) = f"row {row}, cells {start} to {start + length}", input_ids.shape
        is_right = 0 <= row < rows and 0 <= start <= start + length <= width and length == len(feature)
        require(is_right, f"{place}: not the place of {len(feature)} subwords in a batch {(rows, width)}")
        cells = slice(start, start + length)
        taken[row, cells] += 1
        for name, tensor in (("input_ids", input_ids), ("labels", labels)):
            is_same = np.array_equal(tensor[row, cells].numpy(), getattr(feature, name))
            require(is_same, f"{place}: the {name} are not the feature's")
    require(taken.max() == 1, "two features share a cell")
    require((labels[taken == 0] == IGNORE).all(), f"found labels where no feature lies, expected {IGNORE}")
