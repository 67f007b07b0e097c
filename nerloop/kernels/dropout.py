"""Dropout that is cheap on a CPU: random bits sixteen at a time instead of a Bernoulli draw for each element.

PyTorch draws one number after the other from its Mersenne Twister, which took longer than the matrix products of a
small encoder (tests/benchmarks has the profile). A share is rounded to 1/65536, and what is kept is scaled by the
rounded share, so that the expectation is exact.
"""

from __future__ import annotations

from nerloop.types import Tensor

STEPS = 1 << 16


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
