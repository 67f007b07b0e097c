"""Plugins that turn logits and labels into the loss of a micro-batch; they may have parameters of their own."""

from __future__ import annotations

from typing import Protocol

from nerloop.types import MicroBatch, Tensor


class Objective(Protocol):
    """An objective is built as `cls(labels, **options)`: the label names by id.

    A step minimises (sum of `loss` over the micro-batches of all processes) / (weight of the whole batch). So the
    gradient does not depend on how the batch is divided, as long as `loss` is a sum over features or subwords.

    An objective that is a `torch.nn.Module` has its parameters trained, clipped, saved, loaded and resumed with the
    model's; weight decay leaves them alone. These attributes are optional:

    `weight(labels)`: the divisor of the loss for one feature's labels, (subwords,) int64. It is summed over all
        features. Without it (or where it is None) every labelled subword weighs 1.
    `needs_places`: true if `loss` reads `batch.places` or `batch.features`, as a loss over label sequences does, or
        any other value that changes between steps and is not a tensor on the device. CUDA graphs are then off: a
        replay would use the value of the step that was recorded.
    `learning_rate_factor`: learning rate of its own parameters, relative to `train.learning_rate`. Default 1.
    `teachers`: folders of saved models. The mean of their probabilities becomes `batch.targets`, and the sentences of
        `data.unlabelled` join the training. The loss is then divided by the number of subwords that have a label or a
        target, unless there is a `weight`, which gets only the labels. CUDA graphs are off.
    `learned()`: arrays by name that decoding is to use, such as transition scores; see `nerloop.decoding.Decoding`.
    """

    def loss(self, logits: Tensor, batch: MicroBatch) -> Tensor:
        """Return the loss summed over the micro-batch, a scalar in float32 or better.

        Args:
            logits: (rows, width, labels); bf16 where the model computes in bf16
            batch: `batch.labels` is (rows, width) int64, IGNORE where a subword has no label; `batch.places` says where
                each feature lies, and `batch.features` are these features: which subword decides which token, and where
                sentences begin. In a micro-batch without labels the loss is 0, but must still give the objective's own
                parameters a gradient (of 0), for which DDP waits.
                With `teachers`, `batch.targets` is (rows, width, labels) float32: probabilities, or zeros for a subword
                without a target; or None if no subword of the micro-batch has one
        """
        ...
