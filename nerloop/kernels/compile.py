"""Compile the CPU kernels (kernels.c and its parts) with the machine's C compiler, and load them.

`start` launches the compiler, which takes about a second, while the process imports PyTorch. So this module must not
import torch. The library is built in a temporary folder that is deleted as soon as it is loaded: there is no cache that
could be out of date or tampered with.

The environment variable NERLOOP_KERNELS chooses what is built: "off" for nothing, else a name that the compiler's
-march takes, such as x86-64-v3 (AVX2, no AVX-512). If it is not set, they are built for the machine's own architecture.
Without Linux or a C compiler there are no kernels, and PyTorch's operations do the same work more slowly.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("kernels.c")
TYPES = {"torch.float32": 0, "torch.bfloat16": 1}  # dtype name -> the macro BF16 of common.h
# Without errno and floating point traps, square roots and comparisons vectorise. Not -ffast-math: the kernels rely on
# infinity and NaN.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-c")
# By default GCC uses vectors of 256 bits, also on CPUs with AVX-512.
NATIVE = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}
TIMEOUT_SECONDS = 60

log = logging.getLogger(__name__)


class Compilation(NamedTuple):
    """A running compiler and the folder that it writes to."""

    folder: tempfile.TemporaryDirectory[str]
    process: subprocess.Popen[bytes]


def start(*, with_bf16: bool) -> None:
    """Start the compiler for float32 and, if asked for, bf16; return without waiting for it."""
    for dtype in list(TYPES) if with_bf16 else ["torch.float32"]:
        compilation(dtype)


@cache
def library(dtype: str) -> ctypes.CDLL | None:
    """Return the kernels of a type once the compiler is done; None, with one line in the log, if it failed.

    The caller must have imported torch, so that the kernels find its OpenMP threads when they are loaded.
    """
    if (running := compilation(dtype)) is None:
        return None
    folder, process = running
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        # Link without -fopenmp: it would load a second OpenMP library, whose threads compete with PyTorch's.
        linked = f"{folder.name}/kernels.so"
        if not process.returncode:
            process = _popen([*_compiler(), "-shared", f"{folder.name}/kernels.o", "-lm", "-o", linked])
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        if process.returncode:
            lines = output.decode(errors="replace").splitlines()
            raise OSError(next((line for line in lines if "error" in line), f"{_compiler()[0]} failed"))
        return ctypes.CDLL(linked)
    except (OSError, subprocess.SubprocessError) as error:
        process.kill()
        _report(str(error))
        return None
    finally:
        folder.cleanup()


@cache
def compilation(dtype: str) -> Compilation | None:
    """Start the compiler for a type and return it; None if there is no compiler, or kernels are switched off."""
    if os.environ.get("NERLOOP_KERNELS", "").lower() == "off" or sys.platform != "linux":
        return None
    folder = None
    try:
        if not _compiler() or shutil.which(_compiler()[0]) is None:
            return None
        folder = tempfile.TemporaryDirectory(prefix="nerloop-kernels-")
        flags = [*FLAGS, *_architecture(), f"-DBF16={TYPES[dtype]}"]
        return Compilation(folder, _popen([*_compiler(), *flags, str(SOURCE), "-o", f"{folder.name}/kernels.o"]))
    except (OSError, ValueError) as error:
        if folder is not None:
            folder.cleanup()
        _report(str(error))
        return None


@cache
def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or "cc")


def _architecture() -> tuple[str, ...]:
    chosen = os.environ.get("NERLOOP_KERNELS", "")
    return (f"-march={chosen}",) if chosen else NATIVE.get(platform.machine(), ())


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _report(problem: str) -> None:
    log.info("the CPU kernels can't be built, training is slower without them: %s", " ".join(problem.split())[:200])
