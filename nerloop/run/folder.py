"""The folder of a run: its name, whether it may be used, from where to go on, its state, its files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nerloop.config import Config, flatten
from nerloop.config.yaml import dump_yaml, load_yaml
from nerloop.errors import CheckpointError, ConfigError, Interrupted, TrainingError, shorten
from nerloop.run import atomic, checkpoint
from nerloop.run.lock import FolderLock

CONFIG, STATUS, METRICS, RESULTS, ENVIRONMENT = (
    "config.yaml", "status.json", "metrics.jsonl", "results.json", "environment.json"
)  # fmt: skip
WAIT_SECONDS = 15.0
"""How long a resumed run waits for the one before it to leave the folder."""

log = logging.getLogger(__name__)

CHECKPOINTS, MODEL, IDENTITY = "checkpoints", "model", "identity.json"

FREE_TO_CHANGE = (
    "run.",
    "collator.",
    "train.cuda_graphs",  # they change no number
    "data.train",  # files may move; their fingerprints are compared
    "data.validation",
    "data.test",
    "data.cache_dir",
    "train.gradient_accumulation_steps",
    "train.max_subwords",
    "train.mixed_precision",  # the resolved precision is compared instead
)
"""Settings that may differ on resume: they change who computes what and what is said, not what is trained."""


@dataclass(frozen=True)
class Run:
    """A run's folder, opened: `resume_from` is the checkpoint to go on from, `results` those of a run that is done."""

    folder: Path
    resume_from: Path | None = None
    results: dict[str, Any] | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def model(self) -> Path:
        """The folder of the saved model."""
        return self.folder / MODEL

    def best(self, step: int) -> Path:
        """The folder of the best weights, of a step, with their validation metrics and predictions."""
        return self.checkpoints / f"best-{step}"

    @contextlib.contextmanager
    def scratch_folder(self, is_main: bool) -> Iterator[Path]:
        """Give an empty folder for files that may be kept; the main process makes it and removes it again."""
        scratch = self.checkpoints / ".scratch"
        if not is_main:
            yield scratch
            return
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def set_status(self, state: str, **more: Any) -> None:
        """Write status.json: state is "running", "interrupted", "failed" or "done"."""
        atomic.write_json(
            self.folder / STATUS, {"state": state, **more, "time": time.strftime("%FT%TZ", time.gmtime())}
        )

    @contextlib.contextmanager
    def keeping_status(self, is_main: bool) -> Iterator[None]:
        """Note in status.json that the run was interrupted or has failed, and why, when an exception passes through.

        An interruption is told with the way to go on; a disk that is full becomes a TrainingError.
        """
        try:
            yield
        except BaseException as error:
            told = self._told(error)
            if is_main:
                is_stop = isinstance(told, Interrupted | KeyboardInterrupt)
                before = _read_status(self.folder)
                done = {name: before[name] for name in ("step", "num_steps") if name in before}
                with contextlib.suppress(OSError):  # the disk may be full: then what it says is older, but whole
                    if is_stop:
                        self.set_status("interrupted", **done, reason=str(told) or type(told).__name__)
                    else:
                        self.set_status("failed", **done, error=f"{type(told).__name__}: {told}")
            if told is error:
                raise
            raise told from error

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, Interrupted):
            return Interrupted(f"{error}; go on with --run.dir {shlex.quote(str(self.folder))} --run.resume auto")
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            return TrainingError(atomic.cannot_write(Path(error.filename or self.folder), error))
        return error


def open_run(config: Config, identity: dict[str, Any], lock: FolderLock) -> Run:
    """Make or reopen the folder that the settings ask for, and say from where to go on. For the main process alone.

    `identity` is what besides the settings must be the same on resume: precision and fingerprints of the data. Raises
    ConfigError where the folder holds another run or another process trains in it, CheckpointError where its
    checkpoints can't be used.
    """
    resume = _resume_of(config)
    folder = _folder_of(config, resume)
    found: Path | None
    if resume not in ("off", "auto") and not (Path(resume) / checkpoint.STATE).exists():
        raise CheckpointError(f"run.resume {resume}: found no checkpoint, expected off, auto or the folder of one")
    if resume == "off":
        _refuse_occupied(folder, _status_of(folder))
    with _as_config_error(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        # The process before may still be saving what it had, and it is its status that counts.
        lock.take(folder, wait_seconds=0.0 if resume == "off" else WAIT_SECONDS)
    status = _status_of(folder)
    if resume == "auto" and status is not None:
        _refuse_other(folder, config, identity)
        if status == "done":
            return Run(folder, results=json.loads((folder / RESULTS).read_text(encoding="utf-8")))
        found, problems = checkpoint.last_whole(folder / CHECKPOINTS)
        for problem in problems:
            log.warning("warning: %s; going back to %s", problem, found)
        return _begin(folder, config, identity) if found is None else _go_on(folder, found)
    if resume in ("off", "auto"):
        _refuse_occupied(folder, status)
        return _begin(folder, config, identity)
    found = Path(resume)
    state = checkpoint.load_state(found)
    source = found.resolve().parent.parent
    _refuse_other(source, config, identity)
    if folder.resolve() != source:
        _refuse_occupied(folder, status)
        _begin(folder, config, identity)
        shutil.copy(source / METRICS, folder / METRICS)
        best = f"best-{state['best_step']}"
        if (found.parent / best).exists():
            shutil.copytree(found.parent / best, folder / CHECKPOINTS / best)
    return _go_on(folder, found)


def check_free(config: Config) -> None:
    """Raise ConfigError where a run is to begin in a folder that holds another one, or could not be found again."""
    if config.run.dir is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise ConfigError("run.dir: found none, expected a folder: --max_restarts has to find the run again")
    if config.run.dir is not None and _resume_of(config) == "off":
        _refuse_occupied(Path(config.run.dir), _status_of(Path(config.run.dir)))


def _go_on(folder: Path, found: Path) -> Run:
    """Return the run of a folder, set back to the step of a checkpoint that is whole."""
    state = checkpoint.read_state(found)
    step, best_step = state["step"], state["best_step"]
    if best_step is not None:
        atomic.check_folder(folder / CHECKPOINTS / f"best-{best_step}")
    checkpoint.forget_after(folder / CHECKPOINTS, step)
    cut_metrics(folder / METRICS, step, state["progress"]["evaluated"])
    run = Run(folder, resume_from=found)
    run.set_status("running", step=step)
    return run


def cut_metrics(path: Path, step: int, evaluated: int) -> None:
    """Drop the lines of metrics.jsonl that a run resumed at `step` writes again, and a last line that is not whole.

    `evaluated` is the step of the last evaluation that the checkpoint knows of.
    """
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            figures = json.loads(line)
            if figures["step"] <= (evaluated if "split" in figures else step):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill in the middle of a write, or the empty one behind the last
    atomic.write_text(path, "".join(f"{line}\n" for line in kept))


def _resume_of(config: Config) -> str:
    """Return the setting; a launcher that starts the ranks again after a failure means "auto"."""
    is_restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return "auto" if config.run.resume == "off" and is_restart and config.run.dir else config.run.resume


def _folder_of(config: Config, resume: str) -> Path:
    if config.run.dir is not None:
        return Path(config.run.dir)
    if resume not in ("off", "auto"):
        named = Path(resume)
        return named.parent.parent if named.is_absolute() else Path(os.path.relpath(named.resolve().parent.parent))
    model = config.model.name_or_path or "encoder"
    parts = [time.strftime("%Y%m%d-%H%M%S"), _short(model), _short(config.data_name)]
    folder = Path("runs", "-".join(parts))
    number = 2
    while folder.exists():  # two launches within one second
        folder = Path("runs", "-".join([*parts, str(number)]))
        number += 1
    return folder


def _short(name: str) -> str:
    """Return a name fit for a folder: "a/bert-base-NER" -> "bert-base-NER", "wikigold/train.conll" -> "wikigold"."""
    path = Path(name)
    if path.suffix in (".conll", ".txt", ".tsv", ".bio", ".iob", ".jsonl", ".json"):
        path = path.parent if path.stem in ("train", "training") and path.parent.name else path.with_suffix("")
    return re.sub(r"[^\w.-]+", "_", path.resolve().name if path.name in ("", ".", "..") else path.name)[:40]


def _status_of(folder: Path) -> str | None:
    """Return the state of the run in a folder, None where there is none."""
    with _as_config_error(folder):
        return str(_read_status(folder)["state"]) if (folder / STATUS).exists() else None


def _read_status(folder: Path) -> dict[str, Any]:
    """Return what status.json says; "unknown" where it is no status."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        return status if "state" in status else {"state": "unknown"}
    except (FileNotFoundError, ValueError, TypeError):
        return {"state": "unknown"}


@contextlib.contextmanager
def _as_config_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"run.dir {folder}: can't be used: {error.strerror}") from error


def _begin(folder: Path, config: Config, identity: dict[str, Any]) -> Run:
    values = config.resolved().to_dict()
    values["run"]["dir"] = str(folder)
    text = dump_yaml(values)
    with _as_config_error(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        (folder / METRICS).write_text("", encoding="utf-8")
        (folder / CONFIG).write_text(f"# Settings of this run; --config takes this file.\n{text}", encoding="utf-8")
        atomic.write_json(folder / CHECKPOINTS / IDENTITY, identity)
        atomic.write_json(folder / STATUS, {"state": "running"})  # last: it is what makes the folder a run
    return Run(folder)


def _refuse_occupied(folder: Path, status: str | None) -> None:
    if status is not None:
        raise ConfigError(
            f"run.dir {folder}: holds another run ({status}); choose another folder, "
            "or --run.resume auto to go on with that one"
        )


def _refuse_other(folder: Path, config: Config, identity: dict[str, Any]) -> None:
    """Raise ConfigError, naming what differs, where a run was started with settings or data of another training."""
    try:
        before = flatten(load_yaml((folder / CONFIG).read_text(encoding="utf-8")))
        before |= flatten(json.loads((folder / CHECKPOINTS / IDENTITY).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        raise CheckpointError(f"run.dir {folder}: its {CONFIG} can't be read: {shorten(error)}") from error
    now = {**config.resolved().to_flat(), **flatten(identity)}
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name) or name.startswith(FREE_TO_CHANGE):
            continue
        if name.startswith("fingerprints."):
            raise ConfigError(
                f"run.resume: the {name.partition('.')[2]} data are not those that {folder} was started with; "
                "bring them back, or choose another run.dir"
            )
        raise ConfigError(
            f"run.resume: {name} is {shorten(now.get(name))}, but {folder} was started with "
            f"{shorten(before.get(name))}; set it back, or choose another run.dir"
        )
