"""Attention over sentences laid end to end without padding: each attends to itself alone.

Models of transformers look up their attention by name (`AttentionInterface`), so none has to be changed: under the name
NAME it is `attend`. Sentences of about the same length are attended to together, as a stack with little padding; all
else in the model works on subwords by themselves and sees no padding at all. On CUDA devices, in bf16 and fp16, one
kernel (FlashAttention's for sequences of different lengths) takes them as they lie, where a trial shows that it can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.dropout import dropout as drop
from nerloop.types import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "nerloop_unpadded"
SLACK = 1.3
"""How much longer than its shortest sentence the longest of a stack may be."""
SHORT = 16
"""Sentences up to this length share a stack: one call more would cost more than their padding."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Sentences that are attended to together: `num_sentences` rows of `length` cells, from cell `start` on."""

    start: int
    num_sentences: int
    length: int
    mask: Tensor | None  # (num_sentences, 1, 1, length), added to the scores; None: no padding

    @property
    def stop(self) -> int:
        """The cell behind the last."""
        return self.start + self.num_sentences * self.length


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the subwords of a row of sentences go in the stacks, and where they come back from."""

    stacks: Sequence[Stack]
    subwords: Tensor  # (cells,) the subword of each cell; in padding, some subword of the same sentence
    cells: Tensor  # (subwords,) the cell of each subword
    borders: Tensor  # (sentences + 1,) int32, where each sentence starts in the row, and the end of the last
    longest: int  # subwords of the longest sentence

    @staticmethod
    def of(lengths: Sequence[int], device: Any = None) -> Layout:
        """Return the layout of sentences of these lengths, end to end in one row."""
        import torch

        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        order = np.argsort(-np.asarray(lengths), kind="stable")
        stacks: list[Stack] = []
        subwords: list[np.ndarray] = []
        cells = np.empty(sum(lengths), dtype=np.int64)
        at = start = 0
        while at < len(order):
            longest = lengths[order[at]]
            shortest = 1 if longest <= SHORT else longest / SLACK
            stop = at + 1
            while stop < len(order) and lengths[order[stop]] >= shortest:
                stop += 1
            members = order[at:stop]
            within = np.arange(longest)
            is_real = within < np.asarray(lengths)[members][:, None]
            subword = np.where(is_real, starts[members][:, None] + within, starts[members][:, None])
            cells[subword[is_real]] = start + np.flatnonzero(is_real)
            mask = None
            if not is_real.all():
                mask = torch.where(torch.from_numpy(is_real), 0.0, -torch.inf)[:, None, None, :].to(device)
            stacks.append(Stack(start, len(members), int(longest), mask))
            subwords.append(subword.ravel())
            at, start = stop, stacks[-1].stop
        borders = np.append(starts, sum(lengths)).astype(np.int32)
        of_cells, of_subwords, of_sentences = (
            torch.from_numpy(x).to(device) for x in (np.concatenate(subwords), cells, borders)
        )
        return Layout(stacks, of_cells, of_subwords, of_sentences, int(max(lengths)))


_layout: Layout | None = None  # of the forward under way
_is_used = False  # whether a layer has attended by it


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
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


def use(model: PreTrainedModel) -> None:
    """Let a model attend by `attend`: outside `laid_out` that is PyTorch's own attention ("sdpa")."""
    from transformers import AttentionInterface, AttentionMaskInterface

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
    num_subwords, num_heads = query.shape[2], query.shape[1]
    global _is_used
    _is_used = True
    rate = dropout if module.training else 0.0
    if query.is_cuda and sliding_window is None and can_attend_flat(query.device, query.dtype, query.shape[3]):
        flat = [_by_subword(x, num_heads).view(num_subwords, num_heads, -1) for x in (query, key, value)]
        return _attend_flat(flat[0], flat[1], flat[2], _layout, scaling, rate)[None], None
    stacked, unstacked = _moves()
    rows = [stacked.apply(_by_subword(x, num_heads), _layout) for x in (query, key, value)]
    outputs = []
    for stack in _layout.stacks:
        shape = (stack.num_sentences, stack.length, num_heads, -1)
        q, k, v = (x[stack.start : stack.stop].view(shape).transpose(1, 2) for x in rows)
        output = _attend(q, k, v, _mask_of(stack, sliding_window, q), scaling, rate)
        outputs.append(output.transpose(1, 2).reshape(-1, num_heads * output.shape[-1]))
    joined = outputs[0] if len(outputs) == 1 else _cat(outputs)
    return unstacked.apply(joined, _layout).view(1, num_subwords, num_heads, -1), None


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, dropout: float) -> Tensor:
    """Return the output, (sentences, heads, length, width), of one stack."""
    from torch.nn import functional

    if dropout == 0.0 or q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scores = (q * (scaling or q.shape[-1] ** -0.5)) @ k.transpose(-1, -2)  # (sentences, heads, length, length)
    if mask is not None:
        scores = scores + mask
    return drop(scores.softmax(-1), dropout) @ v


def _attend_flat(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scaling: float | None, dropout: float) -> Tensor:
    """Return the output, (subwords, heads, width), of all sentences at once: q, k and v are shaped alike.

    `torch.nn.attention.varlen` is the public door to this kernel, but without dropout.
    """
    import torch

    borders, longest = layout.borders, layout.longest
    output: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, borders, borders, longest, longest, dropout, False, False, scale=scaling
    )[0]
    return output


@cache
def can_attend_flat(device: Any, dtype: Any, width: int) -> bool:
    """Whether `_attend_flat` gives on a device what attention gives sentence by sentence, values and gradients.

    A trial tells: which devices, types and widths the kernel takes depends on PyTorch and on the hardware.
    """
    import torch
    from torch.nn import functional

    lengths, tolerance = [3, 40, 17], 0.05  # bf16 has 8 bits
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            layout = Layout.of(lengths, device)
            drawn = torch.randn(3, sum(lengths), 2, width, generator=generator)
            flat, alone = (drawn.to(device, dtype).requires_grad_() for _ in range(2))
            q, k, v = flat.unbind()
            torch.autograd.grad(_attend_flat(q, k, v, layout, None, 0.1).sum(), flat)
            parts = [x.permute(0, 2, 1, 3) for x in torch.split(alone, lengths, dim=1)]  # (3, heads, length, width)
            expected = torch.cat([functional.scaled_dot_product_attention(*p).transpose(0, 1) for p in parts])
            found = _attend_flat(q, k, v, layout, None, 0.0)
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


def _by_subword(x: Tensor, num_heads: int) -> Tensor:
    """Return (subwords, heads * width); heads that several share are repeated."""
    if x.shape[1] != num_heads:
        x = x.repeat_interleave(num_heads // x.shape[1], dim=1)
    return x[0].transpose(0, 1).flatten(1)


@cache
def _moves() -> tuple[Any, Any]:
    """Return the moves into the stacks and back, as autograd functions: a plain gather's gradient is a slow scatter."""
    from torch.autograd import Function

    class Stacked(Function):
        """(subwords, n) to (cells, n); no gradient comes from padding, since nothing attends to or from it."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, layout: Layout) -> Tensor:
            ctx.layout = layout
            return x.index_select(0, layout.subwords)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient.index_select(0, ctx.layout.cells), None

    class Unstacked(Function):
        """(cells, n) to (subwords, n)."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, layout: Layout) -> Tensor:
            ctx.layout = layout
            return x.index_select(0, layout.cells)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            layout = ctx.layout
            whole = gradient.new_zeros(len(layout.subwords), gradient.shape[1])
            return whole.index_copy_(0, layout.cells, gradient), None

    return Stacked, Unstacked


def _cat(parts: list[Tensor]) -> Tensor:
    import torch

    return torch.cat(parts)


def _mask(*arguments: Any, **options: Any) -> Any:
    from transformers.masking_utils import sdpa_mask

    return None if _layout is not None else sdpa_mask(*arguments, **options)
