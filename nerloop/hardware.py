"""What the run was launched on: Accelerator, precision, threads; launches that would train wrongly are refused."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nerloop import kernels
from nerloop.config import Config
from nerloop.errors import ConfigError, NerloopError
from nerloop.libc import keep_freed_memory

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

log = logging.getLogger(__name__)

REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed (its engine steps on every micro-batch)",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
VERSIONS = ("nerloop", "torch", "transformers", "accelerate", "datasets", "tokenizers", "seqeval", "numpy")


def start(config: Config) -> tuple[Accelerator, str]:
    """Return the Accelerator and the precision ("no", "bf16", "fp16", "float64") of this launch.

    Sets the threads and, where asked for, the deterministic algorithms. Raises ConfigError for launches that nerloop
    does not train exactly under, before any process group is made.
    """
    precision = resolve_precision(config.train.mixed_precision)
    return make_accelerator(precision, deterministic=config.train.deterministic), precision


def make_accelerator(precision: str, *, deterministic: bool = False) -> Accelerator:
    """Return the Accelerator of this launch for a precision. Raises ConfigError as `start` does."""
    check_launch()
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        # The launcher gives each rank one thread; share the machine's cores out instead.
        torch.set_num_threads(cores_per_process())
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)  # off again where a notebook trains a second time
    # Without an accelerator, a MULTI_GPU launch is several processes on the CPU; accelerate has to be told.
    is_cpu_asked_for = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    join_after_restart()
    AcceleratorState._reset_state()  # a second training in one notebook may want another precision
    ddp = DistributedDataParallelKwargs(
        broadcast_buffers=False,  # they are the same on all processes: none of our models' learns
        gradient_as_bucket_view=True,  # what is summed up over the processes needs no copy
    )
    accelerator = Accelerator(
        kwargs_handlers=[ddp],
        mixed_precision="fp16" if precision == "fp16" else "no",  # bf16 and float64 are the weights' own (weights.py)
        gradient_accumulation_steps=1,  # the loop divides by the tokens of the whole step itself
        cpu=is_cpu_asked_for or (world_size > 1 and not has_accelerator()),
    )
    if accelerator.num_processes != world_size:
        raise ConfigError(
            f"launch: WORLD_SIZE is {world_size}, but accelerate knows of {accelerator.num_processes} process(es), so "
            "each would work alone. On CPUs use launch/cpu_2_processes.yaml as a pattern"
        )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        kernels.start(with_bf16=precision == "bf16")  # the compiler works while more is imported and read
        agree_on_kernels(accelerator, with_bf16=precision == "bf16")
    return accelerator


def agree_on_kernels(accelerator: Accelerator, *, with_bf16: bool) -> None:
    """Do without kernels where one process has none: what they round in other ways would never be made equal again."""
    import torch
    from accelerate.utils import gather_object

    if accelerator.num_processes == 1:
        return
    types = [torch.float32, torch.bfloat16] if with_bf16 else [torch.float32]
    found = gather_object([all(kernels.can(torch.empty(1, dtype=dtype)) for dtype in types)])
    if not all(found):
        kernels.switch_off()
    if any(found) and not all(found):
        log.warning("warning: %d of %d processes have no kernels of our own; none uses them", found.count(False),
                    len(found))  # fmt: skip


def join_after_restart() -> None:
    """Make the process group of a launch that --max_restarts started once more; accelerate makes that of a first one.

    The launcher's store outlives the processes, and with it, under the names that the new ones would use, the addresses
    of the dead: a new process that found one of them would wait for it in vain.
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


def leave() -> None:
    """Close this process's end of the group, if there is one: Python may abort when it ends with the group open."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def speaks() -> bool:
    """Whether this process is the one of its machine that tells errors to the terminal."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether an error means that another process of the launch can't be reached any more."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Socket", "store")
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(sign in str(error) for sign in signs)


def check_launch() -> None:
    """Raise ConfigError for launches that can't be exact."""
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
            raise ConfigError(f"launch: {local} processes on this machine, but {found} device(s); start one a device")


def has_accelerator() -> bool:
    """Whether torch sees a device other than the CPU."""
    import torch

    return bool(torch.accelerator.is_available())


def resolve_precision(setting: str) -> str:
    """Return "no", "bf16", "fp16" or "float64" for `train.mixed_precision`. Raises ConfigError."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no") if setting == "profile" else setting
    if precision == "auto":
        return "bf16" if has_bf16() else "no"
    if precision not in ("no", "bf16", "fp16", "float64"):
        raise ConfigError(f"train.mixed_precision: the profile asks for {precision!r}, expected no, bf16 or fp16")
    if precision == "fp16" and not has_accelerator():
        raise ConfigError("train.mixed_precision: found fp16, which needs a GPU; use bf16 or no on a CPU")
    return precision


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def hint_at_bf16(config: Config, precision: str) -> None:
    """Say what `train.mixed_precision auto` would gain where the profile says "no", which may be nobody's wish."""
    if config.train.mixed_precision == "profile" and precision == "no" and has_bf16():
        gain = "" if has_accelerator() else f" {bf16_gain():.1f} times as fast as float32"
        log.info("hint: this machine multiplies bf16%s; --train.mixed_precision auto makes use of it", gain)


def bf16_gain() -> float:
    """Return how many times as fast as float32 this CPU multiplies bf16 matrices, measured in some milliseconds."""
    import torch

    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(256, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
        times = []
        for _ in range(4):  # the first call sets things up
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times[1:])
    return seconds[torch.float32] / seconds[torch.bfloat16]


def cores_per_process() -> int:
    """Return the CPU cores of this machine that each of its processes may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def memory_gib() -> float:
    """Return the most memory used so far, in GiB: the device's, or this process's where there is only the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB here


def computed_on(accelerator: Accelerator) -> dict[str, Any]:
    """Return what a resumed run must have as it was to go on to the same bits, on the same kind of machine."""
    import torch

    return {
        "num_processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "kernels": kernels.can(torch.empty(1, device=accelerator.device)),
    }


def environment(accelerator: Accelerator, precision: str) -> dict[str, Any]:
    """Return what a run can be told by, for environment.json: versions, commit, hardware, processes, threads."""
    import torch

    return {
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in VERSIONS}},
        "commit": git_commit(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        **computed_on(accelerator),
        "num_machines": int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        "distributed_type": str(accelerator.distributed_type.value),
        "precision": precision,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "command": sys.argv,
    }


def version_of(name: str) -> str | None:
    """Return the installed version of a distribution, None where it runs from source alone."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit that nerloop's own source is at, with "+" behind it where files differ; None outside git."""
    folder = Path(__file__).parent
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=folder, capture_output=True)
        if tracked.returncode:
            return None
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain", "."], cwd=folder, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


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


def main_decides(accelerator: Accelerator, decide: Callable[[], T]) -> T:
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
