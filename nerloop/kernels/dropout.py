"""A dropout mask that is cheap to draw on a CPU, for where the kernels are not available.

PyTorch's dropout draws one Bernoulli number for each element from a Mersenne Twister, which took longer than the matrix
products of a small encoder (measured in tests/benchmarks). Here each element takes 16 bits of a 64-bit draw. So the
rate is rounded to a multiple of 1/65536, and kept elements are scaled by the rounded rate: the expectation is exact.
"""

from __future__ import annotations

import torch

from nerloop.types import Tensor

STEPS = 1 << 16


def dropout_mask(x: Tensor, rate: float) -> Tensor:
    """Return dropout's factors in the shape and type of x: 0 with probability `rate` (0 to 1), else 1 / (1 - rate)."""
    threshold = round(rate * STEPS)
    if threshold == STEPS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
    # The comparison writes numbers, not booleans, since multiplying by booleans is slow.
    mask = torch.ge(drawn, threshold - STEPS // 2, out=torch.empty_like(x, memory_format=torch.contiguous_format))
    return mask.mul_(STEPS / (STEPS - threshold))
