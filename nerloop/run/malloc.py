"""What the C library can do and Python has no name for."""

from __future__ import annotations

import platform

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def signal_when_parent_dies(number: int) -> None:
    """Ask for a signal at the death of the parent process. Linux only."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def keep_freed_memory() -> None:
    """Let a step find the memory that the one before has freed, instead of page by page anew from the system.

    A training on the CPU allocates the same large tensors over and over. glibc takes each from the system and hands it
    back; the faults took a third of a step of a small encoder on a virtual machine. Elsewhere this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, -1)  # never hand back
    mallopt(M_MMAP_MAX, 0)  # all from the heap
