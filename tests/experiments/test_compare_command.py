"""`python -m nerloop.compare` as a user starts it: trains what is missing, survives kills, cross-validates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nerloop import compare as command
from nerloop.config import Config, DataSettings, ModelSettings
from nerloop.errors import ConfigError
from nerloop.experiments.folds import assign, write_folds
from nerloop.types import Example

COMMAND = [sys.executable, "-m", "nerloop.compare"]


@pytest.fixture
def folder(tmp_path, tiny_model, files):
    """Write two configurations that differ in the learning rate."""
    for name, rate in (("low", 1e-4), ("high", 1e-2)):
        data = "".join(f"  {split}: {json.dumps(path)}\n" for split, path in files.items())
        steps = "train:\n  max_steps: 12\n  batch_size: 4\n  eval_every: 6\n  save_every: 3\n"
        text = f"model:\n  name_or_path: {tiny_model}\ndata:\n{data}{steps}  learning_rate: {rate}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *flags], cwd=folder, capture_output=True, text=True, timeout=280)


@pytest.mark.processes
def test_a_killed_comparison_goes_on_where_it_was(folder):
    flags = ["low.yaml", "high.yaml", "--seeds", "1,2", "--json", "c.json", "--html", "c.html"]
    first = subprocess.Popen([*COMMAND, *flags], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done = folder / "runs" / "compare" / "low" / "seed-1" / "results.json"
    deadline = time.monotonic() + 120
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    written = done.stat().st_mtime_ns
    finished = run(folder, *flags)
    assert finished.returncode == 0, finished.stderr
    left = sorted(p.name for p in done.parents[2].glob("high/seed-?/checkpoints/*") if p.name != ".lock")
    assert left == ["identity.json"] * 2  # no checkpoint
    assert done.stat().st_mtime_ns == written  # not trained again
    found = json.loads((folder / "c.json").read_text())
    assert [(one["name"], one["seeds"]) for one in found["configurations"]] == [("low", [1, 2]), ("high", [1, 2])]
    assert {(pair["a"], pair["b"], pair["seeds"]) for pair in found["pairs"]} == {("low", "high", 2)}
    assert found["differing_settings"] == {"train.learning_rate": [1e-4, 1e-2]}
    assert "points of f1" in finished.stdout
    assert (folder / "c.html").read_text().startswith("<!DOCTYPE html>")
    for flags_, problem in (
        (["--", "--train.batch_size", "2"], "is done with train.batch_size 4, but 2 is asked for"),
        (["--", "--data.test", "null"], "is done with other data than those of today"),
    ):
        refused = run(folder, *flags, *flags_)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"nerloop: error: runs/compare/low/seed-1: {problem}; choose another --dir, or delete the finished runs of "
            "this configuration\n"
        )
    again = run(folder, "--runs", "runs/compare/low/seed-?", "runs/compare/high/seed-?", "--json", "-")
    assert json.loads(again.stdout)["pairs"][0]["difference"] == found["pairs"][0]["difference"]


@pytest.mark.processes
def test_bad_input_is_one_line(folder):
    found = run(folder, "low.yaml", "--seeds", "")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "nerloop: error: --seeds: found '', expected at least one seed, each once, such as 1..10\n"


@pytest.mark.processes
def test_ctrl_c_saves_the_runs_and_says_so(folder):
    command = [*COMMAND, "low.yaml", "--seeds", "1", "--", "--train.max_steps", "100000"]
    run_folder = folder / "runs" / "compare" / "low" / "seed-1"
    deadline = time.monotonic() + 120
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        while not any(run_folder.glob("checkpoints/step-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "nerloop: stopped by Ctrl-C"
    assert json.loads((run_folder / "status.json").read_text())["state"] == "interrupted"


@pytest.mark.processes
def test_folds_score_every_training_sentence_once(folder, files):
    flags = ["low.yaml", "high.yaml", "--seeds", "3", "--folds", "2", "--json", "c.json"]
    found = run(folder, *flags)
    assert found.returncode == 0, found.stderr
    other_parts = run(folder, "low.yaml", "--seeds", "3", "--folds", "4")
    assert other_parts.returncode == 2
    assert "seed-3/fold-1: is done with data.train '2-" in other_parts.stderr
    elsewhere = run(folder, *flags, "--dir", str(folder / "runs" / "compare"))
    assert (elsewhere.returncode, elsewhere.stdout) == (0, found.stdout)
    compared = json.loads((folder / "c.json").read_text())
    assert list(compared["configurations"][0]["splits"]) == ["out_of_fold"]
    lines = (folder / "runs/compare/low/seed-3/predictions.out_of_fold.jsonl").read_text().splitlines()
    predicted = sorted(tuple(json.loads(line)["tokens"]) for line in lines)
    train = Path(files["train"]).read_text().split("\n\n")
    gold = sorted(tuple(row.split()[0] for row in s.splitlines()) for s in train if s.strip())
    assert predicted == gold


def test_another_number_of_parts_or_other_data_get_files_of_their_own(files, tmp_path):
    config = Config(model=ModelSettings(name_or_path="x"), data=DataSettings(train=files["train"]))
    folders = []
    for number in (2, 4, 2):
        settings = write_folds(config, number, tmp_path / "folds")
        held_out = [Path(of_fold["data.validation"]).read_text().count("\n") for of_fold in settings]
        assert (len(held_out), sum(held_out), max(held_out) - min(held_out) <= 1) == (number, 50, True)
        folders.append(Path(settings[0]["data.train"]).parent)
    assert folders[0] == folders[2] != folders[1]
    more = tmp_path / "more.conll"
    more.write_text(Path(files["train"]).read_text() + "\nNew O\n\n")
    other = write_folds(Config(model=config.model, data=DataSettings(train=str(more))), 2, tmp_path / "folds")
    assert Path(other[0]["data.train"]).parent not in folders


def test_documents_stay_in_one_part():
    examples = [Example(("x",), ("O",), document=f"d{i // 5}") for i in range(40)]
    parts = assign(examples, 4)
    assert sorted(np.bincount(parts)) == [10, 10, 10, 10]
    assert all(len(set(parts[i : i + 5])) == 1 for i in range(0, 40, 5))
    assert (assign(examples, 4) == parts).all()
    without = assign([Example(("x",), ("O",))] * 7, 7)
    assert sorted(without) == list(range(7))
    with pytest.raises(ConfigError, match="--folds 9: found 8 documents or sentences, expected at least 9"):
        assign(examples, 9)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "expected settings files to train, or --runs"),
        (["nope.yaml"], "nope.yaml"),
        (["low.yaml", "other.yaml"], "other: has other data than low, expected the same data"),
        (["low.yaml", "high.yaml", "--seeds", ""], "--seeds: found '', expected at least one seed"),
        (["low.yaml", "low.yaml"], "found two configurations named low, expected each once"),
        (["low.yaml", "--folds", "1"], "--folds: found 1, expected 2 to 100"),
        (["low.yaml", "--", "--train.learning_rat", "1"], "did you mean --train.learning_rate?"),
        (["low.yaml", "--", "--run.dir", "x"], "low: run.dir is 'x', expected none"),
        (
            ["low.yaml", "--", "--data.validation", "null", "--data.test", "null"],
            "low.yaml: found neither data.validation nor data.test, expected one to compare on",
        ),
        (["low.yaml", "--jobs", "0"], "--jobs: found 0, expected 1 to"),
    ],
)
def test_bad_input_is_told_before_any_training(folder, files, flags, message, monkeypatch):
    other = folder / "other.conll"
    other.write_text("Anna B-PER\n\n" * 5)
    text = (folder / "low.yaml").read_text()
    (folder / "other.yaml").write_text(text.replace(json.dumps(files["train"]), json.dumps(str(other))))
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as error:
        command.compare(command._arguments(flags))
    assert message in str(error.value)
    assert not os.path.exists(folder / "runs" / "compare" / "low" / "seed-1" / "metrics.jsonl")
