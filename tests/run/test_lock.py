"""One process trains in a folder at a time."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nerloop.errors import ConfigError
from nerloop.run.lock import LOCK, FolderLock

fcntl = pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from nerloop.run.lock import FolderLock
{before}
with FolderLock() as lock:
    lock.take(Path(sys.argv[1]))
    {inside}
    print("taken", flush=True)
    {until}
print("left", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "run" / LOCK).parent.mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def hold(folder) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a process which holds the lock of the folder until it is told to leave."""
    holders = []

    def start(*, before: str = "", inside: str = "", until: str = "sys.stdin.readline()") -> subprocess.Popen[str]:
        code = HOLD.format(before=before, inside=inside, until=until)
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        holders.append(holder)
        assert holder.stdout.readline() == "taken\n"
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()


def take(folder: Path, **options: float) -> None:
    with FolderLock() as lock:
        lock.take(folder, **options)


def test_a_free_folder_is_taken_again_and_again(folder):
    for _ in range(3):
        take(folder)
    assert (folder / LOCK).read_bytes() == b""


def test_a_second_process_is_refused(folder, hold):
    hold()
    with pytest.raises(ConfigError) as caught:
        take(folder)
    assert str(caught.value) == (
        f"run.dir {folder}: another process is training in it; wait for its end, or choose another folder"
    )


def test_a_second_training_of_one_process_is_refused(folder):
    with FolderLock() as lock:
        lock.take(folder)
        with pytest.raises(ConfigError, match="another process is training in it"):
            take(folder)


def test_another_folder_is_free(folder, hold, tmp_path):
    hold()
    (tmp_path / "other" / LOCK).parent.mkdir(parents=True)
    take(tmp_path / "other")


def test_it_waits_for_the_one_before(folder, hold):
    holder = hold(until="time.sleep(0.5)")
    take(folder, wait_seconds=60)
    assert holder.stdout.readline() == "left\n"


def test_it_waits_no_longer_than_it_is_told(folder, hold):
    hold()
    started = time.monotonic()
    with pytest.raises(ConfigError):
        take(folder, wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 30


def test_it_is_free_behind_the_with_block_of_a_process_that_lives_on(folder, hold):
    holder = hold()
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "left\n"
    take(folder)
    assert holder.poll() is None


def test_a_kill_frees_it(folder, hold):
    holder = hold()
    holder.kill()
    holder.wait()
    take(folder)


def test_a_program_that_the_dead_holder_started_does_not_hold_it(folder, hold):
    start = "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL); print(child.pid, flush=True)"
    # Its process id comes first; `hold` then reads "taken".
    holder = hold(before="import subprocess", inside="pass", until=f"{start}; sys.stdin.readline()")
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    try:
        assert Path(f"/proc/{child}").exists() or sys.platform != "linux"
        take(folder)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_fork_that_lives_on_does_not_hold_it_when_the_holder_leaves(folder, hold):
    """As a data loader's worker would."""
    holder = hold(
        before="import os",
        until="child = os.fork() or time.sleep(60); print(child, flush=True); sys.stdin.readline()",
    )
    child = int(holder.stdout.readline())
    holder.stdin.write("\n")
    holder.stdin.flush()
    try:
        assert holder.stdout.readline() == "left\n"
        take(folder)
    finally:
        os.kill(child, signal.SIGKILL)


def test_where_the_file_system_has_no_locks_it_warns_and_does_without(folder, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(logging.getLogger("nerloop"), "propagate", True)  # a training in this process turns it off
    caplog.set_level("WARNING", "nerloop")
    take(folder)
    line = f"warning: {folder} can't be locked (No locks available); make sure that no other run uses it"
    assert set(caplog.messages) == {line}  # an earlier test's training may have left a handler that passes it on


def test_a_folder_that_can_not_be_written_is_the_callers_business(tmp_path):
    with pytest.raises(FileNotFoundError):
        take(tmp_path / "nowhere")
