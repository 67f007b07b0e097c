"""Call the fused CPU kernels: each makes one pass over memory where PyTorch's operations make several.

In a small encoder the operations between the matrix products take longer than the products, because each reads and
writes all activations. `compile.py` builds the kernels. Ask `is_supported` before calling any of them.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from nerloop.kernels import compile as compiling
from nerloop.types import Tensor

NO_WINDOW = 1 << 40  # a window longer than any sequence
CHUNK_SIZE = 1 << 14  # elements of a parameter: its weight, moments and gradient fit into a core's cache together
ADDRESSES = ("weight", "exp_avg", "exp_avg_sq", "gradient", "compute_weight")
HYPERPARAMETERS = ("step", "lr", "weight_decay")
# The struct `Chunk` of adamw.c: addresses, number of elements, hyperparameters. The order must be the same.
CHUNK = np.dtype([(name, np.int64) for name in (*ADDRESSES, "n")] + [(name, np.float64) for name in HYPERPARAMETERS])

start = compiling.start


@dataclass
class _Switch:
    is_off: bool = False


_switch = _Switch()


class _Heads(ctypes.Structure):
    """The struct `Heads` of attention.c. The order of the fields must be the same."""

    _fields_ = [("data", ctypes.c_void_p), ("head_stride", ctypes.c_int64), ("subword_stride", ctypes.c_int64)]

    @staticmethod
    def of(x: Tensor) -> Any:
        """Return a pointer to the struct for x, (heads, subwords, width), which must be contiguous along the width."""
        if x.stride(2) != 1:
            raise ValueError(f"expected heads that are contiguous along the width, found a stride of {x.stride(2)}")
        return ctypes.byref(_Heads(x.data_ptr(), x.stride(0), x.stride(1)))


class _Attention(ctypes.Structure):
    """The struct `Attention` of attention.c. The order of the fields must be the same."""

    _fields_ = [
        ("cu_seqlens", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("sequences", "heads", "width", "max_seqlen", "window")],
        ("scaling", ctypes.c_float),
        ("threshold", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("threads", ctypes.c_int64),
    ]


class DropoutSpec(NamedTuple):
    """Which elements dropout drops: those whose hash with the seed is below the threshold, rate * 2^32.

    The forward and the backward of an operation use the same spec, so no mask is stored.
    """

    threshold: int
    seed: int

    @staticmethod
    def of(rate: float) -> DropoutSpec:
        """Return the spec of a rate in [0, 1). Its seed is drawn from PyTorch's generator, unless the rate is 0."""
        threshold = round(rate * 2**32)
        return DropoutSpec(threshold, int(torch.randint(2**63 - 1, ())) if threshold else 0)


def switch_off() -> None:
    """Use no kernels from now on."""
    _switch.is_off = True


def is_supported(x: Tensor, *others: Tensor) -> bool:
    """Return whether the kernels take these tensors: all on the CPU and all float32, or all bf16."""
    return (
        str(x.dtype) in compiling.TYPES
        and all(tensor.device.type == "cpu" and tensor.dtype == x.dtype for tensor in (x, *others))
        and not _switch.is_off
        and compiling.library(str(x.dtype)) is not None
    )


def dropout(x: Tensor, spec: DropoutSpec) -> Tensor:
    """Return x, (..., width), with elements dropped and the others scaled up to keep the expectation."""
    x, y = x.contiguous(), x.new_empty(x.shape)
    _run("dropout", x, x, y, *_rows_and_width(x), *_dropout_and_threads(spec))
    return y


def gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact GELU of x (Hendrycks and Gimpel, 2016) and its derivative."""
    x, y, slope = x.contiguous(), x.new_empty(x.shape), x.new_empty(x.shape)
    _run("gelu", x, x, y, slope, x.numel(), *_dropout_and_threads())
    return y, slope


def add_and_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, spec: DropoutSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Return layer_norm(residual + dropout(x)) and the sum, both (..., width), and the sum's statistics, (rows, 2)."""
    x, residual = x.contiguous(), residual.contiguous()
    rows, width = _rows_and_width(x)
    y, total, statistics = x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(rows, 2, dtype=torch.float32)
    numbers = (rows, width, ctypes.c_float(epsilon), *_dropout_and_threads(spec))
    _run("add_and_norm", x, x, residual, weight, bias, total, y, statistics, *numbers)
    return y, total, statistics


def add_and_norm_backward(
    d_y: Tensor, total: Tensor, statistics: Tensor, weight: Tensor, spec: DropoutSpec
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, residual, weight and bias of `add_and_norm`, given the gradient of its output."""
    rows, width = _rows_and_width(total)
    d_residual = total.new_empty(total.shape)
    d_x = total.new_empty(total.shape) if spec.threshold else d_residual  # without dropout they are equal
    d_parameters = total.new_empty(torch.get_num_threads(), 2, width, dtype=torch.float32)
    tensors = (d_y.contiguous(), total, statistics, weight, d_x, d_residual, d_parameters)
    _run("add_and_norm_backward", total, *tensors, rows, width, *_dropout_and_threads(spec))
    d_weight, d_bias = d_parameters[0].to(weight.dtype)
    return d_x, d_residual, d_weight, d_bias


class ParameterChunks:
    """Parameters and their AdamW state, divided into chunks, which the threads share.

    The division does not depend on the number of threads, so neither do the norm and the update.
    """

    def __init__(self, parameters: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]) -> None:
        """Take, for each parameter: float32 weight, both moments, gradient, bf16 compute weight.

        All gradients have one type, float32 or bf16.
        """
        self._like = parameters[0][3]
        assert all(tensor.is_contiguous() for tensors in parameters for tensor in tensors)
        self._tensors = parameters  # the chunks hold addresses only: this keeps the memory alive
        sizes = np.array([tensors[0].numel() for tensors in parameters])
        counts = -(-sizes // CHUNK_SIZE)
        self._owners = np.repeat(np.arange(len(sizes)), counts)  # of each chunk: which parameter it belongs to
        # Of each chunk: its first element, counted within its parameter.
        starts = CHUNK_SIZE * (np.arange(len(self._owners)) - np.repeat(np.cumsum(counts) - counts, counts))
        self._chunks = np.zeros(len(self._owners), dtype=CHUNK)
        for column, name in enumerate(ADDRESSES):
            addresses = np.array([tensors[column].data_ptr() for tensors in parameters], dtype=np.int64)
            self._chunks[name] = addresses[self._owners] + starts * parameters[0][column].element_size()
        self._chunks["n"] = np.minimum(CHUNK_SIZE, sizes[self._owners] - starts)

    def norm(self) -> float:
        """Return the L2 norm of all gradients together."""
        sums = np.zeros(len(self._chunks))
        _run("sums_of_squares", self._like, self._chunks, len(self._chunks), sums, *_dropout_and_threads())
        return math.sqrt(sums.sum())

    def update(
        self, steps: Sequence[float], lrs: Sequence[float], weight_decays: Sequence[float],
        *, betas: tuple[float, float], epsilon: float, factor: float,
    ) -> None:  # fmt: skip
        """Make one AdamW update with the gradients times `factor`; the sequences have one value for each parameter.

        `steps` counts from 1, this update included.
        """
        for name, values in zip(HYPERPARAMETERS, (steps, lrs, weight_decays), strict=True):
            self._chunks[name] = np.asarray(values, dtype=np.float64)[self._owners]
        numbers = map(ctypes.c_double, (*betas, epsilon, factor))
        _run("adamw", self._like, self._chunks, len(self._chunks), *numbers, *_dropout_and_threads())
        # PyTorch does not see these writes. Autograd and the packed weights (modules.py) learn of them by the versions.
        written = [tensors[i] for tensors in self._tensors for i in (0, 1, 2, 4)]
        torch.autograd.graph.increment_version(written)


class Attention(NamedTuple):
    """Attention within each sequence of a packed row; queries, keys and values are (heads, subwords, width)."""

    cu_seqlens: Tensor  # (sequences + 1 or more,) int32 on the CPU
    num_sequences: int
    num_subwords: int  # of all sequences; output and gradients are 0 after them
    max_seqlen: int
    scaling: float
    window: int | None  # a subword only sees those less than this many subwords away; None: all
    dropout: DropoutSpec

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the output, and the statistics that `backward` needs."""
        output = self._new_heads(q)
        statistics = q.new_empty(q.shape[1], q.shape[0], 2, dtype=torch.float32) if with_gradient else None
        _run("attention_forward", q, self._as_struct(q), *map(_Heads.of, (q, k, v, output)), statistics)
        return output, statistics

    def backward(self, q: Tensor, k: Tensor, v: Tensor, statistics: Tensor, d_output: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of q, k and v, given that of the output."""
        d_output = d_output if d_output.stride(2) == 1 else d_output.contiguous()
        gradients = tuple(self._new_heads(x) for x in (q, k, v))
        arguments = (*map(_Heads.of, (q, k, v)), statistics, *map(_Heads.of, (d_output, *gradients)))
        _run("attention_backward", q, self._as_struct(q), *arguments)
        return gradients

    def _new_heads(self, like: Tensor) -> Tensor:
        """Return new heads in the memory order (subwords, heads, width), which the next linear layer reads as it is."""
        heads, subwords, width = like.shape
        out = like.new_empty(subwords, heads, width)
        out[self.num_subwords :] = 0.0
        return out.transpose(0, 1)

    def _as_struct(self, q: Tensor) -> Any:
        window = NO_WINDOW if self.window is None else self.window
        sizes = (self.num_sequences, q.shape[0], q.shape[2], self.max_seqlen, window)
        struct = _Attention(self.cu_seqlens.data_ptr(), *sizes, self.scaling, *self.dropout, torch.get_num_threads())
        return ctypes.byref(struct)


def _rows_and_width(x: Tensor) -> tuple[int, int]:
    return x.numel() // max(1, x.shape[-1]), x.shape[-1]


def _dropout_and_threads(spec: DropoutSpec | None = None) -> tuple[Any, ...]:
    """Return the last arguments of a kernel: threshold and seed if it has dropout, and the number of threads."""
    dropped = () if spec is None else (ctypes.c_uint32(spec.threshold), ctypes.c_uint64(spec.seed))
    return *dropped, torch.get_num_threads()


def _run(name: str, like: Tensor, *arguments: Any) -> None:
    """Call the kernel for the type of `like`. Raises RuntimeError if it can't allocate its workspace."""
    function = getattr(compiling.library(str(like.dtype)), name)
    function.restype = ctypes.c_int if name.startswith("attention") else None
    if function(*map(_as_c, arguments)):
        raise RuntimeError(f"the kernel {name} can't allocate its workspace: out of memory")


def _as_c(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_int64(argument) if type(argument) is int else argument
