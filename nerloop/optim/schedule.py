"""The learning rate as a pure function of the optimizer step: the number of processes has no say in it."""

from __future__ import annotations


def learning_rate(step: int, *, num_steps: int, peak: float, warmup_ratio: float, schedule: str) -> float:
    """Return the learning rate of the update that `step` updates have gone before.

    It rises in a straight line over the first `warmup_ratio * num_steps` updates, the first of which gets a share too
    (an update of rate 0 would be a wasted one); then it stays ("constant") or falls in a straight line towards 0
    ("linear"), which it would reach just behind the last update.

    With 4 steps, peak 1.0 and a warmup of a half, linear: 0.5, 1.0, 1.0, 0.5
    """
    warmup_steps = int(num_steps * warmup_ratio)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    return peak * max(0, num_steps - step) / max(1, num_steps - warmup_steps)
