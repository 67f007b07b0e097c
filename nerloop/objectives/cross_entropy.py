"""The loss of a micro-batch: cross entropy of its labelled subwords."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nerloop.types import IGNORE, Tensor

if TYPE_CHECKING:
    pass


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross entropies of all labelled subwords, in float32 or better."""
    from torch.nn import functional

    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum")
