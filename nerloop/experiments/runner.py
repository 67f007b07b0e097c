"""Train many runs on the GPUs or cores of this machine, also beside other machines that share the folder.

Each run is a process `python -m nerloop.train`, which resumes from its last checkpoint if it was stopped. A lock beside
the run's folder says that it is being trained. The child process inherits the lock: if this process is killed, the run
stays locked until the child has ended, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nerloop.config import Config
from nerloop.errors import ConfigError, NerloopError, TrainingError, shorten
from nerloop.experiments.finished import is_done
from nerloop.run.folder import CHECKPOINTS, METRICS
from nerloop.run.lock import FolderLock

POLL_SECONDS = 0.5
BAR = "{desc}: {n:.1f}/{total} {unit}s |{bar}| {elapsed} gone, {remaining} left"


@dataclass(frozen=True)
class Task:
    """A run to train: its folder, and the flags of `nerloop.train` besides `--run.dir`."""

    folder: Path
    flags: Sequence[str]
    length: tuple[str, float]  # of the whole training, in a unit of metrics.jsonl: ("epoch", 3) or ("step", 500)

    @property
    def log(self) -> Path:
        """The file that holds what the run prints."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def progress(self) -> float:
        """Return how much of the run is done, from 0 to 1."""
        if is_done(self.folder):
            return 1.0
        try:
            with (self.folder / METRICS).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))  # only the last line is needed
                last = json.loads(file.read().splitlines()[-1])
            unit, number = self.length
            return min(0.99, float(last[unit]) / number)  # 1 only once the results are written
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            return 0.0  # not started, or its last line is half written


@dataclass
class Running:
    """A run and its process."""

    task: Task
    process: subprocess.Popen[bytes]
    lock: FolderLock


def train_all(tasks: Sequence[Task], slots: Sequence[Mapping[str, str]], *, title: str) -> None:
    """Train the runs that are not done yet, at most one in each slot at a time.

    A slot is a set of environment variables for its processes. Waits for runs that another machine is training. Raises
    TrainingError, or ConfigError, for the first run that fails, after the others have saved their state. Checkpoints of
    runs that are done are deleted: over many seeds they would fill the disk.
    """
    free, running = list(slots), dict[int, tuple[Running, Mapping[str, str]]]()
    waiting = [task for task in tasks if not is_done(task.folder)]
    try:
        with tqdm(total=len(tasks), desc=title, unit="run", bar_format=BAR, disable=None) as bar:
            while waiting or running:
                for task in list(waiting):
                    if is_done(task.folder):  # by another machine
                        waiting.remove(task)
                    # A run that another machine holds stays in `waiting` and is tried again.
                    elif free and (lock := claim(task.folder)) is not None:
                        slot = free.pop()
                        running[id(task)] = (start(task, slot, lock), slot)
                        waiting.remove(task)
                bar.n = round(sum(task.progress() for task in tasks), 2)
                bar.refresh()
                time.sleep(POLL_SECONDS)
                for key, (one, slot) in list(running.items()):
                    if one.process.poll() is not None:
                        if (error := error_of(one)) is not None:
                            raise error
                        delete_checkpoints([one.task])
                        one.lock.release()
                        free.append(slot)
                        del running[key]
            bar.n = len(tasks)
    finally:
        stop([one for one, _ in running.values()])


def claim(folder: Path) -> FolderLock | None:
    """Take and return the lock of a run; None if another process holds it or has finished the run meanwhile."""
    lock = FolderLock()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.take(folder.parent, file=Path(f"{folder.name}.lock"))
    except ConfigError:
        return None
    if is_done(folder):
        lock.release()
        return None
    return lock


def start(task: Task, slot: Mapping[str, str], lock: FolderLock) -> Running:
    """Start or resume a run in a slot. Its process inherits the lock."""
    command = [sys.executable, "-m", "nerloop.train", *task.flags]
    command += ["--run.dir", str(task.folder), "--run.resume", "auto"]
    with task.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **slot},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C then only reaches this process, which stops the runs
            pass_fds=lock.descriptors,
        )
    return Running(task, process, lock)


def error_of(one: Running) -> NerloopError | None:
    """Return the error that a run ended with, as its log states it; None if it succeeded."""
    if one.process.returncode == 0:
        return None
    lines = [line for line in one.task.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    # The last error line of nerloop; without one, the last line, such as that of a traceback.
    line = next((line for line in reversed(lines) if line.startswith("nerloop: ")), lines[-1] if lines else "nothing")
    kind: type[NerloopError] = ConfigError if one.process.returncode == ConfigError.exit_code else TrainingError
    return kind(f"{one.task.folder}: {line.removeprefix('nerloop: error: ')} (all of it: {one.task.log})")


def stop(running: Sequence[Running]) -> None:
    """Ask the runs to save and stop, and wait for them."""
    for one in running:
        one.process.terminate()
    for one in running:
        one.process.wait()
        one.lock.release()


def delete_checkpoints(tasks: Sequence[Task]) -> None:
    """Delete the checkpoints of runs that are never resumed. `model/` has their best weights."""
    for task in tasks:
        for checkpoint in (task.folder / CHECKPOINTS).glob("*/"):  # identity.json, which tells data and labels, stays
            shutil.rmtree(checkpoint, ignore_errors=True)


def refuse_run_dir(name: str, config: Config) -> None:
    """Raise ConfigError if a configuration sets run.dir; `name` is its name in the message."""
    if config.run.dir is not None:
        raise ConfigError(f"{name}: run.dir is {shorten(config.run.dir)}, expected none: each run has its own folder")


def length_of(config: Config) -> tuple[str, float]:
    """Return the length of a training, as `Task.length` has it."""
    steps = config.train.max_steps
    return ("epoch", config.train.epochs) if steps is None else ("step", steps)


def slots_of(jobs: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each slot: a slot for each GPU, or `jobs` slots that share the CPU's cores.

    `jobs` is the number of GPUs that are used (none: all), or the number of slots on the CPU (none: 1). Raises
    ConfigError for fewer than 1 job, or more jobs than GPUs or cores.
    """
    import torch

    from nerloop.distributed.threads import num_cores

    gpus = torch.cuda.device_count()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        # The variable may name more devices than there are.
        names = visible.split(",")[:gpus] if visible else [str(i) for i in range(gpus)]
        if jobs is not None and not 1 <= jobs <= len(names):
            raise ConfigError(f"--jobs: found {shorten(jobs)}, expected 1 to {len(names)}, the GPUs of this machine")
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:jobs]]
    if jobs is not None and not 1 <= jobs <= num_cores():
        raise ConfigError(f"--jobs: found {shorten(jobs)}, expected 1 to {num_cores()}, the cores of this machine")
    threads = max(1, num_cores() // (jobs or 1))
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(jobs or 1)]
