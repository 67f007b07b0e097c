"""Describe the machine and software of a run, for environment.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.kernels import bindings as kernels

if TYPE_CHECKING:
    from accelerate import Accelerator


VERSIONS = ("nerloop", "torch", "transformers", "accelerate", "datasets", "tokenizers", "seqeval", "numpy")


def memory_gib() -> float:
    """Return the peak memory so far in GiB: of the GPU, or of this process where there is only a CPU."""
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
    """Return the conditions that a resumed run must share to be bit-identical, on the same kind of machine."""
    import torch

    return {
        "num_processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "kernels": kernels.is_supported(torch.empty(1, device=accelerator.device)),
    }


def environment(accelerator: Accelerator, precision: str) -> dict[str, Any]:
    """Return the content of environment.json: versions, commit, hardware, processes, threads."""
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
    """Return the installed version of a distribution, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of nerloop's own source, with "+" appended if files differ from it; None outside git."""
    folder = Path(__file__).parents[1]
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=folder, capture_output=True)
        if tracked.returncode:
            return None
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain", "."], cwd=folder, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")
