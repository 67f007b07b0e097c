"""Try at start-up what a model supports: which layouts leave its logits unchanged, and which parameters they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nerloop.alignment.first import MAX_LENGTH
from nerloop.alignment.windows import special_tokens
from nerloop.collators import Collator
from nerloop.collators.pad import Pad
from nerloop.errors import ModelError
from nerloop.model import packing
from nerloop.model.forward import feature_logits, logits_of
from nerloop.types import IGNORE, Feature, MicroBatch, Tensor, Tokenizer

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Largest difference between the logits of a packed and a lone sentence, relative to the largest logit: above float32's
noise in deep models, far below the effect of attending to a neighbour or of a wrong position."""

RAISED = "it raised"
DIFFER = "its logits differ by"


def choose_collator(collator: Collator, model: PreTrainedModel, tokenizer: Tokenizer) -> tuple[Collator, str]:
    """Return a collator whose layout leaves the model's logits unchanged, and why it had to be `Pad` ("": it had not).

    The model is tried, not looked up in a list: features laid out together must give the logits that each gives alone.
    The given collator is tried first, then its alternatives. If all fail, the result is `Pad`. A few models mix
    neighbours without a mask, so that even padding changes logits; the reason says so. Raises ModelError where padding
    raises.
    """
    features = probe_features(tokenizer)
    own_attention, problems = model.config._attn_implementation, []
    for candidate in [collator, *getattr(collator, "alternatives", list)()]:
        problem = disagreement(model, candidate, features, tokenizer)
        if not problem:
            return candidate, ""
        problems.append(problem)
        model.set_attn_implementation(own_attention)
    # Logits that differ tell more about a model than an error for a layout made for other models.
    reason = next((p for p in problems if p.startswith(DIFFER)), problems[-1])
    pad = Pad(tokenizer)
    problem = disagreement(model, pad, features, tokenizer)
    if problem.startswith(RAISED):
        raise ModelError(f"{type(model).__name__} can be fed neither packed nor padded sentences: {problem}")
    return pad, f"{reason}; padded, {problem}: its scores depend on the batch" if problem else reason


def prepare_model(model: PreTrainedModel, collator: Collator) -> None:
    """Prepare model and collator for each other. Padded rows still work as before."""
    packing.prepare(model, getattr(collator, "layout", ""))
    prepare_collator(collator, model)


def prepare_collator(collator: Collator, model: nn.Module) -> None:
    """Let a collator choose its shapes for the device and the type of a model's weights."""
    if (prepare := getattr(collator, "prepare", None)) is not None:
        prepare(model)


def disagreement(model: PreTrainedModel, collator: Collator, features: Sequence[Feature], tokenizer: Tokenizer) -> str:
    """Return how a collator's layout changes the logits of features, "" if it does not."""
    import torch

    training, alone = model.training, Pad(tokenizer)
    model.eval()
    try:
        batch = collator(features)
        last, limit = _last_position(batch), getattr(model.config, "max_position_embeddings", None) or 0
        if 0 < limit <= last:  # on a GPU an index out of range ends the process
            return f"it would need {last + 1} positions (the model has {limit})"
        with torch.inference_mode():
            expected = [one for feature in features for one in feature_logits(model, alone([feature]))]
            prepare_model(model, collator)
            found = feature_logits(model, batch)
    except Exception as error:  # a model may raise anything for a layout that it was not made for
        return f"{RAISED} {type(error).__name__}: {' '.join(str(error).split())[:100]}"
    finally:
        model.train(training)
    apart, largest = apart_and_largest(found, expected)
    # Written so that NaN counts as apart.
    return "" if apart <= TOLERANCE * largest else f"{DIFFER} {apart:.1e} (the largest is {largest:.1e})"


def apart_and_largest(found: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[float, float]:
    """Return the largest difference between logits, and the largest expected logit."""
    apart = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return apart, max(float(logits.abs().max()) for logits in expected)


def _last_position(batch: MicroBatch) -> int:
    positions = batch.inputs.get("position_ids")
    return -1 if positions is None else int(positions.max())


def probe_features(tokenizer: Tokenizer) -> list[Feature]:
    """Return features of random subwords, with lengths that fill one row, start another and leave its end unused."""
    before, after = special_tokens(tokenizer)
    special = set(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    random = np.random.RandomState(0)
    # As long as windows are by default: a sliding window shows only in sentences that exceed it.
    longest = min(MAX_LENGTH, tokenizer.model_max_length) - len(before) - len(after)
    features = []
    for atom, length in enumerate((longest, min(75, longest), min(75, longest), 12, 7, 2, 1)):
        ids = np.array([*before, *random.choice(ordinary, max(1, length)), *after], dtype=np.int64)
        ignored = np.full(len(ids), IGNORE, dtype=np.int64)
        features.append(Feature(ids, ignored, np.full(len(ids), -1), atom, (atom,), (length,)))
    return features


def freeze_unused(model: PreTrainedModel, collator: Collator, tokenizer: Tokenizer) -> list[str]:
    """Freeze the parameters that the logits don't depend on, and return their names.

    DistributedDataParallel waits for a gradient of every trained parameter, and these never get one.
    """
    training = model.training
    model.eval()
    batch = collator(probe_features(tokenizer)[-2:])
    logits_of(model, batch.to(model.device, model.dtype)).sum().backward()  # type: ignore[no-untyped-call]
    unused = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    for _, parameter in unused:
        parameter.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    model.train(training)
    return [name for name, _ in unused]
