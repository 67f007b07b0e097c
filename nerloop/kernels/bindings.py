"""The door to kernels.c: what a CPU does besides matrix products, in one pass over memory each.

PyTorch's operations take a pass each, and a small encoder spends more time between its matrix products than in them.
The file is compiled by the machine's own C compiler while a process starts (a second, beside the imports), into a
folder of its own that is gone once it is loaded: nothing is kept that could be out of date or tampered with. Without
GCC, or with NERLOOP_KERNELS=off, PyTorch's operations do it all, to the same effect.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerloop.types import Tensor

SOURCE = Path(__file__).with_name("kernels.c")
TYPES = {"torch.float32": 0, "torch.bfloat16": 1}  # by name, since importing torch takes seconds; BF16 in kernels.c
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-c")
NATIVE = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}
MAX_SECONDS = 60
FAR = 1 << 40  # a window that no sentence is as long as
PART = 1 << 14  # numbers of a parameter that are updated at a time
ADDRESSES = ("weight", "mean", "square", "gradient", "published")
NUMBERS = ("step", "rate", "decay")
PARTS = np.dtype([(name, np.int64) for name in (*ADDRESSES, "n")] + [(name, np.float64) for name in NUMBERS])

log = logging.getLogger(__name__)


class _Compilation(NamedTuple):
    """A compiler at work on the kernels of one type."""

    folder: tempfile.TemporaryDirectory[str]
    process: subprocess.Popen[bytes]


@dataclass
class _Switch:
    is_off: bool = False


_switch = _Switch()


class _Heads(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("head", ctypes.c_int64), ("subword", ctypes.c_int64)]

    @staticmethod
    def of(x: Tensor) -> Any:
        """Take (heads, subwords, width), whose numbers of a head and subword lie side by side."""
        if x.stride(2) != 1:
            raise ValueError(f"expected numbers side by side, found a stride of {x.stride(2)}")
        return ctypes.byref(_Heads(x.data_ptr(), x.stride(0), x.stride(1)))


class _Task(ctypes.Structure):
    _fields_ = [
        ("borders", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("sentences", "heads", "width", "longest", "window")],
        ("scaling", ctypes.c_float),
        ("threshold", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("threads", ctypes.c_int64),
    ]


class Dropping(NamedTuple):
    """What is dropped: a share of all elements, as a threshold of 2^32, by the hash of a seed."""

    threshold: int
    seed: int

    @staticmethod
    def of(share: float) -> Dropping:
        """Draw a seed by PyTorch's generator, unless nothing is dropped. The share is 0 to 1, but not 1."""
        import torch

        threshold = round(share * 2**32)
        return Dropping(threshold, int(torch.randint(2**63 - 1, ())) if threshold else 0)


def start(*, with_bf16: bool) -> None:
    """Start the compilers for float32 and, if asked for, bf16, where there are any."""
    for name in list(TYPES) if with_bf16 else ["torch.float32"]:
        _compilation(name)


def switch_off() -> None:
    """Do without kernels from now on."""
    _switch.is_off = True


def is_supported(x: Tensor, *others: Tensor) -> bool:
    """Whether there are kernels for tensors: all on the CPU and of one type that is float32 or bf16."""
    return (
        str(x.dtype) in TYPES
        and all(tensor.device.type == "cpu" and tensor.dtype == x.dtype for tensor in (x, *others))
        and not _switch.is_off
        and _library(str(x.dtype)) is not None
    )


def drop(x: Tensor, dropping: Dropping) -> Tensor:
    """Return x, (..., width), with elements dropped and the others scaled to make up for them."""
    x, y = x.contiguous(), x.new_empty(x.shape)
    _run("drop", x, x, y, *_rows_of(x), *_ends(dropping))
    return y


def gelu(x: Tensor, *, with_slope: bool) -> tuple[Tensor, Tensor | None]:
    """Return GELU (Hendrycks and Gimpel, 2016) of x, by the error function, and its slope if it is asked for."""
    x, y = x.contiguous(), x.new_empty(x.shape)
    slope = x.new_empty(x.shape) if with_slope else None
    _run("gelu", x, x, y, slope, x.numel(), *_ends())
    return y, slope


def add_and_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, dropping: Dropping
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the layer norm, (..., width), of residual + x with elements dropped; the sum, and (rows, 2) statistics."""
    import torch

    x, residual = x.contiguous(), residual.contiguous()
    rows, width = _rows_of(x)
    y, total, statistics = x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(rows, 2, dtype=torch.float32)
    numbers = (rows, width, ctypes.c_float(epsilon), *_ends(dropping))
    _run("add_and_norm", x, x, residual, weight, bias, total, y, statistics, *numbers)
    return y, total, statistics


def add_and_norm_gradient(
    of_y: Tensor, total: Tensor, statistics: Tensor, weight: Tensor, dropping: Dropping
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, residual, weight and bias of `add_and_norm`."""
    import torch

    rows, width = _rows_of(total)
    of_residual = total.new_empty(total.shape)
    of_x = total.new_empty(total.shape) if dropping.threshold else of_residual
    of_parameters = total.new_empty(torch.get_num_threads(), 2, width, dtype=torch.float32)
    tensors = (of_y.contiguous(), total, statistics, weight, of_x, of_residual, of_parameters)
    _run("add_and_norm_gradient", total, *tensors, rows, width, *_ends(dropping))
    of_weight, of_bias = of_parameters[0].to(weight.dtype)
    return of_x, of_residual, of_weight, of_bias


class Parts:
    """Parameters in training, cut into parts that fit into a core's cache, the same for any number of threads."""

    def __init__(self, parameters: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]) -> None:
        """Take float32 weight and moments, gradient, and bf16 weight of each; all gradients are of one type."""
        self._like = parameters[0][3]
        assert all(tensor.is_contiguous() for tensors in parameters for tensor in tensors)
        self._tensors = parameters  # so that what the addresses stand for stays
        sizes = np.array([tensors[0].numel() for tensors in parameters])
        counts = -(-sizes // PART)
        self._owners = np.repeat(np.arange(len(sizes)), counts)
        starts = PART * (np.arange(len(self._owners)) - np.repeat(np.cumsum(counts) - counts, counts))
        self._parts = np.zeros(len(self._owners), dtype=PARTS)
        for column, name in enumerate(ADDRESSES):
            addresses = np.array([tensors[column].data_ptr() for tensors in parameters], dtype=np.int64)
            self._parts[name] = addresses[self._owners] + starts * parameters[0][column].element_size()
        self._parts["n"] = np.minimum(PART, sizes[self._owners] - starts)

    def norm(self) -> float:
        """Return the norm of all gradients together."""
        sums = np.zeros(len(self._parts))
        _run("sums_of_squares", self._like, self._parts, len(self._parts), sums, *_ends())
        return math.sqrt(sums.sum())

    def update(
        self, steps: Sequence[float], rates: Sequence[float], decays: Sequence[float],
        *, betas: tuple[float, float], epsilon: float, factor: float,
    ) -> None:  # fmt: skip
        """Move each parameter by its gradient times a factor; given are its step, from 1, learning rate and decay."""
        for name, values in zip(NUMBERS, (steps, rates, decays), strict=True):
            self._parts[name] = np.asarray(values, dtype=np.float64)[self._owners]
        numbers = map(ctypes.c_double, (*betas, epsilon, factor))
        _run("update", self._like, self._parts, len(self._parts), *numbers, *_ends())


def _rows_of(x: Tensor) -> tuple[int, int]:
    """Return rows and width of (..., width)."""
    return x.numel() // max(1, x.shape[-1]), x.shape[-1]


def _ends(dropping: Dropping | None = None) -> tuple[Any, ...]:
    """Return the last arguments of a kernel: what is dropped, if it drops, and the number of threads."""
    import torch

    drawn = () if dropping is None else (ctypes.c_uint32(dropping.threshold), ctypes.c_uint64(dropping.seed))
    return *drawn, torch.get_num_threads()


class Attention(NamedTuple):
    """Attention within each sentence of a row: heads are (heads, subwords, width), and so are their gradients."""

    borders: Tensor  # (sentences + 1 or more,) int32 on the CPU
    num_sentences: int
    num_subwords: int  # of the sentences; the output is 0 behind them
    longest: int
    scaling: float
    window: int | None  # each subword sees those less than so many subwords away
    dropping: Dropping

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """Return the output, and what `backward` needs."""
        import torch

        output = self._empty(q)
        statistics = q.new_empty(q.shape[1], q.shape[0], 2, dtype=torch.float32) if with_gradient else None
        _run("attend", q, self._task(q), *map(_Heads.of, (q, k, v, output)), statistics)
        return output, statistics

    def backward(self, q: Tensor, k: Tensor, v: Tensor, statistics: Tensor, of_output: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of q, k and v for that of the output."""
        of_output = of_output if of_output.stride(2) == 1 else of_output.contiguous()
        gradients = tuple(self._empty(x) for x in (q, k, v))
        given = (*map(_Heads.of, (q, k, v)), statistics, *map(_Heads.of, (of_output, *gradients)))
        _run("attend_gradient", q, self._task(q), *given)
        return gradients

    def _empty(self, like: Tensor) -> Tensor:
        """Return heads whose subwords lie one after the other, as a linear layer takes them."""
        heads, subwords, width = like.shape
        out = like.new_empty(subwords, heads, width)
        out[self.num_subwords :] = 0.0
        return out.transpose(0, 1)

    def _task(self, q: Tensor) -> Any:
        import torch

        window = FAR if self.window is None else self.window
        sizes = (self.num_sentences, q.shape[0], q.shape[2], self.longest, window)
        task = _Task(self.borders.data_ptr(), *sizes, self.scaling, *self.dropping, torch.get_num_threads())
        return ctypes.byref(task)


def _run(name: str, like: Tensor, *arguments: Any) -> None:
    """Call a kernel of the type of a tensor."""
    getattr(_library(str(like.dtype)), name)(*map(_as_c, arguments))


def _as_c(argument: Any) -> Any:
    if hasattr(argument, "data_ptr"):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_int64(argument) if type(argument) is int else argument


@cache
def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or "cc")


@cache
def _compilation(name: str) -> _Compilation | None:
    """Start the compiler for a type. None where there is none, or where it is not wanted."""
    if os.environ.get("NERLOOP_KERNELS", "").lower() == "off" or sys.platform != "linux":
        return None
    folder = None
    try:
        if not _compiler() or shutil.which(_compiler()[0]) is None:
            return None
        folder = tempfile.TemporaryDirectory(prefix="nerloop-kernels-")
        flags = [*FLAGS, *NATIVE.get(platform.machine(), ()), f"-DBF16={TYPES[name]}"]
        command = [*_compiler(), *flags, str(SOURCE), "-o", f"{folder.name}/kernels.o"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except (OSError, ValueError) as error:
        if folder is not None:
            folder.cleanup()
        _report(str(error))
        return None
    return _Compilation(folder, process)


@cache
def _library(name: str) -> Any:
    """Return the kernels of a type; None, and said once, where they can't be had."""
    import torch  # noqa: F401  its pool of threads is the one that the kernels find when they are loaded

    if (compilation := _compilation(name)) is None:
        return None
    folder, process = compilation
    try:
        said, _ = process.communicate(timeout=MAX_SECONDS)
        # Linked by itself: with -fopenmp it would bring along another pool of threads, which fights with PyTorch's.
        linked = f"{folder.name}/kernels.so"
        command = [*_compiler(), "-shared", f"{folder.name}/kernels.o", "-lm", "-o", linked]
        if not process.returncode:
            link = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(command, **link)  # type: ignore[call-overload]
            said, _ = process.communicate(timeout=MAX_SECONDS)
        if process.returncode:
            lines = said.decode(errors="replace").splitlines()
            raise OSError(next((line for line in lines if "error" in line), f"{_compiler()[0]} failed"))
        return ctypes.CDLL(linked)
    except (OSError, subprocess.SubprocessError) as error:
        process.kill()
        _report(str(error))
        return None
    finally:
        folder.cleanup()


def _report(problem: str) -> None:
    log.info("no kernels of our own on this CPU, which costs speed alone: %s", " ".join(problem.split())[:200])
