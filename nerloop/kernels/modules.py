"""Modules of a model on the CPU that are replaced by ones of fewer passes over memory; saved, it is the same model.

Activations, dropout, and the end of a block (dropout, residual, layer norm) stand between the matrix products of every
encoder. Where nerloop's own kernels are to be had, each is one pass; else dropout alone is made cheaper.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from nerloop.kernels import bindings as kernels
from nerloop.kernels.dropout import keep
from nerloop.types import Tensor

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-5
"""How far a module may be, in float32 and relative to the largest, from what its replacement computes."""


def replace_with_fused(model: nn.Module) -> None:
    """Replace the modules of a model on the CPU, in place."""
    from torch import nn

    for module in list(model.modules()):
        kind: Any = type(module)
        if kind is nn.Dropout:
            module.__class__ = _classes().dropout
        elif kind is nn.Linear and can_pack():
            module.__class__ = _classes().linear
        elif _is_gelu(module):
            module.__class__ = _fused(kind, _classes().gelu)
        elif not isinstance(module, _classes().block_end) and _has_parts_of_block_end(module) and is_block_end(module):
            module.__class__ = _fused(kind, _classes().block_end)


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with a share p of its elements set to zero and the others scaled to make up for them."""
    if p == 0.0:
        return x
    if p < 1.0 and kernels.is_supported(x):
        dropped: Tensor = _functions().dropped.apply(x, kernels.Dropping.of(p))
        return dropped
    return x * keep(x, p)


def gelu(x: Tensor) -> Tensor:
    """Return GELU of x, by a kernel."""
    import torch

    if torch.is_grad_enabled():
        activated: Tensor = _functions().activated.apply(x)
        return activated
    return kernels.gelu(x, with_slope=False)[0]


def is_block_end(module: Any) -> bool:
    """Whether a module computes LayerNorm(dropout(dense(x)) + residual) of (x, residual).

    It is asked, since a name promises nothing: without dropout, and with a dropout that leaves nothing of x.
    """
    import torch

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
        except Exception:  # whatever a module raises that takes other inputs
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
    """Whether PyTorch multiplies with weights in bf16 that are laid out beforehand.

    That is what torch.compile makes of a model for inference. The operations are PyTorch's own affair and might change,
    so a trial tells: the same bits, or it is left alone.
    """
    import torch

    try:
        x, weight = torch.ones(5, 32, dtype=torch.bfloat16), torch.linspace(-1, 1, 2048).bfloat16().view(64, 32)
        with torch.no_grad():
            found = torch.ops.mkldnn._linear_pointwise(x, _packed(weight), None, "none", [], "")
            return torch.equal(found, x @ weight.T)
    except Exception:  # whatever an operation says that is not there, or not made for this CPU
        return False


def _packed(weight: Tensor) -> Tensor:
    """Return a weight laid out for products, made anew when it has changed."""
    import torch

    version, packed = _packings().get(weight, (-1, None))
    if packed is None or version != weight._version:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        _packings()[weight] = weight._version, packed
    return packed


@cache
def _packings() -> MutableMapping[Tensor, tuple[int, Tensor]]:
    """Return the weights that are laid out, each with the version that it was laid out of, as long as they live."""
    from torch.utils.weak import WeakTensorKeyDictionary

    return WeakTensorKeyDictionary()


def _has_parts_of_block_end(module: nn.Module) -> bool:
    from torch import nn

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


def _is_gelu(module: nn.Module) -> bool:
    from torch import nn
    from transformers.activations import GELUActivation

    if type(module) is GELUActivation:
        return module.act is nn.functional.gelu
    return type(module) is nn.GELU and module.approximate == "none"


@cache
def _fused(kind: type, mixin: type) -> Any:
    """Return the class of modules that are of `kind` but for their forward."""
    return type(f"Fused{kind.__name__}", (mixin, kind), {})


class Classes(NamedTuple):
    """What modules are replaced by: two classes, and two to be mixed in."""

    dropout: type
    linear: type
    gelu: type
    block_end: type


@cache
def _classes() -> Classes:
    import torch
    from torch import nn

    class CheapDropout(nn.Dropout):
        """nn.Dropout by `dropout`."""

        def forward(self, x: Tensor) -> Tensor:
            """Return x with elements dropped, while training."""
            return dropout(x, self.p) if self.training else x

    class PackedLinear(nn.Linear):
        """nn.Linear; in bf16 and without a gradient from weights that are laid out once, not in each call."""

        def forward(self, x: Tensor) -> Tensor:
            """Return x @ weight.T + bias."""
            if torch.is_grad_enabled() or x.dtype != self.weight.dtype or x.dtype != torch.bfloat16:
                return super().forward(x)
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, _packed(self.weight), self.bias, "none", [], "")
            return product

    class Gelu:
        """GELU by a kernel."""

        def forward(self, x: Tensor) -> Tensor:
            """Return GELU of x."""
            return gelu(x) if kernels.is_supported(x) else super().forward(x)  # type: ignore[misc]

    class BlockEnd:
        """Dropout, residual and layer norm by one kernel."""

        def forward(self: Any, x: Tensor, residual: Tensor) -> Tensor:
            """Return LayerNorm(dropout(dense(x)) + residual)."""
            p = self.dropout.p if self.dropout.training else 0.0
            norm, x = self.LayerNorm, self.dense(x)
            if p == 1.0 or x.shape != residual.shape or not kernels.is_supported(x, residual, norm.weight, norm.bias):
                plain: Tensor = norm(self.dropout(x) + residual)
                return plain
            ended: Tensor = _functions().ended.apply(
                x, residual, norm.weight, norm.bias, norm.eps, kernels.Dropping.of(p)
            )
            return ended

    return Classes(CheapDropout, PackedLinear, Gelu, BlockEnd)


class Functions(NamedTuple):
    """The autograd functions."""

    dropped: Any
    activated: Any
    ended: Any


@cache
def _functions() -> Functions:
    from torch.autograd import Function
    from torch.autograd.function import once_differentiable

    class Dropped(Function):
        """Dropout; the gradient is dropped by the same draw."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, dropping: kernels.Dropping) -> Tensor:
            ctx.dropping = dropping
            return kernels.drop(x, dropping)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return kernels.drop(gradient, ctx.dropping), None

    class Activated(Function):
        """GELU; its slope is kept instead of its input, and is cheap to have beside the value."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y, slope = kernels.gelu(x, with_slope=True)
            ctx.save_for_backward(slope)
            return y

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            slope: Tensor = ctx.saved_tensors[0]
            return gradient * slope

    class Ended(Function):
        """The layer norm of a residual and of x with elements dropped."""

        @staticmethod
        def forward(
            ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float,
            dropping: kernels.Dropping,
        ) -> Tensor:  # fmt: skip
            y, total, statistics = kernels.add_and_norm(x, residual, weight, bias, epsilon, dropping)
            ctx.save_for_backward(total, statistics, weight)
            ctx.dropping = dropping
            return y

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            total, statistics, weight = ctx.saved_tensors
            return *kernels.add_and_norm_gradient(gradient, total, statistics, weight, ctx.dropping), None, None

    return Functions(Dropped, Activated, Ended)
