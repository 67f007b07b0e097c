"""Wrap a study of Optuna, which chooses the values of trials, decides which to prune, and stores all of them.

The storage is Optuna's: a journal file in the study's folder, or a database. If the process of a trial was killed, the
trial is the next to be trained. It keeps its number, values and folder.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from nerloop.errors import ConfigError, shorten
from nerloop.experiments.runner import claim
from nerloop.experiments.space import Parameter, Space, as_text
from nerloop.run.lock import FolderLock

JOURNAL = "journal.log"
IDENTITY, STARTED, ERROR = "nerloop", "started", "error"
"""Names of attributes: of a study, its identity; of a trial, the machine that started it, and why it failed."""
ORPHAN_SECONDS = 60
"""If a trial has no folder after this long, its process was killed before making it."""
LOCK_SECONDS = 600.0
"""How long to wait for another process that chooses a trial or writes the tables."""
TOLD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
"""States of a trial that is over: its result was passed to `optuna.Study.tell`."""


@dataclass(frozen=True)
class Trial:
    """A trial to train: its folder, the lock that this process holds on it, and the settings that it changes."""

    folder: Path
    lock: FolderLock
    values: Mapping[str, Any]
    _trial: optuna.Trial
    _study: optuna.Study

    def is_hopeless(self, step: int, value: float) -> bool:
        """Report an evaluation, and return whether it is worse than the median of the completed trials at this step."""
        if step in self._frozen.intermediate_values:  # reported before a restart
            return False
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def complete(self, value: float) -> None:
        """Store the value of a trial that was trained to its end."""
        self._study.tell(self._trial, value)

    def prune(self) -> None:
        """Store that the trial was stopped early."""
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def fail(self, error: str) -> None:
        """Store that its training failed, and why."""
        self._trial.set_user_attr(ERROR, error)
        self._study.tell(self._trial, state=TrialState.FAIL)

    @property
    def _frozen(self) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._trial.number]


class Study:
    """The trials of one space and one base configuration."""

    def __init__(self, study: optuna.Study, space: Space, folder: Path, *, seed: int, salt: str = "") -> None:
        """Take a study from `open_study`. `seed` and `salt` seed the sampler.

        Machines that share a database but not a folder can't lock each other out while they choose a trial. They need
        different salts, or two of them could choose the same values.
        """
        self._study, self._space, self.folder = study, space, folder
        self._seed, self._salt = seed, salt
        self._taken: set[int] = set()  # trials that this process has trained

    def next_trial(self, number: int) -> Trial | None:
        """Return a trial that was interrupted or, if there are fewer than `number`, a new one; else None."""
        with self.locked():
            for trial in self._trials():
                if trial.state is TrialState.RUNNING and trial.number not in self._taken and self._is_ours(trial):
                    lock = claim(self.folder_of(trial.number))
                    if lock is not None and self._trials()[trial.number].state in TOLD:  # it ended meanwhile
                        lock.release()
                    elif lock is not None:
                        # Optuna has no public way to continue a trial, only to start a new one.
                        return self._start(optuna.Trial(self._study, trial._trial_id), lock)
            count = len(self._trials())
            if count >= number:
                return None
            # The seed depends on the trials of the study, not on how often this command was started.
            seed = zlib.crc32(f"{self._seed} {count} {self._salt}".encode())
            self._study.sampler = optuna.samplers.TPESampler(seed=seed)
            asked = self._study.ask()
            lock = claim(self.folder_of(asked.number))
            return None if lock is None else self._start(asked, lock)

    def _start(self, trial: optuna.Trial, lock: FolderLock) -> Trial:
        folder = self.folder_of(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        self._taken.add(trial.number)
        values = self._space.sample(lambda parameter: _suggest(trial, parameter))
        trial.set_user_attr(STARTED, platform.node())
        return Trial(folder, lock, values, trial, self._study)

    def _is_ours(self, trial: FrozenTrial) -> bool:
        """Return whether a trial marked as running is in our folder, or was killed before it had one."""
        if self.folder_of(trial.number).exists():
            return True
        started = trial.datetime_start or datetime.datetime.now()
        is_old = (datetime.datetime.now() - started).total_seconds() > ORPHAN_SECONDS
        return is_old and STARTED not in trial.user_attrs

    def folder_of(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / f"trial-{number:04}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes with the same folder from choosing a trial or writing the tables meanwhile."""
        with FolderLock() as lock:
            lock.take(self.folder, wait_seconds=LOCK_SECONDS, file=Path(".study.lock"))
            yield

    def num_told(self) -> int:
        """Return the number of trials that are over."""
        return sum(trial.state in TOLD for trial in self._trials())

    def is_waiting(self) -> bool:
        """Return whether any process is still training a trial in our folder."""
        return any(t.state is TrialState.RUNNING and self.folder_of(t.number).exists() for t in self._trials())

    def records(self) -> list[dict[str, Any]]:
        """Return {"number", "state", "value", "evaluations", "settings", "error"} of each trial, as plain values.

        The value of a pruned trial is that of its last evaluation.
        """
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "evaluations": len(trial.intermediate_values),
                "settings": self._space.sample(lambda p, t=trial: _value_of(p, t.params.get(p.name))),  # type: ignore[misc]
                "error": trial.user_attrs.get(ERROR),
            }
            for trial in self._trials()
        ]

    def importances(self) -> dict[str, float]:
        """Return the share of each setting in the variance of the value (fANOVA), the largest first; {} if unknown."""
        try:
            return dict(optuna.importance.get_param_importances(self._study))
        except (ValueError, RuntimeError):  # fewer than two trials, or all of one value
            return {}

    def _trials(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials


def open_study(
    name: str, storage: str | None, folder: Path, *, greater_is_better: bool, identity: Mapping[str, Any]
) -> optuna.Study:
    """Return the study of this name, a new one if there is none.

    `identity` is everything that must be equal for its trials to be comparable. Raises ConfigError if the study has
    another identity, or if the storage can't be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found: Any = storage if storage is not None else JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        study = optuna.create_study(
            storage=found,
            study_name=name,
            direction="maximize" if greater_is_better else "minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
        before = study.user_attrs.get(IDENTITY)
        has_trials = bool(study.get_trials(deepcopy=False))
    except OSError as error:
        raise ConfigError(f"--dir {folder}: can't be used: {error.strerror}") from error
    except Exception as error:  # a wrong address, a missing driver or server, a file of another kind
        # The address of a database may contain a password.
        where = f"--dir {folder}" if storage is None else f"--storage {re.sub('//.*@', '//***@', storage)}"
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{where}: can't be used: {type(error).__name__}: {reason}") from error
    now = json.loads(json.dumps(identity))  # as the storage returns it: tuples become lists
    if before is None and not has_trials:
        study.set_user_attr(IDENTITY, now)
    elif before != now:
        raise ConfigError(f"study {name} in {folder}: {_difference(before or {}, now)}; choose another --name or --dir")
    return study


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first difference between two identities of a study, as text."""
    for part in now:
        was, is_ = before.get(part), now[part]
        if isinstance(was, dict) and isinstance(is_, dict):
            for name in sorted(was.keys() | is_.keys()):
                if was.get(name) != is_.get(name):
                    return (
                        f"belongs to another {part}: {name} is {shorten(was.get(name))} there, "
                        f"{shorten(is_.get(name))} here"
                    )
        elif was != is_:
            return f"belongs to another {part}: {shorten(was)} there, {shorten(is_)} here"
    return "belongs to another search"


def _suggest(trial: optuna.Trial, p: Parameter) -> Any:
    """Return the value of a parameter in a trial: the one it has already, or a new one."""
    if p.choices:  # as text: Optuna stores neither lists nor mappings
        return _value_of(p, trial.suggest_categorical(p.name, [as_text(choice) for choice in p.choices]))
    if p.is_whole:
        return trial.suggest_int(p.name, int(p.low), int(p.high), step=int(p.step or 1), log=p.log)
    return trial.suggest_float(p.name, p.low, p.high, step=p.step, log=p.log)


def _value_of(parameter: Parameter, chosen: Any) -> Any:
    """Return the choice that Optuna stores as this text; a number is its own value."""
    return next((choice for choice in parameter.choices if as_text(choice) == chosen), chosen)
