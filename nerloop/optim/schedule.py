"""The learning rate as a pure function of the optimizer step. The number of processes does not matter."""

from __future__ import annotations


def learning_rate(step: int, *, num_steps: int, peak: float, warmup_ratio: float, schedule: str) -> float:
    """Return the learning rate of the update after `step` updates.

    It rises linearly to `peak` over the first `warmup_ratio * num_steps` updates. The first rate is above 0, because an
    update with rate 0 would be wasted. Then it stays at `peak` ("constant"), or falls linearly ("linear") and would
    reach 0 one update after the last.

    With 4 steps, peak 1.0, warmup_ratio 0.5 and "linear": 0.5, 1.0, 1.0, 0.5
    """
    warmup_steps = int(num_steps * warmup_ratio)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    return peak * max(0, num_steps - step) / max(1, num_steps - warmup_steps)
