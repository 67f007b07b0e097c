"""What processes do together: errors of one end all, waiting has no limit of minutes, lost peers are told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nerloop.distributed import collectives

ROOT = Path(__file__).parents[2]
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] "

LOST = [
    torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1, remote process exited"),
    torch.distributed.DistNetworkError("The client socket has failed to connect"),
    torch.distributed.DistStoreError("wait timeout after 300000ms"),
    RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:1234"),
    RuntimeError(f"{GLOO}Read error [127.0.0.1]:1234: Connection reset by peer"),
    RuntimeError(f"{GLOO}Write error [127.0.0.1]:1234: Broken pipe"),
    RuntimeError("[/a/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation"),
]
OTHERS = [
    RuntimeError("the weights could not be restored"),
    RuntimeError("Socket is no name of a layer"),
    RuntimeError("NCCL is not installed"),
    RuntimeError("no such key in the store"),
    RuntimeError("[Errno 32] Broken pipe"),  # standard output's
    RuntimeError(f"{GLOO}op.nread <= op.preamble.length: a message of another size"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
]


@pytest.mark.parametrize("error", LOST, ids=str)
def test_a_lost_peer_is_recognised(monkeypatch, error):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert collectives.is_lost_peer(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_no_lost_peers(monkeypatch, error):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not collectives.is_lost_peer(error)


def test_one_process_has_no_peers(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not any(collectives.is_lost_peer(error) for error in LOST)


def test_the_line_of_a_lost_peer_ends_with_the_original_message():
    error = torch.distributed.DistBackendError("NCCL error:\nunhandled system error")
    assert collectives.lost_peer_line(error) == (
        "lost another process of this launch, which says above why if it could: "
        "DistBackendError: NCCL error: unhandled system error"
    )


SCRIPT = """
import sys, time
from datetime import timedelta
from pathlib import Path
import torch.distributed as dist
from nerloop.distributed import collectives
from nerloop.distributed.launch import make_accelerator
from nerloop.errors import DataError, NerloopError

def fail(kind):
    if kind is Odd:
        raise Odd(1, 2)
    raise kind("bad file")

class Odd(Exception):
    def __init__(self, a, b):  # which pickle can't make again
        super().__init__(f"{a} and {b}")

def outcome(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

dist.init_process_group("gloo", timeout=timedelta(seconds=3))  # as short as ten minutes are long
accelerator = make_accelerator("no")
rank = accelerator.process_index

def say(*parts):
    with open(Path(__file__).with_name(f"rank-{rank}"), "a") as file:
        print(*parts, file=file)

def slow():
    time.sleep(5 if rank == 0 else 0)
    return rank

say("slow", outcome(lambda: collectives.local_main_first(accelerator, slow)))
say("decided", outcome(lambda: collectives.broadcast_from_main(accelerator, slow)))
for kind in (DataError, TypeError, Odd):
    say("main", outcome(lambda: collectives.broadcast_from_main(accelerator, lambda: fail(kind))))
    for bad in (0, 1):
        build = lambda: fail(kind) if rank == bad else rank
        say(bad, outcome(lambda: collectives.local_main_first(accelerator, build)))
collectives.destroy_process_group()
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[str]]:
    """Return what two processes of a real launch had as outcomes, by rank."""
    script = tmp_path_factory.mktemp("collectives") / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    done = subprocess.run(
        [*launch, "--config_file", str(ROOT / "launch" / "cpu_2_processes.yaml"), str(script)],
        capture_output=True, text=True, timeout=250, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # A file each: two processes may write into each other's lines on one standard output.
    return {rank: script.with_name(f"rank-{rank}").read_text().splitlines() for rank in ("0", "1")}


@pytest.mark.processes
def test_waiting_for_another_process_takes_as_long_as_it_takes(said):
    assert [lines[:2] for lines in said.values()] == [["slow 0", "decided 0"], ["slow 1", "decided 0"]]


@pytest.mark.processes
def test_an_error_of_one_process_is_raised_by_all(said):
    elsewhere = "TrainingError: process {} of this launch failed: {}"
    kinds = ("TypeError: bad file", "Odd: 1 and 2")
    assert said["0"][2:] == [
        "main DataError: bad file", "0 DataError: bad file", "1 DataError: bad file",
        *(line for k in kinds for line in (f"main {k}", f"0 {k}", f"1 {elsewhere.format(1, k)}")),
    ]  # fmt: skip
    assert said["1"][2:] == [
        "main DataError: bad file", "0 DataError: bad file", "1 DataError: bad file",
        *(
            line
            for k in kinds
            for line in (f"main {elsewhere.format(0, k)}", f"0 {elsewhere.format(0, k)}", f"1 {k}")
        ),
    ]  # fmt: skip
