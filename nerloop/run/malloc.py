"""Call C functions that Python does not offer: set up malloc, and ask for a signal when the parent process dies."""

from __future__ import annotations

import platform

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def signal_when_parent_dies(number: int) -> None:
    """Ask for a signal at the death of the parent process. Linux only."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory, so that the next step reuses it. Does nothing with another C library.

    Training on a CPU allocates the same large tensors in every step. By default glibc returns them to the system and
    maps them again; the page faults took a third of a step of a small encoder on a virtual machine.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, -1)  # -1: never return memory to the system
    mallopt(M_MMAP_MAX, 0)  # 0: take all memory from the heap
