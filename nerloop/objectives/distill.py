"""Knowledge distillation: learn the probabilities of other models, the teachers, besides the labels."""

from __future__ import annotations

from collections.abc import Sequence

from nerloop.errors import ConfigError, shorten
from nerloop.types import IGNORE, MicroBatch, Tensor


class Distill:
    """Cross entropy with the labels, mixed with the divergence from the probabilities of one or several teachers.

    With p the teacher's probabilities of a subword's labels, and s those of the model, both at temperature T, a subword
    costs weight * T^2 * KL(p || s) + (1 - weight) * cross entropy. A subword without a label, as in `data.unlabelled`,
    costs T^2 * KL(p || s), one without a target its cross entropy. The gradient of KL shrinks as 1 / T^2, which the
    factor T^2 compensates. Every subword that has a label or a target counts 1 in the mean over a step.

    With several teachers, p is the mean of their probabilities, to which the temperature is then applied.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015). They minimise the cross
    entropy with p; KL has the same gradient, and is 0 where the model agrees with the teacher.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        teacher: str | list[str] | None = None,
        temperature: float = 1.0,
        weight: float = 0.5,
    ) -> None:
        """Check the options.

        Args:
            labels: the label names by id
            teacher: folder of a saved model, or a list of several
            temperature: above 1, small probabilities of the teacher count more
            weight: weight of the teacher on sentences with labels, from 0 to 1; the labels have the rest
        """
        self.teachers = [teacher] if isinstance(teacher, str) else list(teacher or [])
        if not self.teachers or not all(isinstance(folder, str) and folder for folder in self.teachers):
            raise ConfigError(
                f"objective.teacher: found {shorten(teacher)}, expected the folder of a saved model, such as "
                "runs/x/model, or a list of several"
            )
        if not _is_number(temperature) or not 0 < temperature <= 1e3:
            raise ConfigError(
                f"objective.temperature: found {shorten(temperature)}, expected more than 0 and at most 1000"
            )
        if not _is_number(weight) or not 0 <= weight <= 1:
            raise ConfigError(f"objective.weight: found {shorten(weight)}, expected 0 to 1")
        self._temperature, self._share = float(temperature), float(weight)

    def loss(self, logits: Tensor, batch: MicroBatch) -> Tensor:
        """Return the sum over all subwords that have a label or a target, in float32 or better."""
        from torch.nn import functional

        logits = (logits.float() if logits.dtype.itemsize < 4 else logits).flatten(0, 1)  # (cells, labels)
        labels = batch.labels.flatten()
        # 0 where there is no label
        gold = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
        if batch.targets is None:
            return gold.sum()
        temperature = self._temperature
        targets = batch.targets.flatten(0, 1).to(logits.dtype)
        has_target = targets.sum(-1) > 0
        if temperature != 1:
            # Divide by the largest probability, because otherwise all powers could underflow to 0.
            targets = (targets / targets.amax(-1, keepdim=True).where(has_target[:, None], 1)) ** (1 / temperature)
            targets = targets / targets.sum(-1, keepdim=True).where(has_target[:, None], 1)
        scores = (logits / temperature).log_softmax(-1)
        divergence = functional.kl_div(scores, targets, reduction="none").sum(-1) * temperature**2
        of_teacher = has_target * logits.new_tensor(1.0).where(labels == IGNORE, self._share)
        of_labels = logits.new_tensor(1.0).where(~has_target, 1 - self._share)
        return (of_labels * gold + of_teacher * divergence).sum()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
