"""What a step frees the next one finds."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
from nerloop.run.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):  # an aligned block finds its place after some rounds
    before = faults()
    for size in (1 << 20, 1 << 24, 3 << 22):
        torch.ones(size)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(("is_kept", "least", "most"), [(True, 0, 100), (False, 10_000, 10**9)])
def test_pages_are_not_fetched_anew(is_kept, least, most):
    """Of 116 MiB, in pages of 4 KiB; transparent huge pages are left to those who ask for them."""
    command = [sys.executable, "-c", STEPS, "kept" if is_kept else "as ever"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most
