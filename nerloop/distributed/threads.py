"""Set the CPU threads of a process: how many, and how they wait for each other.

torch is imported inside the functions: `limit_spinning` has to run before torch loads its OpenMP runtime.
"""

from __future__ import annotations

import os
from pathlib import Path

LAUNCHER_VARIABLES = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Set in the processes that torchrun and `accelerate launch` start."""

SPIN_COUNT = "10000"
"""Turns of its waiting loop that an idle OpenMP thread makes before it sleeps: about half a millisecond.

With libgomp's default, 300,000, training beside two busy processes becomes several times slower. With 1,000, which
libgomp itself uses if threads outnumber cores, threads sleep so often that small batches take some 15% longer.
"""

TOPOLOGY = Path("/sys/devices/system/cpu")


def is_launched() -> bool:
    """Return whether a launcher (torchrun, accelerate) started this process."""
    return any(name in os.environ for name in LAUNCHER_VARIABLES)


def limit_spinning() -> None:
    """Let idle OpenMP threads sleep soon, so that other busy processes cost little speed. Call it before torch loads.

    The threads of a parallel loop wait for its slowest one. By default they spin for milliseconds, on cores that the
    slowest may be waiting for. What the user has set in the environment is left alone.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def set_threads(threads: int | None = None) -> int:
    """Set and return the CPU threads of this process: `threads`, else OMP_NUM_THREADS, else its share of the cores.

    A launcher passes OMP_NUM_THREADS=1 to its processes unless the user has set another number, so 1 is ignored
    there. torch.set_num_threads replaces it: OpenMP (torch's and our kernels'), MKL and oneDNN follow torch. Without a
    launcher torch's number is kept: all cores, or what OMP_NUM_THREADS or a notebook asks for. Tokenizers have threads
    of their own, as many as there are cores (RAYON_NUM_THREADS).
    """
    import torch

    if threads is None:
        if not is_launched() and _of_environment("WORLD_SIZE") == 1:
            return torch.get_num_threads()
        asked = _of_environment("OMP_NUM_THREADS")
        threads = asked if asked > 1 else max(1, num_cores() // _of_environment("LOCAL_WORLD_SIZE"))
    torch.set_num_threads(threads)
    return threads


def num_threads() -> int:
    """Return the CPU threads for a runtime other than torch: OMP_NUM_THREADS, else this process's share of the cores.

    It is the number that `set_threads` would set, found without torch.
    """
    asked = _of_environment("OMP_NUM_THREADS")
    if "OMP_NUM_THREADS" in os.environ and (asked > 1 or not is_launched()):
        return asked
    return max(1, num_cores() // _of_environment("LOCAL_WORLD_SIZE"))


def num_cores() -> int:
    """Return the physical cores that this process may use, as torch's own default counts them."""
    if not hasattr(os, "sched_getaffinity"):  # macOS, Windows
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    try:  # the processors of one core (hyper-threads) name the same siblings
        siblings = {(TOPOLOGY / f"cpu{p}/topology/thread_siblings_list").read_text() for p in processors}
    except OSError:  # not everywhere inside containers
        return len(processors)
    return len(siblings)


def _of_environment(name: str) -> int:
    """Return the number in an environment variable, else 1. Of a list for nested loops it is the first: "4,2" -> 4."""
    value = os.environ.get(name, "").partition(",")[0].strip()
    return max(1, int(value)) if value.isdecimal() else 1
