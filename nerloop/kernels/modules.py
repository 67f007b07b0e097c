"""Replace modules of a model on the CPU by ones that use the fused kernels, keeping parameters and their names.

Encoders such as BERT have dropout, GELU and "dropout + residual + LayerNorm" between their matrix products. Each of
these becomes one kernel; other modules stay as they are. Without kernels only dropout is replaced, by a cheaper draw. A
saved model is the same as before.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from nerloop.kernels import bindings as kernels
from nerloop.kernels.dropout import dropout_mask
from nerloop.types import Tensor

TOLERANCE = 1e-5
"""Largest difference between a module and its replacement in float32, relative to the largest value."""

# bf16 weights in oneDNN's own layout, each with the version of the weight that it was made from. A step changes the
# version (Weights.sync_to_compute), so no product uses the weights of an earlier step.
_packed_weights: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()


def replace_with_fused(model: nn.Module) -> None:
    """Replace the modules of a model on the CPU, in place.

    A module keeps its parameters and hooks and only gets another class, so names in checkpoints stay the same.
    """
    for module in list(model.modules()):
        kind: Any = type(module)
        if kind is nn.Dropout:
            module.__class__ = CheapDropout
        elif kind is nn.Linear and can_pack():
            module.__class__ = PackedLinear
        elif _is_exact_gelu(module):
            module.__class__ = _with_mixin(kind, FusedGelu)
        elif not isinstance(module, FusedBlockEnd) and _has_parts_of_block_end(module) and is_block_end(module):
            module.__class__ = _with_mixin(kind, FusedBlockEnd)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Return x with elements set to zero with probability `rate` (0 to 1), the others scaled up accordingly."""
    if rate == 0.0:
        return x
    if rate < 1.0 and kernels.is_supported(x):
        dropped: Tensor = DropoutFunction.apply(x, kernels.DropoutSpec.of(rate))  # type: ignore[no-untyped-call]
        return dropped
    return x * dropout_mask(x, rate)


def gelu(x: Tensor) -> Tensor:
    """Return the exact GELU of x; the kernel computes its derivative beside it."""
    activated: Tensor = GeluFunction.apply(x)  # type: ignore[no-untyped-call]
    return activated


def is_block_end(module: Any) -> bool:
    """Return whether a module computes LayerNorm(dropout(dense(x)) + residual) when called with (x, residual).

    Names of classes prove nothing, so the module is tried: in eval mode, and with a dropout that drops all of x.
    """
    state = module.training, module.dropout.p
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        generator = torch.Generator().manual_seed(0)
        weight = module.dense.weight
        x, residual = (
            torch.randn(1, 2, width, generator=generator).to(weight.dtype) for width in reversed(weight.shape)
        )
        try:
            alone = module.eval()(x, residual)
            module.dropout.p = 1.0
            dropped = module.train()(x, residual)
        except Exception:  # a module that takes other inputs may raise anything
            return False
        finally:
            module.train(state[0])
            module.dropout.p = state[1]
        expected = module.LayerNorm(module.dense(x) + residual), module.LayerNorm(residual)
    return all(
        isinstance(found, torch.Tensor)
        and found.shape == wanted.shape
        and bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
        for found, wanted in zip((alone, dropped), expected, strict=True)
    )


@cache
def can_pack() -> bool:
    """Return whether this CPU's PyTorch multiplies by bf16 weights in a prepared layout, with the same bits.

    torch.compile does this for inference. The operations are private to PyTorch and may change, so a trial decides.
    """
    try:
        x, weight = torch.ones(5, 32, dtype=torch.bfloat16), torch.linspace(-1, 1, 2048).bfloat16().view(64, 32)
        with torch.no_grad():
            found = torch.ops.mkldnn._linear_pointwise(x, _packed(weight), None, "none", [], "")
            return torch.equal(found, x @ weight.T)
    except Exception:  # an operation that is missing or does not support this CPU may raise anything
        return False


def _packed(weight: Tensor) -> Tensor:
    """Return a weight in oneDNN's layout, converted anew if the weight has changed since the last call."""
    version, packed = _packed_weights.get(weight, (-1, None))
    if packed is None or version != weight._version:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        _packed_weights[weight] = weight._version, packed
    return packed


def _has_parts_of_block_end(module: nn.Module) -> bool:
    """Return whether a module has the three parts that `is_block_end` uses, and no others."""
    parts = dict(module.named_children())
    norm = parts.get("LayerNorm")
    return (
        set(parts) == {"dense", "LayerNorm", "dropout"}
        and isinstance(parts["dense"], nn.Linear)
        and isinstance(parts["dropout"], nn.Dropout)
        and type(norm) is nn.LayerNorm
        and norm.weight is not None
        and norm.bias is not None
        and len(norm.normalized_shape) == 1
    )


def _is_exact_gelu(module: nn.Module) -> bool:
    from transformers.activations import GELUActivation

    if type(module) is GELUActivation:
        return module.act is nn.functional.gelu
    return type(module) is nn.GELU and module.approximate == "none"


@cache
def _with_mixin(kind: type, mixin: type) -> Any:
    """Return a subclass of `kind` with the forward of `mixin`, so that isinstance checks of a model still hold."""
    return type(f"Fused{kind.__name__}", (mixin, kind), {})


class CheapDropout(nn.Dropout):
    """nn.Dropout computed by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped in training mode."""
        return dropout(x, self.p) if self.training else x


class PackedLinear(nn.Linear):
    """nn.Linear that, in bf16 and without gradients, converts its weight's layout once instead of in each call."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias."""
        if torch.is_grad_enabled() or x.dtype != self.weight.dtype or x.dtype != torch.bfloat16:
            return super().forward(x)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, _packed(self.weight), self.bias, "none", [], "")
        return product


class FusedGelu:
    """Mixin: GELU by the kernel where a gradient is computed."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the GELU of x."""
        # The kernel is only faster because it computes the derivative as well; without a gradient PyTorch's GELU is.
        is_fused = torch.is_grad_enabled() and kernels.is_supported(x)
        return gelu(x) if is_fused else super().forward(x)  # type: ignore[misc]


class FusedBlockEnd:
    """Mixin: dropout, residual and layer norm by one kernel."""

    def forward(self: Any, x: Tensor, residual: Tensor) -> Tensor:
        """Return LayerNorm(dropout(dense(x)) + residual)."""
        rate = self.dropout.p if self.dropout.training else 0.0
        norm, x = self.LayerNorm, self.dense(x)
        # The kernel needs equal shapes and types. PyTorch's operations convert where they differ, as under autocast.
        if rate == 1.0 or x.shape != residual.shape or not kernels.is_supported(x, residual, norm.weight, norm.bias):
            plain: Tensor = norm(self.dropout(x) + residual)
            return plain
        spec = kernels.DropoutSpec.of(rate)
        ended: Tensor = AddAndNormFunction.apply(x, residual, norm.weight, norm.bias, norm.eps, spec)  # type: ignore[no-untyped-call]
        return ended


class DropoutFunction(Function):
    """Dropout; the backward drops the gradient with the same spec."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spec: kernels.DropoutSpec) -> Tensor:
        """Return dropout(x)."""
        ctx.spec = spec
        return kernels.dropout(x, spec)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        return kernels.dropout(gradient, ctx.spec), None


class GeluFunction(Function):
    """GELU; the forward saves the derivative instead of the input, since both share an exponential."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return GELU(x)."""
        y, slope = kernels.gelu(x)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of x."""
        slope: Tensor = ctx.saved_tensors[0]
        return gradient * slope


class AddAndNormFunction(Function):
    """layer_norm(residual + dropout(x))."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, spec: kernels.DropoutSpec
    ) -> Tensor:
        """Return the normed sum."""
        y, total, statistics = kernels.add_and_norm(x, residual, weight, bias, epsilon, spec)
        ctx.save_for_backward(total, statistics, weight)
        ctx.spec = spec
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, residual, weight and bias."""
        total, statistics, weight = ctx.saved_tensors
        return *kernels.add_and_norm_backward(gradient, total, statistics, weight, ctx.spec), None, None
