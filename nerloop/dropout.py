"""Dropout that is cheap on a CPU: random bits sixteen at a time instead of a Bernoulli draw for each element.

PyTorch draws one number after the other from its Mersenne Twister, which took longer than the matrix products of a
small encoder (tests/benchmarks has the profile). A share is rounded to 1/65536, and what is kept is scaled by the
rounded share, so that the expectation is exact.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from nerloop.types import Tensor

if TYPE_CHECKING:
    from torch import nn

STEPS = 1 << 16


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with a share p of its elements set to zero and the others scaled to make up for them."""
    return x if p == 0.0 else x * keep(x, p)


def keep(x: Tensor, p: float) -> Tensor:
    """Return what dropout multiplies x with: 0 for a share p of the elements, else 1 / (1 - p). p is 0 to 1."""
    import torch

    threshold = round(p * STEPS)
    if threshold == STEPS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
    # As numbers at once: truth values, one byte each, are slow to multiply with.
    kept = torch.ge(drawn, threshold - STEPS // 2, out=torch.empty_like(x, memory_format=torch.contiguous_format))
    return kept.mul_(STEPS / (STEPS - threshold))


def use_cheap_dropout(model: nn.Module) -> None:
    """Let the dropout layers of a model on the CPU draw as `dropout` does; saved, it is the same model."""
    from torch import nn

    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = _cheap_dropout()


@cache
def _cheap_dropout() -> Any:
    from torch import nn

    class CheapDropout(nn.Dropout):
        """nn.Dropout by `dropout`."""

        def forward(self, x: Tensor) -> Tensor:
            """Return x with elements dropped, while training."""
            return dropout(x, self.p) if self.training else x

    return CheapDropout
