"""One forward of a model on a micro-batch, packed or padded."""

from __future__ import annotations

import contextlib
from typing import Any

from nerloop.model import packing
from nerloop.model.cu_seqlens import PackedLayout
from nerloop.types import MicroBatch, Tensor


def logits_of(model: Any, batch: MicroBatch, layout: PackedLayout | None = None) -> Tensor:
    """Return the logits, (rows, width, labels); `layout` replaces the layout of an unpadded batch."""
    with contextlib.ExitStack() as stack:
        if batch.is_unpadded:
            if layout is None:
                lengths = [place.length for place in batch.places]
                layout = PackedLayout.of(lengths, batch.labels.shape[1], batch.labels.device)
            stack.enter_context(packing.packed_attention(layout))
        logits: Tensor = model(**batch.inputs).logits
    return logits


def feature_logits(model: Any, batch: MicroBatch) -> list[Tensor]:
    """Return the logits of each feature of a micro-batch, (subwords, labels) each, on the model's device."""
    logits = logits_of(model, batch.to(model.device, model.dtype))
    return [logits[row, start : start + length] for row, start, length in batch.places]
