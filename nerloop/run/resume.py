"""Start a run or resume one: check its folder and that it is the same training, and find the checkpoint."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from nerloop.config import Config, flat_settings, flatten
from nerloop.config.yaml import dump_yaml, load_yaml
from nerloop.errors import CheckpointError, ConfigError, shorten
from nerloop.run import atomic, checkpoint
from nerloop.run.folder import (
    CHECKPOINTS,
    CONFIG,
    IDENTITY,
    METRICS,
    RESULTS,
    STATUS,
    TOKENS,
    Run,
    new_folder,
    state_of,
    unusable_folder,
)
from nerloop.run.lock import FolderLock

WAIT_SECONDS = 15.0
"""How long a resumed run waits for the previous process to release the folder."""

FREE_TO_CHANGE = (
    "run.",
    "collator",
    "train.cuda_graphs",  # changes no number
    "data.train",  # files may move; their fingerprints are compared
    "data.validation",
    "data.test",
    "data.unlabelled",
    "data.cache_dir",
    "train.gradient_accumulation_steps",
    "train.max_subwords",
    "train.threads",  # only changes rounding; a resumed run warns, as for another number of processes
    "train.mixed_precision",  # the resolved precision is compared instead
)
"""Settings that may differ on resume: they change who computes what and what is printed, not what is trained."""

log = logging.getLogger(__name__)


def open_run(config: Config, identity: dict[str, Any], lock: FolderLock) -> Run:
    """Make or reopen the folder of a run, lock it, and return the run to train. Only the main process calls it.

    `identity` holds what must be the same on resume besides the settings: precision, labels and fingerprints of the
    data. Raises ConfigError if the folder holds another run or another process trains in it, CheckpointError if its
    checkpoints can't be used.
    """
    resume = _resume_setting(config)
    folder = _folder_of(config, resume)
    if resume not in ("off", "auto") and not (Path(resume) / checkpoint.STATE).exists():
        raise CheckpointError(f"run.resume {resume}: found no checkpoint, expected off, auto or the folder of one")
    if resume == "off":
        _refuse_occupied(folder, state_of(folder))
    with unusable_folder(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        # A previous process may still be saving, so the status is read (again) once the lock is ours.
        lock.take(folder, wait_seconds=0.0 if resume == "off" else WAIT_SECONDS)
    state = state_of(folder)
    if resume == "auto" and state is not None:
        return _resume_auto(folder, state, config, identity)
    if resume in ("off", "auto"):
        _refuse_occupied(folder, state)
        return _begin(folder, config, identity)
    return _resume_from(Path(resume), folder, state, config, identity)


def check_free(config: Config) -> None:
    """Raise ConfigError if a new run would start in another run's folder, or a restart could not find its own."""
    if config.run.dir is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise ConfigError("run.dir: found none, expected a folder: --max_restarts has to find the run again")
    if config.run.dir is not None and _resume_setting(config) == "off":
        _refuse_occupied(Path(config.run.dir), state_of(Path(config.run.dir)))


def cut_metrics(path: Path, step: int, evaluated: int) -> None:
    """Remove the lines of metrics.jsonl that a run resumed at `step` will write again, and a last line cut short.

    `evaluated` is the step of the last evaluation before the checkpoint.
    """
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            metrics = json.loads(line)
            if metrics["step"] <= (evaluated if "split" in metrics else step):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a line that a kill cut short, or the empty one at the end
    atomic.write_text(path, "".join(f"{line}\n" for line in kept))


def _resume_auto(folder: Path, state: str, config: Config, identity: dict[str, Any]) -> Run:
    _refuse_other_training(folder, config, identity)
    if state == "done":
        return Run(folder, results=json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    found, problems = checkpoint.last_whole(folder / CHECKPOINTS)
    for problem in problems:
        log.warning("warning: %s; going back to %s", problem, found)
    return _begin(folder, config, identity) if found is None else _go_on(folder, found)


def _resume_from(found: Path, folder: Path, state: str | None, config: Config, identity: dict[str, Any]) -> Run:
    """Return the run that continues from a checkpoint, after copying what it needs if that is another run's."""
    best_step = checkpoint.load_state(found)["best_step"]
    source = found.resolve().parent.parent
    _refuse_other_training(source, config, identity)
    if folder.resolve() != source:
        _refuse_occupied(folder, state)
        _begin(folder, config, identity)
        shutil.copy(source / METRICS, folder / METRICS)
        if (source / TOKENS).is_dir():
            shutil.copytree(source / TOKENS, folder / TOKENS)
        best = f"best-{best_step}"
        if (found.parent / best).exists():
            shutil.copytree(found.parent / best, folder / CHECKPOINTS / best)
    return _go_on(folder, found)


def _begin(folder: Path, config: Config, identity: dict[str, Any]) -> Run:
    values = config.resolved(threads=torch.get_num_threads()).to_dict()
    values["run"]["dir"] = str(folder)  # may be a new folder, which the settings don't name
    text = dump_yaml(values)
    with unusable_folder(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        (folder / METRICS).write_text("", encoding="utf-8")
        (folder / CONFIG).write_text(f"# Settings of this run; --config takes this file.\n{text}", encoding="utf-8")
        atomic.write_json(folder / CHECKPOINTS / IDENTITY, identity)
        atomic.write_json(folder / STATUS, {"state": "running"})  # last: it makes the folder a run
    return Run(folder)


def _go_on(folder: Path, found: Path) -> Run:
    """Return the run of a folder after setting its files back to the step of a whole checkpoint."""
    state = checkpoint.read_state(found)
    step, best_step = state["step"], state["best_step"]
    if best_step is not None:
        atomic.check_folder(folder / CHECKPOINTS / f"best-{best_step}")
    checkpoint.forget_after(folder / CHECKPOINTS, step)
    cut_metrics(folder / METRICS, step, state["progress"]["evaluated"])
    run = Run(folder, resume_from=found)
    run.set_status("running", step=step)
    return run


def _resume_setting(config: Config) -> str:
    """Return run.resume; "auto" where a launcher has started the processes again after a failure."""
    is_restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return "auto" if config.run.resume == "off" and is_restart and config.run.dir else config.run.resume


def _folder_of(config: Config, resume: str) -> Path:
    """Return the folder that the settings name, else the one of the checkpoint to resume from, else a new one."""
    if config.run.dir is not None:
        return Path(config.run.dir)
    if resume not in ("off", "auto"):
        named = Path(resume)
        return named.parent.parent if named.is_absolute() else Path(os.path.relpath(named.resolve().parent.parent))
    return new_folder(config)


def _refuse_occupied(folder: Path, state: str | None) -> None:
    if state is not None:
        raise ConfigError(
            f"run.dir {folder}: holds another run ({state}); choose another folder, "
            "or --run.resume auto to go on with that one"
        )


def _refuse_other_training(folder: Path, config: Config, identity: dict[str, Any]) -> None:
    """Raise ConfigError, naming the first difference, if a run was started with other settings or data."""
    try:
        before = flat_settings(load_yaml((folder / CONFIG).read_text(encoding="utf-8")))
        before |= flatten(json.loads((folder / CHECKPOINTS / IDENTITY).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"run.dir {folder}: its {CONFIG} can't be read: {shorten(error)}") from error
    now = {**config.resolved().to_flat(), **flatten(identity)}
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name) or name.startswith(FREE_TO_CHANGE):
            continue
        if name.startswith(("fingerprints.", "distillation.")):
            raise ConfigError(
                f"run.resume: the {name.partition('.')[2]} data are not those that {folder} was started with; "
                "bring them back, or choose another run.dir"
            )
        raise ConfigError(
            f"run.resume: {name} is {shorten(now.get(name))}, but {folder} was started with "
            f"{shorten(before.get(name))}; set it back, or choose another run.dir"
        )
