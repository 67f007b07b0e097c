"""Attention over a packed row: sequences laid end to end without padding, each attending only to itself.

transformers looks up attention by name (`AttentionInterface`), so a model is not changed: `attention_forward` is
registered under NAME. There are three ways, in order of preference:

1. CPU: the attention kernel (kernels/attention.c) reads the row as it is.
2. CUDA, bf16 or fp16: FlashAttention for sequences of different lengths, if a trial at start-up shows that it computes
   the same here.
3. Elsewhere: length buckets. Sequences of similar length are gathered into padded batches and attended to there.

Everything else in an encoder works on single subwords, so it needs no padding and no change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nerloop.kernels import bindings as kernels
from nerloop.kernels.dropout import dropout_mask
from nerloop.model.cu_seqlens import GatherIndex, LengthBucket, PackedLayout
from nerloop.types import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "nerloop_unpadded"
MAX_EXPLICIT_LENGTH = 128
"""Up to this length a CPU is faster with all scores of a bucket in memory than with PyTorch's own attention. With
gradients it is faster at any length: PyTorch's backward takes twice as long."""


@dataclass(eq=False)
class _PackedForward:
    layout: PackedLayout
    is_used: bool = False  # whether a layer has attended by the layout


# The packed forward in progress. A context variable, so that models in other threads have their own.
_packed_forward: ContextVar[_PackedForward | None] = ContextVar("packed_forward", default=None)


@contextlib.contextmanager
def packed_attention(layout: PackedLayout) -> Iterator[None]:
    """Make the attention of forwards inside the block stay within the sequences of a layout.

    Raises NotImplementedError at the end if no layer did so: then the sequences have attended to each other.
    """
    current = _PackedForward(layout)
    token = _packed_forward.set(current)
    try:
        yield
    finally:
        _packed_forward.reset(token)
    if not current.is_used:
        raise NotImplementedError(f"the model's attention is not the one that is registered as {NAME}")


def prepare(model: PreTrainedModel, layout: str) -> None:
    """Prepare a model for a layout of the collator `pack`. Padded rows still work as before."""
    if layout == "unpadded":
        set_packed_attention(model)
    elif layout == "block_mask":
        keep_block_masks_from_embeddings(model)


def set_packed_attention(model: PreTrainedModel) -> None:
    """Make `attention_forward` a model's attention; outside `packed_attention` that is PyTorch's own ("sdpa").

    Raises NotImplementedError for gradient checkpointing: it runs layers again in the backward, without the layout.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise NotImplementedError("gradient checkpointing, which its config.json asks for")
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, _make_mask)
    model.set_attn_implementation(NAME)


def keep_block_masks_from_embeddings(model: PreTrainedModel) -> None:
    """Let DeBERTa take a boolean mask (rows, width, width), as its attention already does.

    Its embeddings multiply by the same mask and only take (rows, width). They work without it: padding is masked later.
    """
    for module in model.modules():
        is_done = _drop_block_mask in module._forward_pre_hooks.values()
        if type(module).__name__.endswith("Embeddings") and not is_done:
            module.register_forward_pre_hook(_drop_block_mask, with_kwargs=True)


def _drop_block_mask(module: Any, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = options.get("mask")
    return arguments, {**options, "mask": None} if mask is not None and mask.dim() == 3 else options


def attention_forward(
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
    """Return the attention's output, (rows, subwords, heads, width), by the layout of the packed forward in progress.

    query, key and value are (rows, heads, subwords, width); a packed forward has one row. Raises NotImplementedError
    for features that it lacks, so that the model is packed in another layout.
    """
    current = _packed_forward.get()
    if current is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            scaling=scaling, dropout=dropout, sliding_window=sliding_window, **options,
        )  # fmt: skip
        return output, None
    if options.get("position_bias") is not None or options.get("softcap") is not None or options.get("is_causal"):
        raise NotImplementedError("attention with a position bias, a soft cap or a causal mask")
    current.is_used = True
    layout = current.layout
    num_subwords, num_heads = query.shape[2], query.shape[1]
    rate = dropout if module.training else 0.0
    if _has_varlen(query, sliding_window):
        flat = [_by_head(x, num_heads).view(num_subwords, num_heads, -1) for x in (query, key, value)]
        return _varlen_attention(flat[0], flat[1], flat[2], layout, scaling, rate, sliding_window)[None], None
    # The kernel takes all three in one shape, and every subword of the layout.
    has_shape = query.shape[2:] == key.shape[2:] == value.shape[2:] and num_subwords == layout.width
    if rate < 1.0 and len(layout.lengths) and has_shape and kernels.is_supported(query, key, value):
        heads = [_heads(x, num_heads) for x in (query, key, value)]
        heads = [x if x.stride(2) == 1 else x.contiguous() for x in heads]
        task = kernels.Attention(
            layout.cu_seqlens, len(layout.lengths), layout.num_subwords, layout.max_seqlen,
            scaling or query.shape[3] ** -0.5, sliding_window, kernels.DropoutSpec.of(rate),
        )  # fmt: skip
        output = KernelAttention.apply(*heads, task)  # type: ignore[no-untyped-call]
        return output.transpose(0, 1)[None], None
    index = layout.gather_index(num_heads)
    gather: Any = GatherToBuckets.apply
    cells = [gather(_by_head(x, num_heads), index) for x in (query, key, value)]
    outputs = [
        _bucket_attention(q, k, v, _mask_of(bucket, sliding_window, q), scaling or q.shape[-1] ** -0.5, rate)
        for bucket, q, k, v in zip(layout.buckets, *(layout.split(x, num_heads) for x in cells), strict=True)
    ]
    joined = torch.cat([x.flatten(0, 2) for x in outputs])
    output = GatherToRow.apply(joined, index)  # type: ignore[no-untyped-call]
    return output.view(1, num_subwords, num_heads, -1), None


def _bucket_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, rate: float) -> Tensor:
    """Return the output, (sequences, heads, length, width), of one bucket."""
    if q.device.type != "cpu" or not (q.requires_grad or q.shape[-2] <= MAX_EXPLICIT_LENGTH):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate, scale=scaling)
    output: Tensor = ExplicitAttention.apply(q, k, v, mask, scaling, rate)  # type: ignore[no-untyped-call]
    return output


def _has_varlen(query: Tensor, sliding_window: int | None) -> bool:
    kind = (query.device, query.dtype, query.shape[3])
    return query.is_cuda and can_use_varlen(*kind, is_windowed=sliding_window is not None)


def _varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: PackedLayout,
    scaling: float | None,
    rate: float,
    window: int | None = None,
) -> Tensor:
    """Return the output, (subwords, heads, width), by FlashAttention; q, k and v have this shape, too.

    `torch.nn.attention.varlen` is the public function for this operation, but it has no dropout.
    """
    cu_seqlens, max_seqlen = layout.cu_seqlens, layout.max_seqlen
    reach = None if window is None else window - 1  # the subwords seen to each side
    output: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, rate, False, False,
        scale=scaling, window_size_left=reach, window_size_right=reach,
    )[0]  # fmt: skip
    return output


@cache
def can_use_varlen(device: Any, dtype: Any, width: int, *, is_windowed: bool = False) -> bool:
    """Return whether `_varlen_attention` gives the values and gradients of attention sequence by sequence.

    It is tried, because devices, types and widths that it supports depend on PyTorch and the hardware.
    """
    lengths, window, tolerance = [3, 40, 17, 1, 9], 6 if is_windowed else None, 0.05  # bf16 has 8 bits
    generator = torch.Generator().manual_seed(0)
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            # A resumed run makes the trial at another step, so it must leave the state of the generator alone.
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            layout = PackedLayout.of(lengths, device=device)
            drawn = torch.randn(3, sum(lengths), 2, width, generator=generator)
            flat, alone = (drawn.to(device, dtype).requires_grad_() for _ in range(2))
            q, k, v = flat.unbind()
            # With dropout it must only run: its random result has nothing to be compared with.
            torch.autograd.grad(_varlen_attention(q, k, v, layout, None, 0.1, window).sum(), flat)
            parts = [x.permute(0, 2, 1, 3) for x in torch.split(alone, lengths, dim=1)]  # (3, heads, length, width)
            at = torch.arange(max(lengths), device=device)
            is_seen = None if window is None else (at[:, None] - at).abs() < window
            outputs = [
                functional.scaled_dot_product_attention(p[0], p[1], p[2], None if is_seen is None else is_seen[:n, :n])
                for p, n in zip(parts, lengths, strict=True)
            ]
            expected = torch.cat([output.transpose(0, 1) for output in outputs])
            found = _varlen_attention(q, k, v, layout, None, 0.0, window)
            gradients = [
                torch.autograd.grad(output.float().square().sum(), into)[0]
                for output, into in ((found, flat), (expected, alone))
            ]
            return bool(
                torch.allclose(found, expected, atol=tolerance, rtol=tolerance)
                and torch.allclose(gradients[0], gradients[1], atol=10 * tolerance, rtol=tolerance)
            )
    except Exception:  # an operation that does not support this device may raise anything
        return False


def _mask_of(bucket: LengthBucket, sliding_window: int | None, like: Tensor) -> Tensor | None:
    """Return the additive mask of a bucket; a subword sees those less than `sliding_window` away (None: all)."""
    mask = bucket.mask
    if sliding_window is not None and bucket.length > sliding_window:
        at = torch.arange(bucket.length, device=like.device)
        band = torch.where((at[:, None] - at).abs() < sliding_window, 0.0, -torch.inf)
        # Padding might see nothing at all, and its NaN would spread through the gradient, so it sees itself.
        mask = band if mask is None else torch.where(at[:, None] == at, 0.0, band + mask)
    return mask if mask is None else mask.to(like.dtype)


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """Return (heads, subwords, width) of one row; heads that several queries share are repeated."""
    if x.shape[1] != num_heads:
        x = x.repeat_interleave(num_heads // x.shape[1], dim=1)
    return x.squeeze(0)  # not x[0]: the backward of indexing would copy the gradient into a tensor of zeros


def _by_head(x: Tensor, num_heads: int) -> Tensor:
    """Return (subwords * heads, width)."""
    return _heads(x, num_heads).transpose(0, 1).flatten(0, 1)


# The backward of index_select is a slow scatter-add. Each subword has exactly one cell, so the two gathers below use
# each other as backward instead.


class GatherToBuckets(Function):
    """(subwords * heads, width) to (cells * heads, width). Nothing attends to padding, so it passes no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: GatherIndex) -> Tensor:
        """Return the cells."""
        ctx.index = index
        return x.index_select(0, index.to_buckets)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        found = gradient.index_select(0, ctx.index.to_row)
        found[ctx.index.num_real :] = 0.0
        return found, None


class GatherToRow(Function):
    """(cells * heads, width) to (subwords * heads, width)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: GatherIndex) -> Tensor:
        """Return the subwords."""
        ctx.index = index
        return x.index_select(0, index.to_row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        return gradient.index_select(0, ctx.index.to_buckets).index_fill_(0, ctx.index.padding, 0.0), None


class ExplicitAttention(Function):
    """Attention with all scores in memory, in as few passes over them as PyTorch's operations allow."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, rate: float) -> Tensor:
        """Return the output, (sequences, heads, length, width)."""
        shape = (*q.shape[:-1], q.shape[-2])  # (sequences, heads, length, length)
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        scores = _scaled_product(q, k.transpose(1, 2), scaling)
        if mask is not None:
            scores.view(shape).add_(mask)
        probabilities = scores.softmax(-1)
        dropped = dropout_mask(probabilities, rate) if rate else None
        ctx.save_for_backward(q, k, v, probabilities, dropped)
        ctx.scaling = scaling
        return torch.bmm(_times(probabilities, dropped), v).view(*shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v."""
        q, k, v, probabilities, dropped = ctx.saved_tensors
        shape = gradient.shape
        gradient = gradient.flatten(0, 1)
        d_v = torch.bmm(_times(probabilities, dropped).transpose(1, 2), gradient)
        d_probabilities = _times(torch.bmm(gradient, v.transpose(1, 2)), dropped)
        d_scores = torch._softmax_backward_data(d_probabilities, probabilities, -1, probabilities.dtype)
        d_q = _scaled_product(d_scores, k, ctx.scaling)
        d_k = _scaled_product(d_scores.transpose(1, 2), q, ctx.scaling)
        return *(x.view(*shape[:-1], -1) for x in (d_q, d_k, d_v)), None, None, None


class KernelAttention(Function):
    """Attention within the sequences of a row, (heads, subwords, width), by the CPU kernel."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, task: kernels.Attention) -> Tensor:
        """Return the output."""
        output, statistics = task.forward(q, k, v, with_gradient=any(ctx.needs_input_grad))
        ctx.save_for_backward(q, k, v, statistics)
        ctx.task = task
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v."""
        return *ctx.task.backward(*ctx.saved_tensors, gradient), None


def _times(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor


def _scaled_product(a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return scaling * a @ b, (batch, n, m), in one pass; with beta=0 the first argument of baddbmm is not read."""
    ignored = a.new_empty(1).expand(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(ignored, a, b, beta=0, alpha=scaling)


def _make_mask(*arguments: Any, **options: Any) -> Any:
    """Return transformers' mask for "sdpa", or none in a packed forward: there the layout replaces the mask."""
    from transformers.masking_utils import sdpa_mask

    return None if _packed_forward.get() is not None else sdpa_mask(*arguments, **options)
