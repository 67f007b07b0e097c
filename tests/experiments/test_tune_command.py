"""`python -m nerloop.tune`: bad input, kills, pruning, and that test data are never read."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from nerloop import tune as command
from nerloop.config import Config, DataSettings
from nerloop.config.parse import parse
from nerloop.data.read_dataset import read_dataset
from nerloop.errors import ConfigError, DataError, TrainingError
from nerloop.experiments.runner import Task
from nerloop.experiments.space import read_space
from nerloop.run.lock import FolderLock
from nerloop.training import setup

COMMAND = [sys.executable, "-m", "nerloop.tune"]
SPACE = "train.learning_rate: {low: 1e-4, high: 1e-2, log: true}\ntrain.schedule: {choices: [linear, constant]}\n"


@pytest.fixture
def folder(tmp_path, tiny_model, files, monkeypatch):
    """Write a configuration of 12 steps, whose test file isn't there, and a space."""
    data = "".join(f"  {split}: {json.dumps(files[split])}\n" for split in ("train", "validation"))
    steps = "train: {max_steps: 12, batch_size: 4, eval_every: 4, save_every: 2}\nrun: {score_pipeline: 0}\n"
    text = f"model:\n  name_or_path: {tiny_model}\ndata:\n{data}  test: nobody/reads/this.conll\n{steps}"
    (tmp_path / "base.yaml").write_text(text)
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    flags = ("base.yaml", "--space", "space.yaml", *flags)
    return subprocess.run([*COMMAND, *flags], cwd=folder, capture_output=True, text=True, timeout=600)


# Test data


def test_without_read_test_the_test_split_is_not_opened(files):
    data = DataSettings(train=files["train"], validation=files["validation"], test="nobody/reads/this.conll")
    assert list(read_dataset(replace(data, read_test=False)).splits) == ["train", "validation"]
    with pytest.raises(DataError, match="nobody/reads/this"):
        read_dataset(data)


def test_without_read_test_a_data_set_has_no_test_split(tmp_path):
    rows = {"tokens": [["Anna"], ["Paris"]], "tags": [["B-PER"], ["B-LOC"]]}
    damaged = {"tokens": [["Anna"]], "tags": [["B-PER", "O"]]}
    splits = {"train": rows, "validation": rows, "test": damaged}
    datasets.DatasetDict({s: datasets.Dataset.from_dict(v) for s, v in splits.items()}).save_to_disk(
        str(tmp_path / "d")
    )
    data = DataSettings(dataset=str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))
    found = read_dataset(replace(data, read_test=False))
    assert list(found.splits) == list(found.fingerprints) == ["train", "validation"]
    with pytest.raises(DataError, match="test"):
        read_dataset(data)


@pytest.mark.parametrize("read_test", [True, False])
def test_without_read_test_the_demo_has_no_test_split(read_test):
    from accelerate import Accelerator

    config = Config(data=DataSettings(read_test=read_test))
    assert config.is_demo
    assert ("test" in setup.load_dataset(config, Accelerator(cpu=True)).splits) == read_test


# Bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trials", "0"], "--trials: found 0, expected 1 to"),
        (["--seeds", "0"], "--seeds: found 0, expected 1 to"),
        (["--rerun", "-1"], "--rerun: found -1, expected 0 to"),
        (["--rerun", "1", "--rerun_seeds", ""], "--rerun_seeds: found '', expected at least one seed"),
        (["--seeds", "3", "--rerun_seeds", "44"], "--rerun_seeds: found 44, with which the trials are trained"),
        (["--jobs", "0"], "--jobs: found 0, expected 1 to"),
        (["--space", "nope.yaml"], "--space nope.yaml: can't be read"),
        (["--", "--run.dir", "x"], "base.yaml: run.dir is 'x', expected none"),
        (["--", "--train.epoch", "1"], "did you mean --train.epochs?"),
        (["--", "--data.validation", "null"], "data.validation: found none, expected sentences"),
        (["--", "--data.train", "nope.conll"], "nope.conll"),
    ],
)
def test_bad_input_is_told_before_any_training(folder, flags, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises((ConfigError, DataError)) as error:
        command.tune(command._arguments(["base.yaml", "--space", "space.yaml", *flags]))
    assert message in str(error.value)
    assert not (folder / "runs").exists()


def test_without_optuna_one_line_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "nerloop.experiments.study", raising=False)
    with pytest.raises(ConfigError) as error:
        command.tune(command._arguments(["base.yaml", "--space", "space.yaml"]))
    assert str(error.value) == 'nerloop.tune needs Optuna: pip install "nerloop[tune]"'


# Studies, without training


@pytest.fixture
def open_study(folder):
    """Return a function that opens the study of the space in `folder`, as a new process would."""
    pytest.importorskip("optuna")
    from nerloop.experiments.study import Study, open_study

    def open_(identity="x", storage=None, name="study"):
        space = read_space("space.yaml", ["--config", "base.yaml"])
        opened = open_study("s", storage, folder / name, greater_is_better=True, identity={"space": identity})
        return Study(opened, space, folder / name, seed=1, salt=name)

    return open_


@pytest.mark.extras
def test_an_interrupted_trial_comes_first_with_its_values_and_folder(open_study):
    first = open_study().next_trial(3)
    second = open_study().next_trial(3)  # another process: the first trial is taken
    assert [first.folder.name, second.folder.name] == ["trial-0000", "trial-0001"]
    assert first.values != second.values
    first.lock.release()  # as its process's death does
    again = open_study().next_trial(3)
    assert (again.folder, again.values) == (first.folder, first.values)
    again.complete(0.5)
    again.lock.release()
    assert open_study().next_trial(3).folder.name == "trial-0002"
    assert open_study().next_trial(3) is None
    assert open_study().num_told() == 1


@pytest.mark.extras
def test_machines_with_folders_of_their_own_share_a_study_in_a_database(open_study, folder):
    url = f"sqlite:///{folder}/study.db"
    ours = open_study(storage=url, name="a").next_trial(2)
    ours.lock.release()
    assert open_study(storage=url, name="b").next_trial(2).folder == folder / "b" / "trial-0001"
    assert open_study(storage=url, name="b").next_trial(2) is None
    again = open_study(storage=url, name="a").next_trial(2)
    assert (again.folder, again.values) == (ours.folder, ours.values)


@pytest.mark.extras
def test_a_trial_that_was_killed_before_it_had_a_folder_is_trained(open_study):
    study = open_study()
    study._study.ask()
    assert study.next_trial(1) is None  # so young that it may be another machine's
    from nerloop.experiments import study as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ORPHAN_SECONDS", -1)
        assert study.next_trial(1).folder.name == "trial-0000"


@pytest.mark.extras
def test_values_do_not_depend_on_restarts(open_study, folder):
    values = []
    for _ in range(3):
        trial = open_study().next_trial(3)
        values.append(trial.values)
        trial.complete(0.1)
    (folder / "study").rename(folder / "old")
    study = open_study()
    for expected in values:
        trial = study.next_trial(3)
        assert trial.values == expected
        trial.complete(0.1)
    assert len({value["train.learning_rate"] for value in values}) == 3


@pytest.mark.extras
def test_a_trial_below_the_median_is_hopeless_but_not_one_of_the_first_five(open_study):
    study = open_study()
    for value in (0.5, 0.1, 0.6, 0.7, 0.8):
        trial = study.next_trial(9)
        assert not trial.is_hopeless(1, value)
        trial.complete(value)
    bad, good = study.next_trial(9), study.next_trial(9)
    assert bad.is_hopeless(1, 0.4)
    assert not good.is_hopeless(1, 0.65)
    bad.prune()
    records = study.records()
    assert [records[i]["state"] for i in (0, 5, 6)] == ["complete", "pruned", "running"]
    assert records[5]["value"] == 0.4


@pytest.mark.extras
def test_a_study_of_another_space_is_refused(open_study):
    open_study({"train.epochs": {"low": 1}})
    with pytest.raises(ConfigError, match=r"belongs to another space: train.batch_size is None there, {'low': 1} here"):
        open_study({"train.batch_size": {"low": 1}})


@pytest.mark.extras
@pytest.mark.parametrize("url", ["nonsense", "postgresql://me:secret@localhost/x", "sqlite:///no/such/folder/x.db"])
def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(tmp_path, url):
    pytest.importorskip("optuna")
    from nerloop.experiments.study import open_study

    with pytest.raises(ConfigError, match=r"^--storage .*: can't be used: ") as error:
        open_study("s", url, tmp_path, greater_is_better=True, identity={})
    assert "secret" not in str(error.value)


@pytest.mark.extras
def test_a_study_goes_on_after_failures_unless_nothing_but_failures_came(open_study):
    from nerloop.experiments.search import _stop_if_all_fail

    study = open_study()
    trials = [study.next_trial(9) for _ in range(4)]
    for trial in trials[:2]:
        trial.fail("its reason")
    _stop_if_all_fail(study)
    trials[2].fail("another reason")
    with pytest.raises(TrainingError, match=r"^the first 3 trials failed, the last one in another reason$"):
        _stop_if_all_fail(study)
    trials[3].complete(0.5)
    _stop_if_all_fail(study)
    assert [record["error"] for record in study.records()][1:] == ["its reason", "another reason", None]


# Studies that train


class FakeTrial:
    """A trial without a study, which is hopeless from its first evaluation on."""

    def __init__(self, folder: Path, values: dict[str, object]) -> None:
        self.folder, self.values, self.lock = folder, values, FolderLock()
        self.reported: list[tuple[int, float]] = []
        self.state = "running"
        folder.mkdir()

    def is_hopeless(self, step: int, value: float) -> bool:
        self.reported.append((step, value))
        return True

    def prune(self) -> None:
        self.state = "pruned"

    def fail(self, error: str) -> None:
        self.state = f"failed: {error}"


def train(trial: FakeTrial):
    pytest.importorskip("optuna")
    from nerloop.experiments.search import _Attempt

    attempt = _Attempt(trial, ["--config", "base.yaml"], [1, 2], {})  # type: ignore[arg-type]
    deadline = time.monotonic() + 200
    while not attempt.is_over():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert attempt.run is not None
    return attempt.run.process.returncode


@pytest.mark.extras
def test_a_trial_that_cannot_be_trained_fails_with_the_reason(folder):
    trial = FakeTrial(folder / "trial", {"alignment.max_length": 1000})
    assert train(trial) == 2
    assert trial.state.startswith(
        f"failed: {folder}/trial/seed-1: alignment.max_length: found 1000, expected more than"
    )


@pytest.mark.extras
def test_a_hopeless_trial_is_stopped(folder):
    trial = FakeTrial(folder / "trial", {"train.max_steps": 100_000})
    assert train(trial) == 130
    assert trial.state == "pruned"
    assert [step for step, _ in trial.reported] == [1]
    assert not list((trial.folder / "seed-1" / "checkpoints").glob("step-*"))
    assert not (trial.folder / "seed-2").exists()


@pytest.mark.extras
def test_a_trial_reports_the_mean_over_its_seeds(tmp_path):
    pytest.importorskip("optuna")
    from nerloop.experiments.search import MOST_EVALUATIONS, _Attempt, best_value, evaluations

    attempt = object.__new__(_Attempt)
    attempt.tasks = [Task(tmp_path / f"seed-{i}", [], ("step", 8)) for i in (1, 2)]
    for task, values in zip(attempt.tasks, ([0.2, 0.6], [0.4]), strict=True):
        task.folder.mkdir()
        lines = [{"step": 1, "loss": 1.0}, *({"step": 4 * i, "split": "validation", "best": v}
                                             for i, v in enumerate(values, start=1))]  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (task.folder / "metrics.jsonl").write_text(text + '{"step": 9, "split": "validation", "be')
    (tmp_path / "seed-1" / "status.json").write_text('{"state": "done"}')
    (tmp_path / "seed-1" / "results.json").write_text("{}")
    assert evaluations(attempt.tasks[0]) == [(0.5, 0.2), (1.0, 0.6)]
    assert best_value(attempt.tasks[0]) == 0.6
    reported = []

    class Trial:
        def is_hopeless(self, step: int, value: float) -> bool:
            reported.append((step, value))
            return False

    attempt.trial = Trial()  # type: ignore[assignment]
    assert not attempt._is_hopeless()
    assert reported == [(1, 0.2), (2, 0.6), (MOST_EVALUATIONS + 1, 0.5)]


@pytest.mark.extras
@pytest.mark.timeout(900)
def test_a_study_that_is_killed_twice_ends_with_its_trials(folder):
    pytest.importorskip("optuna")
    flags = ("--trials", "6", "--rerun", "1", "--rerun_seeds", "1,2")
    study = folder / "runs" / "tune" / "base"
    for awaited in ("trial-0000/seed-42/checkpoints/step-*", "trial-0002/seed-42/checkpoints/step-*"):
        process = subprocess.Popen([*COMMAND, "base.yaml", "--space", "space.yaml", *flags], cwd=folder)
        deadline = time.monotonic() + 120
        while not any(study.glob(awaited)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = run(folder, *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads((study / "trials.json").read_text())
    assert sorted(trial["number"] for trial in found["trials"]) == list(range(6))
    assert {trial["state"] for trial in found["trials"]} <= {"complete", "pruned"}
    assert len(list(study.glob("trial-*/seed-42"))) == 6
    assert not list(study.glob("*/*/predictions.test.*"))
    values = [trial["value"] for trial in found["trials"] if trial["state"] == "complete"]
    assert values == sorted(values, reverse=True)
    assert len(values) >= 5
    # The lead and the luck in it
    again = found["rerun"]
    assert [one["number"] for one in again] == [trial["number"] for trial in found["trials"][:1]]
    for one in again:
        assert one["seeds"] == [1, 2]
        assert one["luck"] == pytest.approx(one["value"] - one["new"]["mean"])
    assert "luck" in done.stdout
    # The files of the study
    best = parse(["--config", str(study / "best.yaml")])
    (chosen,) = [trial for trial in found["trials"] if trial["number"] == found["best"]]
    assert best.train.learning_rate == chosen["settings"]["train.learning_rate"]
    assert (best.train.max_steps, best.data.test, best.data.read_test) == (12, "nobody/reads/this.conll", True)
    rows = list(csv.DictReader((study / "trials.csv").read_text().splitlines()))
    assert [float(row["train.learning_rate"]) for row in rows] == [
        trial["settings"]["train.learning_rate"] for trial in found["trials"]
    ]
    assert len(list(study.glob("hparams/trial-*/events*"))) == 6
    # The same command trains nothing; another space or base is refused
    before = (study / "trial-0000" / "seed-42" / "results.json").stat().st_mtime_ns
    assert run(folder, *flags).returncode == 0
    assert (study / "trial-0000" / "seed-42" / "results.json").stat().st_mtime_ns == before
    other = run(folder, "--", "--train.max_steps", "13")
    assert (other.returncode, len(other.stderr.splitlines())) == (2, 1)
    assert "belongs to another base configuration: train.max_steps is 12 there, 13 here" in other.stderr
