"""The progress of a training, and the part of it that checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from nerloop.errors import CheckpointError, shorten


@dataclass
class State:
    """The counters of a training. Everything but the last three fields is kept in checkpoints."""

    step: int = 0  # optimizer steps done
    best: float | None = None  # the best value of the main metric on the validation split
    best_step: int | None = None
    evaluated: int = 0  # the step of the last evaluation
    evaluations_without_best: int = 0
    seconds: float = 0.0  # spent in the loop, evaluations and checkpoints included
    last_metrics: dict[str, Any] = field(default_factory=dict)  # of the last evaluation, by decoding
    saved: int = 0  # the step of the last checkpoint
    skipped_in_a_row: int = 0  # updates that overflowed in fp16
    first_step_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that a checkpoint keeps, as plain JSON values."""
        return {name: getattr(self, name) for name in KEPT}

    @staticmethod
    def from_dict(progress: Any, source: object) -> State:
        """Return the state from a checkpoint. Raises CheckpointError if a value is missing or has the wrong type."""
        if not isinstance(progress, dict) or progress.keys() != KEPT.keys() or not all(
            isinstance(progress[name], kind) for name, kind in KEPT.items()
        ):  # fmt: skip
            raise CheckpointError(f"{source}: its progress is {shorten(progress)}, not what nerloop writes")
        return State(**progress, saved=progress["step"])

    def is_patience_over(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row were not the best so far; None never stops early."""
        return patience is not None and self.evaluations_without_best >= patience

    def note_evaluation(self, step: int, value: float, *, greater_is_better: bool) -> bool:
        """Record the main metric of an evaluation; return whether it is the best so far. Ties keep the earlier one."""
        self.evaluated = step
        is_best = self.best is None or (value > self.best if greater_is_better else value < self.best)
        self.evaluations_without_best += 1
        if is_best:
            self.best, self.best_step, self.evaluations_without_best = value, step, 0
        return is_best


KEPT: dict[str, Any] = {
    "step": int, "best": float | int | None, "best_step": int | None, "evaluated": int,
    "evaluations_without_best": int, "seconds": float | int, "last_metrics": dict,
}  # fmt: skip
assert KEPT.keys() < {f.name for f in fields(State)}
