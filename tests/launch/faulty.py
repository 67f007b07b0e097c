"""Faults: a training that kills itself at a named point, and what it takes to start, watch, kill and compare trainings.

    python tests/launch/faulty.py rename 3 --run.dir runs/x --train.save_every 5

is `python -m nerloop.train --run.dir ...`, but the main process gets a SIGKILL, which nothing can catch, when it is
about to rename a finished folder into place for the third time. It does under `accelerate launch`, too. The product has
no hooks for this: functions of it are replaced. Linux only: processes are found in /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

from nerloop.run.checkpoint import steps_in

ROOT = Path(__file__).resolve().parents[2]
MARK = "NERLOOP_FAULTY_LAUNCH"  # a variable that tells the processes of one launch from all others

POINTS = {
    "write": "weights written, the rest of the folder not",
    "sync": "files synced, their folder not",
    "rename": "a folder whole, but under its other name",
    "renamed": "a folder in place, nothing after that",
    "prune": "an old folder half deleted",
    "status": "status.json written beside, not replaced",
    "results": "results.json written beside, not replaced",
}

LOOP, START_UP = "loop", "start-up"
MOMENTS = {LOOP: "at a random moment of the loop", START_UP: "at a random moment before or about the first step"}

TWO_PROCESSES = "cpu_2_processes.yaml"
LONG = ("--train.max_steps=300", "--train.save_every=6", "--train.eval_every=10")  # too long to end between two kills
# One thread: the launcher would give one process all cores, and sums of several threads round differently.
OTHERS = ("--train.batch_size=8", "--train.learning_rate=3e-3", "--run.log_every=2", "--train.threads=1")

WAIT_SECONDS = 180.0  # far more than anything here takes: machines may be busy

T = TypeVar("T")


def main() -> None:
    """Train with a fault: the point, how often it is to be reached, then the flags of nerloop.train."""
    from nerloop import train

    point, number = sys.argv[1], int(sys.argv[2])
    assert point in POINTS, point
    sys.argv[1:] = sys.argv[3:]
    if os.environ.get("RANK", "0") == "0":
        counts: Counter[str] = Counter()

        def reach(reached: str) -> None:
            counts[reached] += 1
            if (reached, counts[reached]) == (point, number):
                print(f"faulty: killed at {point}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

        watch_points(reach)
    train.main()


def watch_points(reach: Callable[[str], None]) -> None:
    """Replace functions that nerloop.run calls by ones that say where they are."""
    from nerloop.run import atomic, checkpoint

    def save_weights(model: Any, folder: Path) -> None:
        save_before(model, folder)
        reach("write")

    def sync(path: Path) -> None:
        if path.is_dir() and path.suffix == ".tmp":
            reach("sync")
        sync_before(path)

    def replace(path: Path, target: Path) -> Path:
        is_folder = path.suffix == ".tmp" and path.is_dir()
        if is_folder:
            reach("rename")
        if path.name in (".status.json.tmp", ".results.json.tmp"):
            reach(path.name.split(".")[1])
        replaced = replace_before(path, target)
        if is_folder:
            reach("renamed")
        return replaced

    def rmtree(path: Path, **options: Any) -> None:
        # A random kill may have left the folder empty. Then there is nothing to delete half of.
        if path.suffix == ".gone" and path.is_dir() and (files := sorted(path.iterdir())):
            files[0].unlink()
            reach("prune")
        shutil.rmtree(path, **options)

    save_before, sync_before = checkpoint.save_weights, atomic._sync
    replace_before = Path.replace
    checkpoint.save_weights, atomic._sync = save_weights, sync
    atomic.shutil = SimpleNamespace(rmtree=rmtree, disk_usage=shutil.disk_usage)
    Path.replace = replace


# Starting and watching


class Launch:
    """A training in processes of its own. None of them outlives the `with` block; what they say goes to files.

    `profile` is that of an `accelerate launch`; without one it is `python -m nerloop.train`.
    """

    def __init__(
        self,
        run: Path,
        arguments: Sequence[str],
        *,
        profile: str | None = None,
        options: Sequence[str] = (),  # of accelerate launch
        fault: tuple[str, int] | None = None,
        resume: str = "off",
    ) -> None:
        """Start it."""
        self.run = run
        self.is_plain = profile is None
        self.first_step = last_step(run)  # what there was of checkpoints before
        command = [sys.executable]
        if profile is not None:
            command += ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "launch" / profile)]
            command += ["--main_process_port", str(free_port()), *options]
        command += ["-m", "nerloop.train"] if fault is None else [__file__, fault[0], str(fault[1])]
        self._name = uuid.uuid4().hex
        self._files = [run.with_name(f"{run.name}-{self._name[:8]}.{end}") for end in ("out", "err")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1",
                                    MARK: self._name}  # fmt: skip
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [*command, "--run.dir", str(run), "--run.resume", resume, *OTHERS, *arguments],
                cwd=run.parent, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def stderr(self) -> str:
        """What was said on stderr so far."""
        return self._files[1].read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[int]:
        """Return all living processes of this launch, also those whose launcher is dead."""
        return [pid for pid in _process_ids() if self._environment(pid)]

    def ranks(self) -> list[int]:
        """Return the living processes that train, in the order of their ranks."""
        if self.is_plain:
            return [self.process.pid] if self.process.poll() is None else []
        found = {}
        for pid in _process_ids():
            variables = self._environment(pid)
            command = read_process(pid, "cmdline")  # not the git that a rank asks for the commit
            if variables and pid != self.process.pid and (b"nerloop.train" in command or b"faulty.py" in command):
                found[int(variables.get(b"RANK", b"0"))] = pid
        return [found[rank] for rank in sorted(found)]

    def wait_until(self, condition: Callable[[], T], *, seconds: float = WAIT_SECONDS) -> T:
        """Return what a condition returns as soon as that is true. The training may not end before."""
        while True:
            has_ended = self.process.poll() is not None
            if found := condition():
                return found
            assert not has_ended, f"ended too early with {self.process.returncode}:\n{self.stderr}"
            seconds = _pause(seconds, f"the launch of {self.run} came not to what was waited for:\n{self.stderr}")

    def wait_for_step(self) -> None:
        """Wait for a checkpoint behind those that there were: the loop runs."""
        self.wait_until(lambda: last_step(self.run) > self.first_step)

    def wait(self, *, seconds: float = WAIT_SECONDS) -> int:
        """Wait for the end of all processes of this launch and return the exit code."""
        while self.process.poll() is None or self.processes():
            seconds = _pause(seconds, f"{self.processes()} of {self.run} did not end:\n{self.stderr}")
        return self.process.returncode

    def kill(self) -> None:
        """Kill what there is of it, the ranks before the launcher, and wait until it is gone."""
        while found := self.processes():
            for pid in sorted(found, key=lambda pid: pid == self.process.pid):
                send(pid, signal.SIGKILL)
            self.process.poll()  # a zombie no more
        self.process.wait()

    def _environment(self, pid: int) -> dict[bytes, bytes]:
        """Return the variables that a process of this launch was started with; none of another one, or of a zombie."""
        text = read_process(pid, "environ")
        if f"{MARK}={self._name}".encode() not in text:
            return {}
        pairs = (variable.partition(b"=") for variable in text.split(b"\0"))
        return {name: value for name, _, value in pairs}

    def __enter__(self) -> Launch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be dead by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port that was free just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def num_workers() -> int:
    """Return how many launches to run side by side: one waits now and then."""
    return len(os.sched_getaffinity(0)) + 1


def _process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read_process(pid: int, file: str) -> bytes:
    """Return what /proc says of a process, nothing where it is dead or another's."""
    try:
        return Path("/proc", str(pid), file).read_bytes()
    except OSError:
        return b""


def _pause(seconds: float, message: str) -> float:
    """Sleep a little; return the seconds that are left. Raises TimeoutError where none are."""
    if seconds <= 0:
        raise TimeoutError(message)
    started = time.monotonic()
    time.sleep(0.005)
    return seconds - (time.monotonic() - started)


# Kills


@dataclass(frozen=True)
class Kill:
    """One kill: when a point is reached for the `number`-th time, or so many seconds after a moment."""

    at: str  # one of POINTS or MOMENTS
    number: int = 1
    seconds: float = 0.0


def random_kills(number: int, seed: int) -> list[Kill]:
    """Return kills at random moments, most of them in the loop, where a large part of the time goes into saving."""
    random = Random(seed)
    return [
        Kill(START_UP, seconds=random.uniform(0, 3)) if i % 5 == 2 else Kill(LOOP, seconds=random.uniform(0, 0.2))
        for i in range(number)
    ]


def train_with_kills(
    run: Path, arguments: Sequence[str], kills: Sequence[Kill], *, profile: str | None = None
) -> list[bool]:
    """Start a training, kill it, go on with it, kill it again, ..., let it end; return which kills hit a living one."""
    hits = []
    for i, kill in enumerate(kills):
        is_point = kill.at in POINTS
        fault = (kill.at, kill.number) if is_point else None
        with Launch(run, arguments, profile=profile, fault=fault, resume="auto" if i else "off") as launch:
            if is_point:  # the main process dies; the others are given the time to see that for themselves
                launch.wait()
                hits.append(f"faulty: killed at {kill.at}\n" in launch.stderr)
                if not hits[-1]:  # for who reads why a test has failed
                    print(f"kill {i + 1}, at {kill.at}, hit nothing:\n{launch.stderr[-4000:]}")
                continue
            if kill.at == LOOP:
                launch.wait_for_step()
            else:
                launch.wait_until(launch.ranks)
            time.sleep(kill.seconds)
            is_alive = launch.process.poll() is None and launch.ranks() != []
            launch.kill()
            hits.append(is_alive and launch.process.returncode == -signal.SIGKILL)
    with Launch(run, arguments, profile=profile, resume="auto") as launch:
        assert launch.wait() == 0, launch.stderr
    return hits


def input_flags(model: str, files: Mapping[str, str]) -> list[str]:
    """Return the flags that name a model and the files of the splits."""
    return [f"--model.name_or_path={model}", *(f"--data.{split}={path}" for split, path in files.items())]


def train_undisturbed(run: Path, arguments: Sequence[str], *, profile: str | None = None) -> Path:
    """Train from start to end, unless that is done already; return the run's folder."""
    if not (run / "results.json").exists():
        with Launch(run, arguments, profile=profile) as launch:
            assert launch.wait() == 0, launch.stderr
    return run


# What a run left


def last_step(run: Path) -> int:
    """Return the step of the last checkpoint, 0 where there is none."""
    return max(steps_in(run / "checkpoints"), default=0)


def status(run: Path) -> dict[str, Any]:
    """Return what status.json says."""
    return json.loads((run / "status.json").read_text(encoding="utf-8"))


def differences(one: Path, other: Path) -> list[str]:
    """Return the files in which two runs that are done differ: by their bytes, timing and the run's name aside.

    That a file is there in one of them alone counts as well.
    """
    files = [{p.relative_to(run) for p in run.rglob("*") if p.is_file() and _is_compared(p)} for run in (one, other)]
    assert Path("model", "model.safetensors") in files[0], "compared with a run that isn't done"
    alone = files[0] ^ files[1]
    return sorted(str(f) for f in files[0] | files[1] if f in alone or _content(one / f) != _content(other / f))


def _is_compared(path: Path) -> bool:
    # status.json holds the time, checksums.json state.json's checksum, and that one the seconds.
    names = ("environment.json", "config.yaml", "status.json", "checksums.json")
    return path.name not in names and not path.name.startswith("events.out.tfevents.")


def _content(path: Path) -> Any:
    if path.name in ("metrics.jsonl", "results.json"):
        lines = path.read_text(encoding="utf-8").split("\n") if path.suffix == ".jsonl" else [path.read_text()]
        return [{**json.loads(line), "timing": None} for line in lines if line]
    if path.name == "state.json":
        state = json.loads(path.read_text(encoding="utf-8"))
        return {**state, "progress": {**state["progress"], "seconds": None}}
    return path.read_bytes()


if __name__ == "__main__":
    main()
