"""Set up the Accelerator, the precision and the threads of a launch; refuse launches that would train wrongly."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from nerloop.config import Config
from nerloop.distributed.precision import has_accelerator, resolve_precision
from nerloop.distributed.threads import set_threads
from nerloop.errors import ConfigError
from nerloop.kernels import bindings as kernels

if TYPE_CHECKING:
    from accelerate import Accelerator


log = logging.getLogger(__name__)

REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed (its engine steps on every micro-batch)",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def start(config: Config) -> tuple[Accelerator, str]:
    """Return the Accelerator and the precision ("no", "bf16", "fp16", "float64") of this launch.

    Sets the CPU threads and, where asked for, the deterministic algorithms. Raises ConfigError for launches that would
    not train exactly, before any process group is made.
    """
    precision = resolve_precision(config.train.mixed_precision)
    train = config.train
    return make_accelerator(precision, deterministic=train.deterministic, threads=train.threads), precision


def make_accelerator(precision: str, *, deterministic: bool = False, threads: int | None = None) -> Accelerator:
    """Return the Accelerator of this launch for a precision and set the threads, as `set_threads` does.

    Raises ConfigError as `start` does.
    """
    check_launch()
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    set_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)  # also switches it off: a notebook may train again without it
    # Our profile for several processes on CPUs says MULTI_GPU; accelerate only accepts that without a GPU if cpu=True.
    is_cpu_asked_for = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    join_after_restart()
    AcceleratorState._reset_state()  # a second training in one notebook may want another precision
    ddp = DistributedDataParallelKwargs(
        broadcast_buffers=False,  # no buffer of our models changes in training, so they are equal already
        gradient_as_bucket_view=True,  # gradients are summed in place, without a copy
    )
    accelerator = Accelerator(
        kwargs_handlers=[ddp],
        mixed_precision="fp16"
        if precision == "fp16"
        else "no",  # in bf16 and float64 the weights themselves have that type
        gradient_accumulation_steps=1,  # the loop divides by the tokens of the whole step itself
        cpu=is_cpu_asked_for or (world_size > 1 and not has_accelerator()),
    )
    if accelerator.num_processes != world_size:
        raise ConfigError(
            f"launch: WORLD_SIZE is {world_size}, but accelerate knows of {accelerator.num_processes} process(es), so "
            "each would work alone. On CPUs use launch/cpu_2_processes.yaml as a pattern"
        )
    if accelerator.device.type == "cpu":
        kernels.start(with_bf16=precision == "bf16")  # the compiler runs while modules are imported and data are read
        agree_on_kernels(accelerator, with_bf16=precision == "bf16")
    return accelerator


def join_after_restart() -> None:
    """Make the process group after a restart by --max_restarts; after a first start, accelerate makes it.

    The launcher's store outlives the processes and still holds the addresses of the dead ones. A new process that reads
    such an address waits forever. So the group of each restart uses its own prefix in the store.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarts == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch import distributed

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world_size == 1 or distributed.is_initialized():
        return
    store = distributed.TCPStore(address, port, world_size, is_master=False)  # type: ignore[attr-defined]
    own = distributed.PrefixStore(f"restart-{restarts}", store)  # type: ignore[attr-defined]
    distributed.init_process_group(store=own, rank=rank, world_size=world_size)


def check_launch() -> None:
    """Raise ConfigError for launches that would not train exactly, or not at all."""
    for variable, name in REFUSED.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise ConfigError(
                f"launch: the profile asks for {name}, which nerloop does not support; use launch/multi_gpu.yaml"
            )
    accumulation = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if accumulation != "1":
        raise ConfigError(
            f"launch: ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {accumulation}, expected 1: "
            "set --train.gradient_accumulation_steps instead, which keeps the batch as it is"
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if local > 1 and has_accelerator():
        import torch

        found = torch.accelerator.device_count()
        if os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true" and local > found:
            raise ConfigError(
                f"launch: {local} processes on this machine, but {found} device(s); start one for each device"
            )


def agree_on_kernels(accelerator: Accelerator, *, with_bf16: bool) -> None:
    """Switch the kernels off where a process has none: they round differently, and the weights would drift apart."""
    import torch
    from accelerate.utils import gather_object

    if accelerator.num_processes == 1:
        return
    types = [torch.float32, torch.bfloat16] if with_bf16 else [torch.float32]
    found = gather_object([all(kernels.is_supported(torch.empty(1, dtype=dtype)) for dtype in types)])
    if not all(found):
        kernels.switch_off()
    if any(found) and not all(found):
        log.warning("warning: %d of %d processes have no fused CPU kernels, so none uses them", found.count(False),
                    len(found))  # fmt: skip
