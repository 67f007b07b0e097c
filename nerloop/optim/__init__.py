"""Update the weights: parameter groups, optimizer, schedule, master weights, CUDA graphs."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from nerloop.types import Tensor


class Optimizer(Protocol):
    """The optimizer of `train.optimizer`: "adamw", or a dotted path to a subclass of torch.optim.Optimizer.

    It is built as `cls(groups)`, where groups are dicts with `params` and `weight_decay`. If its constructor has
    parameters of these names it also gets `weights` (`nerloop.optim.master_weights.Weights`) and `precision` ("no",
    "bf16", "fp16" or "float64"). Any torch.optim class whose options have defaults works: `torch.optim.NAdam`.

    - `group["lr"]` is set before each step.
    - A checkpoint keeps `state`. So its values must be tensors, each a scalar or of its parameter's shape.
    - By default nerloop measures the gradients' norm, clips them, and skips `step` where the norm is not finite. An
      optimizer that has `_step_supports_amp_scaling` set, as PyTorch's fused ones do, does this itself: its `step`
      divides gradients by `self.grad_scale` and changes nothing if `self.found_inf` is not 0. This saves a pass over
      the gradients and, on a GPU, the wait for the norm.
    - If the optimizer has a method `gradient_norm()`, nerloop uses that norm.
    - `uses_compute_weights = True` says that it reads gradients from the bf16 weights, where a step's only backward
      left them, and writes the new bf16 weights itself.

    `nerloop.optim.contract.check_optimizer` tests all this.
    """

    param_groups: list[dict[str, Any]]
    state: MutableMapping[Any, dict[str, Tensor]]

    def step(self) -> Any:
        """Move the parameters that have a gradient."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Release the gradients."""
        ...
