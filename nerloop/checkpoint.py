"""Checkpoints: written beside, synced, renamed, with checksums; half a checkpoint is never loaded.

A checkpoint is a folder `step-<n>`: model.safetensors, optimizer.safetensors, state.json and checksums.json. The
weights of the best evaluation so far lie in `best-<n>`. Nothing is read with pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.errors import CheckpointError, TrainingError, shorten

if TYPE_CHECKING:
    import torch
    from torch import nn

CHECKSUMS = "checksums.json"
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole, or as it was before."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a file so that it is there whole, or as it was before."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_folder(
    folder: Path, write: Callable[[Path], None], *, num_bytes: int | None = None, checksums: bool = True
) -> None:
    """Make a folder whole or not at all: `write` fills it under another name, all is synced, then it is renamed.

    Raises TrainingError where that can't be done, such as on a full disk; `num_bytes` is about what it would take.
    """
    from safetensors import SafetensorError

    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        write(beside)
        if checksums:
            found = {file.name: _checksum(file) for file in sorted(beside.iterdir())}
            (beside / CHECKSUMS).write_text(json.dumps(found, indent=1), encoding="utf-8")
        for file in beside.iterdir():
            _sync(file)
        _sync(beside)
        if folder.exists():  # written by a run that got further than the checkpoint we resumed from
            _remove(folder)
        beside.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        free = _free_bytes(folder)
        shutil.rmtree(beside, ignore_errors=True)  # gives back what little there is
        raise TrainingError(cannot_write(folder, error, num_bytes=num_bytes, free=free)) from error


def cannot_write(path: Path, error: Exception, *, num_bytes: int | None = None, free: int | None = None) -> str:
    """Return the line that says that a path can't be written, why, and how much space it needs."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    needs = "" if num_bytes is None else f"; it takes about {_mb(num_bytes)}"
    has = "" if free is None else f"; {_mb(free)} are free there"
    return (
        f"{path}: can't be written: {reason}{needs}{has}. What was saved before is whole: "
        "make room, then go on with --run.resume auto"
    )


def check_folder(folder: Path) -> None:
    """Raise CheckpointError, naming the file, unless all files of a folder are there with the bytes once written."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        if not isinstance(checksums, dict) or not checksums:
            raise ValueError("no checksums in it")
        if any(Path(name).name != name for name in checksums):
            raise ValueError("it names a file of another folder")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: found no readable {CHECKSUMS}; this is no whole checkpoint") from error
    for name, expected in checksums.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; the checkpoint is not whole")
        if _checksum(file) != expected:
            raise CheckpointError(f"{file}: its SHA-256 is not the one in {CHECKSUMS}; the checkpoint is damaged")


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the weights of a model into a folder."""
    from safetensors.torch import save_model

    save_model(model, str(folder / WEIGHTS))


def load_weights(model: nn.Module, folder: Path) -> None:
    """Read the weights of a model from a folder, whose checksums are checked first."""
    from safetensors.torch import load_model

    check_folder(folder)
    with _loading(folder / WEIGHTS):
        load_model(model, str(folder / WEIGHTS), device=str(next(model.parameters()).device))


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write a checkpoint: weights, optimizer state and the run's own state (plain JSON values)."""
    from safetensors.torch import save_file

    def write(beside: Path) -> None:
        save_weights(model, beside)
        moments = {
            f"{key}:{name}": value.contiguous()
            for name, parameter in model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        save_file(moments, str(beside / OPTIMIZER))
        (beside / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")

    state_tensors = [v for values in optimizer.state.values() for v in values.values() if hasattr(v, "nbytes")]
    write_folder(folder, write, num_bytes=num_bytes_of(model) + sum(v.nbytes for v in state_tensors))


def num_bytes_of(model: nn.Module) -> int:
    """Return the size of a model's weights on disk, about."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Read weights and optimizer state of a checkpoint, whose checksums are checked first."""
    from safetensors.torch import load_file

    load_weights(model, folder)
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    with _loading(folder / OPTIMIZER):
        for name, value in load_file(str(folder / OPTIMIZER)).items():
            key, _, of = name.partition(":")
            parameter = parameters[of]
            if value.dim() and value.shape != parameter.shape:  # a count of steps has no dimension
                raise ValueError(f"{name} is of shape {tuple(value.shape)}, expected {tuple(parameter.shape)}")
            optimizer.state[parameter][key] = value.to(parameter.device)


@contextlib.contextmanager
def _loading(file: Path) -> Iterator[None]:
    """Raise CheckpointError for whatever is wrong with tensors whose checksum is right: they are no tensors of ours."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"{file}: does not fit this model: {reason}") from error


def load_state(folder: Path) -> dict[str, Any]:
    """Return the run's own state that a checkpoint holds, its checksums checked first."""
    check_folder(folder)
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the run's own state of a checkpoint that the caller has checked, which means reading all its bytes."""
    path = folder / STATE
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name, kinds in (("step", int), ("best_step", int | None)):
            if not isinstance(state[name], kinds):
                raise TypeError(f"{name} is {shorten(state[name])}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not what nerloop writes: {shorten(error, 120)}") from error
    return state


def steps_in(folder: Path, kind: str = "step") -> list[int]:
    """Return the steps of the checkpoints (or "best" weights) in a folder, in order."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(m[1]) for n in names if (m := re.fullmatch(rf"{kind}-(\d+)", n)))


def last_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the last checkpoint in a folder that is whole, its best weights too, and what is wrong with later ones.

    Raises CheckpointError where there are checkpoints but none is whole.
    """
    problems = []
    for step in reversed(steps_in(folder)):
        try:
            check_folder(folder / f"step-{step}")
            best_step = read_state(folder / f"step-{step}")["best_step"]
            if best_step is not None:
                check_folder(folder / f"best-{best_step}")
        except CheckpointError as error:
            problems.append(str(error))
            continue
        return folder / f"step-{step}", problems
    if problems:
        raise CheckpointError(
            f"{folder}: none of its checkpoints is whole: {problems[0]}. Start anew in another run.dir"
        )
    return None, []


def forget_after(folder: Path, step: int) -> None:
    """Delete checkpoints of later steps: those of a run that is about to be done again from `step`."""
    for later in steps_in(folder):
        if later > step:
            _remove(folder / f"step-{later}")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, best weights that none of those refers to, and unfinished folders."""
    for unfinished in folder.glob(".*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    steps = steps_in(folder)
    for step in steps[:-keep]:
        _remove(folder / f"step-{step}")
    named = {load_best_step(folder / f"step-{step}") for step in steps[-keep:]}
    for step in steps_in(folder, "best"):
        if step not in named:
            _remove(folder / f"best-{step}")


def load_best_step(folder: Path) -> int | None:
    """Return the step of the best evaluation that a checkpoint knows of."""
    try:
        step: int | None = read_state(folder)["best_step"]
    except CheckpointError:
        return None  # damaged; whoever wants to load it will be told
    return step


def _remove(folder: Path) -> None:
    # Renamed first, so that a kill half-way leaves no folder that looks like a checkpoint.
    beside = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(beside, ignore_errors=True)
    folder.rename(beside)
    shutil.rmtree(beside)


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _free_bytes(path: Path) -> int | None:
    """Return what is free on the file system of a path, or of the next folder above that there is."""
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't sync folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
