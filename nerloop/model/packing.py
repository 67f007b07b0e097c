"""Attention over sentences laid end to end without padding: each attends to itself alone.

Models of transformers look up their attention by name (`AttentionInterface`), so none has to be changed: under the name
NAME it is `attend`. On CPUs a kernel of ours takes the sentences as they lie (kernels/kernels.c); on CUDA devices, in
bf16 and fp16, FlashAttention's for sequences of different lengths does, where a trial shows that it can. Elsewhere
those of about the same length are attended to together, as a stack with little padding; all else in the model works on
subwords by themselves and sees no padding at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from nerloop.kernels import bindings as kernels
from nerloop.kernels.dropout import keep
from nerloop.model.cu_seqlens import Moves, PackedLayout, Stack
from nerloop.types import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "nerloop_unpadded"
PLAIN = 128
"""Length up to which a CPU is quicker with all scores of a stack in memory; of PyTorch's attention, which holds fewer,
the gradient takes twice as long at any length."""

_layout: PackedLayout | None = None  # of the forward under way
_is_used = False  # whether a layer has attended by it


@contextlib.contextmanager
def laid_out(layout: PackedLayout) -> Iterator[None]:
    """Let the forward inside attend within the sentences of a layout.

    Raises NotImplementedError where the model has not attended by it: then its sentences have seen each other.
    """
    global _layout, _is_used
    _layout, _is_used = layout, False
    try:
        yield
    finally:
        _layout = None
    if not _is_used:
        raise NotImplementedError(f"the model's attention is not the one that is registered as {NAME}")


def prepare(model: PreTrainedModel, layout: str) -> None:
    """Make a model ready for a layout of the collator `pack`; sentences in padded rows it takes as before."""
    if layout == "unpadded":
        use(model)
    elif layout == "block_mask":
        keep_block_masks_from_embeddings(model)


def use(model: PreTrainedModel) -> None:
    """Let a model attend by `attend`: outside `laid_out` that is PyTorch's own attention ("sdpa").

    Raises NotImplementedError where the backward runs layers once more, when the layout of their forward is gone.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise NotImplementedError("gradient checkpointing, which its config.json asks for")
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def keep_block_masks_from_embeddings(model: PreTrainedModel) -> None:
    """Let DeBERTa take a mask of truth values, (rows, width, width), as its attention does already.

    Its embeddings are multiplied with the same mask, which takes one of (rows, width) alone; they can do without.
    """

    def without(module: Any, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = options.get("mask")
        return arguments, {**options, "mask": None} if mask is not None and mask.dim() == 3 else options

    for module in model.modules():
        if type(module).__name__.endswith("Embeddings"):
            module.register_forward_pre_hook(without, with_kwargs=True)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention's output, (rows, subwords, heads, width), for the layout of the forward under way.

    query, key and value are (rows, heads, subwords, width); with a layout there is one row. Raises
    NotImplementedError for what it can't do, so that the model is packed in another way.
    """
    if _layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            scaling=scaling, dropout=dropout, sliding_window=sliding_window, **options,
        )  # fmt: skip
        return output, None
    if options.get("position_bias") is not None or options.get("softcap") is not None or options.get("is_causal"):
        raise NotImplementedError("attention with a position bias, a soft cap or a causal mask")
    import torch

    num_subwords, num_heads = query.shape[2], query.shape[1]
    global _is_used
    _is_used = True
    rate = dropout if module.training else 0.0
    if _is_flat(query, sliding_window):
        flat = [_by_head(x, num_heads).view(num_subwords, num_heads, -1) for x in (query, key, value)]
        return _attend_flat(flat[0], flat[1], flat[2], _layout, scaling, rate, sliding_window)[None], None
    is_as_laid_out = query.shape[2:] == key.shape[2:] == value.shape[2:] and num_subwords == _layout.width
    if rate < 1.0 and len(_layout.lengths) and is_as_laid_out and kernels.is_supported(query, key, value):
        heads = [_heads(x, num_heads) for x in (query, key, value)]
        heads = [x if x.stride(2) == 1 else x.contiguous() for x in heads]
        task = kernels.Attention(
            _layout.borders, len(_layout.lengths), _layout.num_subwords, _layout.longest,
            scaling or query.shape[3] ** -0.5, sliding_window, kernels.Dropping.of(rate),
        )  # fmt: skip
        output = _functions().by_kernel.apply(*heads, task)
        return output.transpose(0, 1)[None], None
    moves = _layout.moves(num_heads)
    rows = [_functions().stacked.apply(_by_head(x, num_heads), moves) for x in (query, key, value)]
    outputs = [
        _attend(q, k, v, _mask_of(stack, sliding_window, q), scaling or q.shape[-1] ** -0.5, rate)
        for stack, q, k, v in zip(_layout.stacks, *(_layout.split(x, num_heads) for x in rows), strict=True)
    ]
    joined = torch.cat([x.flatten(0, 2) for x in outputs])
    return _functions().unstacked.apply(joined, moves).view(1, num_subwords, num_heads, -1), None


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float) -> Tensor:
    """Return the output, (sentences, heads, length, width), of one stack."""
    from torch.nn import functional

    if q.device.type != "cpu" or not (q.requires_grad or q.shape[-2] <= PLAIN):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
    output: Tensor = _functions().attended.apply(q, k, v, mask, scaling, dropout)
    return output


def _is_flat(query: Tensor, sliding_window: int | None) -> bool:
    """Whether the kernel for all sentences at once takes this."""
    kind = (query.device, query.dtype, query.shape[3])
    return query.is_cuda and can_attend_flat(*kind, is_windowed=sliding_window is not None)


def _attend_flat(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: PackedLayout,
    scaling: float | None,
    dropout: float,
    window: int | None = None,
) -> Tensor:
    """Return the output, (subwords, heads, width), of all sentences at once: q, k and v are shaped alike.

    `torch.nn.attention.varlen` is the public door to this kernel, but without dropout.
    """
    import torch

    borders, longest = layout.borders, layout.longest
    reach = None if window is None else window - 1  # what a subword sees to each side
    output: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, borders, borders, longest, longest, dropout, False, False,
        scale=scaling, window_size_left=reach, window_size_right=reach,
    )[0]  # fmt: skip
    return output


@cache
def can_attend_flat(device: Any, dtype: Any, width: int, *, is_windowed: bool = False) -> bool:
    """Whether `_attend_flat` gives on a device what attention gives sentence by sentence, values and gradients.

    A trial tells: which devices, types and widths the kernel takes depends on PyTorch and on the hardware.
    """
    import torch
    from torch.nn import functional

    lengths, window, tolerance = [3, 40, 17, 1, 9], 6 if is_windowed else None, 0.05  # bf16 has 8 bits
    generator = torch.Generator().manual_seed(0)
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            # A resumed run makes the trial at another step: no dropout of a step may depend on it.
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            layout = PackedLayout.of(lengths, device=device)
            drawn = torch.randn(3, sum(lengths), 2, width, generator=generator)
            flat, alone = (drawn.to(device, dtype).requires_grad_() for _ in range(2))
            q, k, v = flat.unbind()
            torch.autograd.grad(_attend_flat(q, k, v, layout, None, 0.1, window).sum(), flat)
            parts = [x.permute(0, 2, 1, 3) for x in torch.split(alone, lengths, dim=1)]  # (3, heads, length, width)
            at = torch.arange(max(lengths), device=device)
            is_seen = None if window is None else (at[:, None] - at).abs() < window
            outputs = [
                functional.scaled_dot_product_attention(p[0], p[1], p[2], None if is_seen is None else is_seen[:n, :n])
                for p, n in zip(parts, lengths, strict=True)
            ]
            expected = torch.cat([output.transpose(0, 1) for output in outputs])
            found = _attend_flat(q, k, v, layout, None, 0.0, window)
            gradients = [
                torch.autograd.grad(output.float().square().sum(), into)[0]
                for output, into in ((found, flat), (expected, alone))
            ]
            return bool(
                torch.allclose(found, expected, atol=tolerance, rtol=tolerance)
                and torch.allclose(gradients[0], gradients[1], atol=10 * tolerance, rtol=tolerance)
            )
    except Exception:  # whatever an operation says that is not made for this device
        return False


def _mask_of(stack: Stack, sliding_window: int | None, like: Tensor) -> Tensor | None:
    """Return the mask of a stack, where each subword sees those less than `sliding_window` away (None: all)."""
    import torch

    mask = stack.mask
    if sliding_window is not None and stack.length > sliding_window:
        at = torch.arange(stack.length, device=like.device)
        band = torch.where((at[:, None] - at).abs() < sliding_window, 0.0, -torch.inf)
        # A subword of padding may see nothing at all: let it see itself, or its NaN would spread in the gradient.
        mask = band if mask is None else torch.where(at[:, None] == at, 0.0, band + mask)
    return mask if mask is None else mask.to(like.dtype)


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """Return (heads, subwords, width) of one row; heads that several share are repeated."""
    if x.shape[1] != num_heads:
        x = x.repeat_interleave(num_heads // x.shape[1], dim=1)
    return x.squeeze(0)  # not x[0], whose gradient would be copied into zeros


def _by_head(x: Tensor, num_heads: int) -> Tensor:
    """Return (subwords * heads, width)."""
    return _heads(x, num_heads).transpose(0, 1).flatten(0, 1)


class Functions(NamedTuple):
    """The autograd functions: those of the moves, whose own gradients would be slow scatters, and of the attention."""

    stacked: Any
    unstacked: Any
    attended: Any
    by_kernel: Any


@cache
def _functions() -> Functions:
    import torch
    from torch.autograd import Function
    from torch.autograd.function import once_differentiable

    class Stacked(Function):
        """(subwords * heads, width) to (cells * heads, width); nothing attends to padding, so no gradient is its."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, moves: Moves) -> Tensor:
            ctx.moves = moves
            return x.index_select(0, moves.there)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            found = gradient.index_select(0, ctx.moves.back)
            found[ctx.moves.num_real :] = 0.0
            return found, None

    class Unstacked(Function):
        """(cells * heads, width) to (subwords * heads, width)."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, moves: Moves) -> Tensor:
            ctx.moves = moves
            return x.index_select(0, moves.back)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient.index_select(0, ctx.moves.there).index_fill_(0, ctx.moves.padding, 0.0), None

    class Attended(Function):
        """Attention in as few passes over the scores as PyTorch's operations allow."""

        @staticmethod
        def forward(
            ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float
        ) -> Tensor:
            shape = (*q.shape[:-1], q.shape[-2])  # (sentences, heads, length, length)
            q, k, v = (x.flatten(0, 1) for x in (q, k, v))
            scores = _scaled_product(q, k.transpose(1, 2), scaling)
            if mask is not None:
                scores.view(shape).add_(mask)
            shares = scores.softmax(-1)
            kept = keep(shares, dropout) if dropout else None
            ctx.save_for_backward(q, k, v, shares, kept)
            ctx.scaling = scaling
            return torch.bmm(_times(shares, kept), v).view(*shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            q, k, v, shares, kept = ctx.saved_tensors
            shape = gradient.shape
            gradient = gradient.flatten(0, 1)
            of_v = torch.bmm(_times(shares, kept).transpose(1, 2), gradient)
            of_shares = _times(torch.bmm(gradient, v.transpose(1, 2)), kept)
            of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
            of_q = _scaled_product(of_scores, k, ctx.scaling)
            of_k = _scaled_product(of_scores.transpose(1, 2), q, ctx.scaling)
            return *(x.view(*shape[:-1], -1) for x in (of_q, of_k, of_v)), None, None, None

    class ByKernel(Function):
        """Attention within the sentences of a row, (heads, subwords, width), as they lie."""

        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, task: kernels.Attention) -> Tensor:
            output, statistics = task.forward(q, k, v, with_gradient=any(ctx.needs_input_grad))
            ctx.save_for_backward(q, k, v, statistics)
            ctx.task = task
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            return *ctx.task.backward(*ctx.saved_tensors, gradient), None

    return Functions(Stacked, Unstacked, Attended, ByKernel)


def _times(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor


def _scaled_product(a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return scaling * a @ b, (batch, n, m), in one pass."""
    import torch

    ignored = a.new_empty(1).expand(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(ignored, a, b, beta=0, alpha=scaling)


def _mask(*arguments: Any, **options: Any) -> Any:
    from transformers.masking_utils import sdpa_mask

    return None if _layout is not None else sdpa_mask(*arguments, **options)
