"""Round tensor sizes to a small set, so that compiled kernels, CUDA graphs and freed memory are reused."""

from __future__ import annotations


def round_up_size(n: int, per_octave: int, multiple_of: int = 1) -> int:
    """Return the smallest allowed size that is at least n.

    Between two powers of two there are `per_octave` allowed sizes, all multiples of `multiple_of`. oneDNN, for example,
    generates a kernel for each new shape, which takes about a millisecond.

    With 4 sizes an octave: 9 -> 10, 11 -> 12, 17 -> 20, 33 -> 40
    """
    step = max(multiple_of, (1 << max(0, (n - 1).bit_length() - 1)) // per_octave)
    return -(-n // step) * step
