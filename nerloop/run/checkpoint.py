"""Save and load checkpoints. Each is whole or absent, and its checksums are verified before it is loaded.

A checkpoint is a folder `step-<n>`: model.safetensors, optimizer.safetensors, state.json and checksums.json. The folder
`best-<n>` has the weights of the best evaluation so far. No file is a pickle.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.errors import CheckpointError, shorten
from nerloop.run.atomic import check_folder, remove, remove_folder, write_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the weights of a model into a folder."""
    from safetensors.torch import save_model

    save_model(model, str(folder / WEIGHTS))


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a model from a folder after verifying its checksums."""
    from safetensors.torch import load_model

    check_folder(folder)
    with _loading(folder / WEIGHTS):
        load_model(model, str(folder / WEIGHTS), device=str(next(model.parameters()).device))


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Save a checkpoint: weights, optimizer state, and `state`, the progress of the run as plain JSON values."""
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
    """Return the approximate size of a model's weights on disk."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer state of a checkpoint after verifying its checksums."""
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
    """Raise CheckpointError for any error inside: with the right checksums, the file must belong to another model."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"{file}: does not fit this model: {reason}") from error


def load_state(folder: Path) -> dict[str, Any]:
    """Return the progress of the run in a checkpoint after verifying its checksums."""
    check_folder(folder)
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the progress of the run in a checkpoint without verifying it, which would read all its bytes."""
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
    """Return the last checkpoint that is whole, as are its best weights, and the problems of later ones.

    It is None without checkpoints. Raises CheckpointError if there are some but none is whole.
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
    """Delete the checkpoints after `step`, where the run is about to continue."""
    for later in steps_in(folder):
        if later > step:
            remove_folder(folder / f"step-{later}")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, best weights that none of those refers to, and unfinished folders."""
    for unfinished in folder.glob(".*"):
        if unfinished.is_dir():  # not the file that FolderLock holds
            remove(unfinished)
    steps = steps_in(folder)
    for step in steps[:-keep]:
        remove_folder(folder / f"step-{step}")
    named = {load_best_step(folder / f"step-{step}") for step in steps[-keep:]}
    for step in steps_in(folder, "best"):
        if step not in named:
            remove_folder(folder / f"best-{step}")


def load_best_step(folder: Path) -> int | None:
    """Return the step of the best evaluation before a checkpoint; None without one, or if the checkpoint is damaged."""
    try:
        step: int | None = read_state(folder)["best_step"]
    except CheckpointError:
        return None  # loading it raises the error
    return step
