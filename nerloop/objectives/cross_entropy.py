"""Cross entropy of the labelled subwords, optionally with a weight for each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nerloop.errors import ConfigError, shorten
from nerloop.plugins import did_you_mean
from nerloop.tags import OUTSIDE
from nerloop.types import IGNORE, MicroBatch, Tensor


class CrossEntropy:
    """The negative log-likelihood of each labelled subword by itself.

    With `class_weights` each subword counts with the weight of its label, and the loss of a step is the weighted mean,
    as `torch.nn.CrossEntropyLoss(weight=...)` defines it.
    """

    def __init__(self, labels: Sequence[str], *, class_weights: Mapping[str, float] | None = None) -> None:
        """Check the weights.

        Args:
            labels: the label names by id
            class_weights: weight by label ("B-PER"), by entity type ("PER": all of its labels) or of "O"; a label wins
                over its type, and what is not named weighs 1
        """
        self.weight: Callable[[np.ndarray], float] | None = None
        self._class_weights: Tensor | None = None
        if class_weights:
            import torch  # here: the command line reads a plugin's options and must answer --help fast

            by_label = weights_of(labels, class_weights)
            self._class_weights = torch.tensor(by_label)
            self.weight = lambda ids: float(np.array(by_label)[ids[ids != IGNORE]].sum())

    def loss(self, logits: Tensor, batch: MicroBatch) -> Tensor:
        """Return the sum of the cross entropies, in float32 or better."""
        from torch.nn import functional

        if logits.dtype.itemsize < 4:
            logits = logits.float()
        weights = self._class_weights
        if weights is not None and (weights.device != logits.device or weights.dtype != logits.dtype):
            self._class_weights = weights = weights.to(logits.device, logits.dtype)
        return functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), weight=weights, ignore_index=IGNORE, reduction="sum"
        )


def weights_of(labels: Sequence[str], class_weights: Mapping[str, float]) -> list[float]:
    """Return the weight of each label: ["O", "B-PER"], {"PER": 2} -> [1.0, 2.0]. Raises ConfigError."""
    types = {label.partition("-")[2] for label in labels if label != OUTSIDE}
    known = sorted({*labels, *types})
    for name, weight in class_weights.items():
        if name not in known:
            near = did_you_mean(str(name), known)
            raise ConfigError(
                f"objective.class_weights: found {shorten(name)}{near}, expected labels or types of the data: "
                f"{', '.join(known)}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ConfigError(f"objective.class_weights: {name} is {shorten(weight)}, expected a number of 0 or more")
    found = [float(class_weights.get(label, class_weights.get(label.partition("-")[2], 1.0))) for label in labels]
    if not any(found):
        raise ConfigError("objective.class_weights: every label has weight 0, expected at least one that counts")
    return found
