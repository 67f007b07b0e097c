"""What processes of a launch do together: decide once, build once, notice a lost one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nerloop.errors import NerloopError

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


T = TypeVar("T")


def agree_on_kernels(accelerator: Accelerator, *, with_bf16: bool) -> None:
    """Do without kernels where one process has none: what they round in other ways would never be made equal again."""
    import torch
    from accelerate.utils import gather_object

    from nerloop.kernels import bindings as kernels

    if accelerator.num_processes == 1:
        return
    types = [torch.float32, torch.bfloat16] if with_bf16 else [torch.float32]
    found = gather_object([all(kernels.is_supported(torch.empty(1, dtype=dtype)) for dtype in types)])
    if not all(found):
        kernels.switch_off()
    if any(found) and not all(found):
        log.warning("warning: %d of %d processes have no kernels of our own; none uses them", found.count(False),
                    len(found))  # fmt: skip


def destroy_process_group() -> None:
    """Close this process's end of the group, if there is one: Python may abort when it ends with the group open."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def is_local_main() -> bool:
    """Whether this process is the one of its machine that tells errors to the terminal."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether an error means that another process of the launch can't be reached any more."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Socket", "store")
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(sign in str(error) for sign in signs)


def local_main_first(accelerator: Accelerator, build: Callable[[], T]) -> T:
    """Return what `build` returns, called first by one process of each machine: the others find what that one cached.

    An error of ours in one process is raised on all of them.
    """
    from accelerate.utils import gather_object

    built: T | None = None
    error: NerloopError | None = None
    for is_turn in (accelerator.is_local_main_process, not accelerator.is_local_main_process):
        try:
            built = build() if is_turn and error is None else built
        except NerloopError as found:
            error = found
        error = next((e for e in gather_object([error]) if e is not None), None)
    if error is not None:
        raise error
    return cast(T, built)


def broadcast_from_main(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """Return what `decide` returns on the main process, on every process; an error of ours is raised on all of them."""
    from accelerate.utils import broadcast_object_list

    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = decide()
        except NerloopError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    decided: T = outcome[0]
    return decided
