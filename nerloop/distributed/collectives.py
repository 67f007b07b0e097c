"""Coordinate the processes of a launch: decide or build in one process for all, and notice that a process is lost.

torch is imported inside the functions: the commands need this module before they have parsed their flags.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nerloop.errors import NerloopError, TrainingError, printable

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

PATIENCE = timedelta(days=2)
"""How long a process waits for another one that reads and tokenizes. A process that dies is noticed at once."""

# gloo raises plain RuntimeErrors; each begins with its own source file: [.../gloo/transport/tcp/pair.cc:538] ...
LOST_PEER_PHRASES = (
    "Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "Timed out waiting",
    "timed out waiting", "timeout caused pair closure",
)  # fmt: skip

_host_group: Any = None  # see host_group

T = TypeVar("T")


def host_group() -> Any:
    """Return a group of all processes that uses the host's network and waits for days. The first call makes it.

    All processes must make the first call. On GPUs the gradients use a group of NCCL's, which ends a process that waits
    ten minutes for another one.
    """
    from torch import distributed

    global _host_group
    if _host_group is None:
        _host_group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return _host_group


def destroy_process_group() -> None:
    """Close the process groups, if there are any: Python may abort if it ends with an open one."""
    if "torch" not in sys.modules:  # an exported model needs none
        return
    from torch import distributed

    global _host_group
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    _host_group = None


class SingleProcess:
    """Takes the place of the Accelerator where one process tags. It changes no global state: notebooks need that."""

    num_processes, process_index, is_main_process = 1, 0, True

    def __init__(self, device: torch.device | None, precision: str) -> None:
        """Take the device (None: the CPU, without torch) and the precision ("no", "bf16", "fp16" or "float64")."""
        self.device, self._precision = device, precision

    @staticmethod
    def on_cpu() -> SingleProcess:
        """Return the one for float32 on the CPU."""
        import torch

        return SingleProcess(torch.device("cpu"), "no")

    def unwrap_model(self, model: Any) -> Any:
        """Return the model, which nothing has wrapped."""
        return model

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that computes in fp16 if that is the precision; in others, the weights have that type."""
        import torch

        assert self.device is not None
        return torch.autocast(self.device.type, torch.float16, enabled=self._precision == "fp16")


def gather(accelerator: Any, value: T) -> list[T]:
    """Return the value of every process, on every process, in the order of their ranks."""
    if accelerator.num_processes == 1:
        return [value]
    from torch import distributed

    found: list[T | None] = [None] * accelerator.num_processes
    distributed.all_gather_object(found, value, group=host_group())
    return cast(list[T], found)


def is_main() -> bool:
    """Whether this process is the first one of the whole launch."""
    return os.environ.get("RANK", "0") == "0"


def is_local_main() -> bool:
    """Return whether this process is the one of its machine that prints errors."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_lost_peer(error: RuntimeError) -> bool:
    """Return whether an error means that another process of the launch can't be reached any more."""
    from torch import distributed

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    if isinstance(error, distributed.DistBackendError | distributed.DistNetworkError | distributed.DistStoreError):
        return True
    text = str(error)
    return "gloo/" in text and any(phrase in text for phrase in LOST_PEER_PHRASES)


def lost_peer_line(error: RuntimeError) -> str:
    """Return the line for an error of `is_lost_peer`: what it means, and its own message."""
    reason = printable(" ".join(str(error).split()))
    return f"lost another process of this launch, which says above why if it could: {type(error).__name__}: {reason}"


def local_main_first(accelerator: Accelerator, build: Callable[[], T]) -> T:
    """Return what `build` returns. One process of each machine calls it first, so the others find what it cached.

    If it raises in one process, all processes raise.
    """
    if accelerator.num_processes == 1:
        return build()
    from torch import distributed

    built: T | None = None
    for is_turn in (accelerator.is_local_main_process, not accelerator.is_local_main_process):
        error: Exception | None = None
        try:
            built = build() if is_turn else built
        except Exception as found:
            error = found
        errors: list[NerloopError | None] = [None] * accelerator.num_processes
        distributed.all_gather_object(errors, _for_the_others(accelerator, error), group=host_group())
        if first := error or next((e for e in errors if e is not None), None):
            raise first
    return cast(T, built)


def broadcast_from_main(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """Return what `decide` returns on the main process, on every process. If it raises, all raise."""
    if accelerator.num_processes == 1:
        return decide()
    from torch import distributed

    decided: T | None = None
    error: Exception | None = None
    if accelerator.is_main_process:
        try:
            decided = decide()
        except Exception as found:
            error = found
    outcome = [decided, _for_the_others(accelerator, error)]
    distributed.broadcast_object_list(outcome, src=0, group=host_group())
    if error is not None or outcome[1] is not None:
        raise error or cast(NerloopError, outcome[1])
    return cast(T, outcome[0])


def _for_the_others(accelerator: Accelerator, error: Exception | None) -> NerloopError | None:
    """Return what the other processes raise where this one has an error.

    A NerloopError is the same on all of them. Another exception may not be picklable, and its traceback is printed by
    the process that raised it: the others raise a TrainingError that names both.
    """
    if error is None or isinstance(error, NerloopError):
        return error
    place = f"process {accelerator.process_index} of this launch failed"
    return TrainingError(f"{place}: {type(error).__name__}: {error}")
