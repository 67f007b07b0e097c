"""The folder of a run: its name, its files, its status. `resume` decides whether and where a run starts."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerloop.config import Config
from nerloop.distributed.threads import is_launched
from nerloop.errors import ConfigError, Interrupted, TrainingError
from nerloop.run import atomic

CONFIG, STATUS, METRICS, RESULTS, ENVIRONMENT = (
    "config.yaml", "status.json", "metrics.jsonl", "results.json", "environment.json"
)  # fmt: skip
CHECKPOINTS, MODEL, IDENTITY, REPORT, TOKENS = "checkpoints", "model", "identity.json", "report.html", "tokens"
DATA_SUFFIXES = (".conll", ".txt", ".tsv", ".bio", ".iob", ".jsonl", ".json")


@dataclass(frozen=True)
class Run:
    """A run and its folder. `resume_from` is the checkpoint to resume from; `results` is set if the run is done."""

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
        """Return the folder for the best weights, those of `step`, with their validation metrics and predictions."""
        return self.checkpoints / f"best-{step}"

    @contextlib.contextmanager
    def scratch_folder(self, is_main: bool) -> Iterator[Path]:
        """Give an empty temporary folder, whose files may be moved elsewhere; the main process makes and removes it."""
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
    def recording_failure(self, is_main: bool) -> Iterator[None]:
        """When an exception ends the block, write "interrupted" or "failed" and the reason to status.json.

        The exception is raised again. The message of an interruption then also says how to resume, and an OSError, such
        as that of a full disk, becomes a TrainingError.
        """
        try:
            yield
        except BaseException as error:
            raised = self._with_advice(error)
            if is_main:
                before = read_status(self.folder)
                done = {name: before[name] for name in ("step", "num_steps") if name in before}
                with contextlib.suppress(OSError):  # a full disk keeps the older status, which is whole
                    if isinstance(raised, Interrupted | KeyboardInterrupt):
                        self.set_status("interrupted", **done, reason=str(raised) or type(raised).__name__)
                    else:
                        self.set_status("failed", **done, error=f"{type(raised).__name__}: {raised}")
            if raised is error:
                raise
            raise raised from error

    def _how_to_resume(self) -> str:
        if is_launched():  # config.yaml does not say which launcher and how many processes
            return f" the same command and --run.dir {shlex.quote(str(self.folder))} --run.resume auto"
        folder, config = (shlex.quote(str(path)) for path in (self.folder, self.folder / CONFIG))
        # With the folder: config.yaml has that of the start, and the run may have been moved since.
        return f": python -m nerloop.train --config {config} --run.dir {folder} --run.resume auto"

    def _with_advice(self, error: BaseException) -> BaseException:
        if isinstance(error, Interrupted):
            return Interrupted(f"{error}; go on with{self._how_to_resume()}")
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            return TrainingError(atomic.cannot_write(Path(error.filename or self.folder), error))
        return error


def new_folder(config: Config) -> Path:
    """Return a path that does not exist yet: runs/<time>-<model>-<data>."""
    parts = [
        time.strftime("%Y%m%d-%H%M%S"),
        short_name(config.model.name_or_path or "encoder"),
        short_name(config.data_name),
    ]
    folder = Path("runs", "-".join(parts))
    number = 2
    while folder.exists():  # two launches within one second
        folder = Path("runs", "-".join([*parts, str(number)]))
        number += 1
    return folder


def short_name(name: str) -> str:
    """Return a name fit for a folder: "a/bert-base-NER" -> "bert-base-NER", "wikigold/train.conll" -> "wikigold"."""
    path = Path(name)
    if path.suffix in DATA_SUFFIXES:
        path = path.parent if path.stem in ("train", "training") and path.parent.name else path.with_suffix("")
    return re.sub(r"[^\w.-]+", "_", path.resolve().name if path.name in ("", ".", "..") else path.name)[:40]


def state_of(folder: Path) -> str | None:
    """Return the state of the run in a folder; None if there is no run. Raises ConfigError."""
    with unusable_folder(folder):
        return str(read_status(folder)["state"]) if (folder / STATUS).exists() else None


def read_status(folder: Path) -> dict[str, Any]:
    """Return the content of status.json; if it can't be read, the state "unknown"."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        return status if "state" in status else {"state": "unknown"}
    except (FileNotFoundError, ValueError, TypeError):
        return {"state": "unknown"}


@contextlib.contextmanager
def unusable_folder(folder: Path) -> Iterator[None]:
    """Raise ConfigError instead of an OSError: the folder of a run can't be read or made."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"run.dir {folder}: can't be used: {error.strerror}") from error
