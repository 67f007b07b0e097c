"""Sizes of tensors, rounded to a small set, so that compiled kernels and CUDA graphs are reused."""

from __future__ import annotations


def few_shapes(n: int, per_octave: int, least: int = 1) -> int:
    """Return the next size from n on of which there are few, so that what is made for a size is soon met again.

    Between a power of two and the next there are `per_octave` sizes, all multiples of `least`: kernels that are
    generated for a shape (oneDNN's, at about a millisecond each), CUDA graphs and freed memory all live on repetition.
    """
    step = max(least, (1 << max(0, (n - 1).bit_length() - 1)) // per_octave)
    return -(-n // step) * step
