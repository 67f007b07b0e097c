"""Train the trials of a study with processes of `nerloop.train`, and stop hopeless trials early."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from nerloop.config import Config
from nerloop.config.parse import parse
from nerloop.errors import ConfigError, NerloopError, TrainingError
from nerloop.experiments.finished import is_done
from nerloop.experiments.runner import (
    BAR,
    POLL_SECONDS,
    Running,
    Task,
    delete_checkpoints,
    error_of,
    length_of,
    start,
    stop,
)
from nerloop.experiments.space import flag_of
from nerloop.experiments.study import Study, Trial
from nerloop.run.folder import METRICS

MOST_EVALUATIONS = 1_000_000
"""More evaluations than any run has. Evaluation j of the second seed is step MOST_EVALUATIONS + j of the trial."""
FAILURES = 3
"""After this many failed trials without a successful one, the search stops: the settings are probably wrong."""


def search(
    study: Study, number: int, base: Sequence[str], seeds: Sequence[int], slots: Sequence[Mapping[str, str]], title: str
) -> None:
    """Train until `number` trials of the study are over, at most one in each slot at a time.

    `base` are the flags of all trials. A trial whose training fails is recorded as failed, and the search goes on. If a
    run was stopped from outside, or the first three trials failed, the others save their state and the error is raised.
    """
    free, active = list(slots), list[_Attempt]()
    try:
        done = study.num_told()
        with tqdm(total=max(number, done), initial=done, desc=title, unit="trial", bar_format=BAR, disable=None) as bar:
            while True:
                while free and (trial := study.next_trial(number)) is not None:
                    active.append(_Attempt(trial, base, seeds, free.pop()))
                if not active and not study.is_waiting():
                    break
                for one in list(active):
                    if one.is_over():
                        one.trial.lock.release()
                        active.remove(one)
                        free.append(one.slot)
                        _stop_if_all_fail(study)
                bar.n = round(study.num_told() + sum(one.progress() for one in active), 2)
                bar.refresh()
                time.sleep(POLL_SECONDS)
            bar.n = study.num_told()
    finally:
        stop([one.run for one in active if one.run is not None])
        for one in active:
            one.trial.lock.release()


class _Attempt:
    """A trial that this process trains: a run for each seed, one after the other."""

    def __init__(self, trial: Trial, base: Sequence[str], seeds: Sequence[int], slot: Mapping[str, str]) -> None:
        self.trial, self.slot = trial, slot
        self.tasks = tasks_of(trial.folder, base, trial.values, seeds)
        self.run: Running | None = None

    def progress(self) -> float:
        """Return how much of the trial is done, from 0 to 1."""
        return min(0.99, sum(task.progress() for task in self.tasks) / len(self.tasks))

    def is_over(self) -> bool:
        """Report new evaluations, start the next run if none is in progress, and return whether the trial is over."""
        has_ended = self.run is None or self.run.process.poll() is not None
        if self._is_hopeless():
            self.trial.prune()  # before `stop`: if this process is killed in between, no restart continues the trial
            if self.run is not None:
                stop([self.run])
            delete_checkpoints(self.tasks)
            return True
        if not has_ended:
            return False
        if self.run is not None and (error := error_of(self.run)) is not None:
            if self.run.process.returncode not in (TrainingError.exit_code, ConfigError.exit_code):
                raise error  # stopped from outside: the trial has not failed and can be resumed
            self.trial.fail(str(error))
            return True
        todo = next((task for task in self.tasks if not is_done(task.folder)), None)
        if todo is None:
            self.trial.complete(statistics.fmean(best_value(task) for task in self.tasks))
            delete_checkpoints(self.tasks)
            return True
        self.run = start(todo, self.slot, self.trial.lock)
        return False

    def _is_hopeless(self) -> bool:
        """Report each new evaluation as the mean over the seeds so far; return whether to stop the trial early.

        A seed that is done counts with its best value. So the values of two trials at the same step are means over
        the same seeds, and can be compared.
        """
        best_of_seeds: list[float] = []
        for seed, task in enumerate(self.tasks):
            found = evaluations(task)
            for at, (done, value) in enumerate(found, start=1):
                step = seed * MOST_EVALUATIONS + at
                is_last = task is self.tasks[-1] and done >= 1  # stopping now would save no time
                if self.trial.is_hopeless(step, statistics.fmean([*best_of_seeds, value])) and not is_last:
                    return True
            if not is_done(task.folder):
                break
            best_of_seeds.append(found[-1][1])
        return False


def _stop_if_all_fail(study: Study) -> None:
    records = study.records()
    errors = [record["error"] for record in records if record["state"] == "fail"]
    if len(errors) >= FAILURES and not any(record["state"] in ("complete", "pruned") for record in records):
        raise TrainingError(f"the first {len(errors)} trials failed, the last one in {errors[-1]}")


def tasks_of(folder: Path, base: Sequence[str], values: Mapping[str, object], seeds: Sequence[int]) -> list[Task]:
    """Return a run for each seed, with some settings changed and without the test split."""
    flags = [*base, *(flag_of(name, value) for name, value in values.items()), flag_of("data.read_test", False)]
    length = length_of(configuration(base, values))
    return [Task(folder / f"seed-{seed}", [*flags, flag_of("train.seed", seed)], length) for seed in seeds]


def configuration(base: Sequence[str], values: Mapping[str, object]) -> Config:
    """Return the settings of a trial."""
    return parse([*base, *(flag_of(name, value) for name, value in values.items())], prog="nerloop.tune")


def evaluations(task: Task) -> list[tuple[float, float]]:
    """Return the evaluations of a run so far: the fraction of the training done, and the best value until then."""
    unit, number = task.length
    found = []
    try:
        lines = (task.folder / METRICS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        if b'"split": "validation"' in line:
            try:
                logged = json.loads(line)
            except ValueError:  # half written
                break
            found.append((float(logged[unit]) / number, float(logged["best"])))
    return found


def best_value(task: Task) -> float:
    """Return the best value of a finished run. Raises NerloopError if it was never evaluated."""
    found = evaluations(task)
    if not found:
        raise NerloopError(f"{task.folder / METRICS}: found no evaluation, expected one of the validation split")
    return found[-1][1]
