"""The folder of a run: opened anew, gone on with, refused; its metrics cut back; its status."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from nerloop.config import Config, DataSettings, ModelSettings, Plugin, RunSettings, TrainSettings
from nerloop.errors import CheckpointError, ConfigError, Interrupted
from nerloop.run import atomic, checkpoint, resume
from nerloop.run.folder import Run
from nerloop.run.lock import FolderLock

IDENTITY = {"precision": "no", "fingerprints": {"train": "aaa", "validation": "bbb"}, "labels": ["O", "B-X"]}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(
        model=ModelSettings(name_or_path="some/model"),
        data=DataSettings(train="train.conll"),
        run=RunSettings(dir=str(tmp_path / "run")),
    )


def open_run(config: Config, identity: dict) -> Run:
    with FolderLock() as lock:
        return resume.open_run(config, identity, lock)


def resuming(config: Config, resume: str = "auto") -> Config:
    return replace(config, run=replace(config.run, resume=resume))


def add_checkpoint(run: Run, step: int) -> None:
    state = json.dumps({"step": step, "best_step": None, "progress": {"evaluated": step}})
    atomic.write_folder(run.checkpoints / f"step-{step}", lambda f: (f / "state.json").write_text(state))


def metrics(run: Run, *steps: int) -> None:
    (run.folder / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in steps))


def steps_of(run: Run) -> list[int]:
    return [json.loads(line)["step"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_new_run(config, tmp_path):
    run = open_run(config, IDENTITY)
    assert (run.folder, run.resume_from, run.results) == (tmp_path / "run", None, None)
    assert (run.checkpoints, run.model) == (tmp_path / "run" / "checkpoints", tmp_path / "run" / "model")
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.jsonl",
        "status.json",
    ]
    assert json.loads((run.folder / "status.json").read_text()) == {"state": "running"}
    assert json.loads((run.checkpoints / "identity.json").read_text()) == IDENTITY
    saved = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert saved["model"]["name_or_path"] == "some/model"
    assert saved["run"]["dir"] == str(tmp_path / "run")
    assert saved["alignment"]["class_path"] == "nerloop.alignment.all.All"


def test_the_settings_of_a_run_are_settings(config):
    from nerloop.config.parse import parse

    run = open_run(replace(config, collator=Plugin("pack", {"width": 32})), IDENTITY)
    again = parse(["--config", str(run.folder / "config.yaml")])
    assert again.train == replace(config.train, learning_rate=5e-5, threads=torch.get_num_threads(), best_metric="f1")
    assert again.model == config.model
    assert again.collator.name == "pack"
    assert again.collator.options["width"] == 32
    assert again.run.dir == config.run.dir


def test_a_folder_that_holds_another_run_is_refused(config):
    run = open_run(config, IDENTITY)
    with pytest.raises(ConfigError) as caught:
        open_run(config, IDENTITY)
    assert str(caught.value) == (
        f"run.dir {run.folder}: holds another run (running); choose another folder, "
        "or --run.resume auto to go on with that one"
    )
    (run.folder / "status.json").write_text("{")
    with pytest.raises(ConfigError, match=r"holds another run \(unknown\)"):
        open_run(config, IDENTITY)


def test_a_folder_with_other_things_in_it_may_be_used(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert (open_run(config, IDENTITY).folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_can_not_be_made(config, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ConfigError, match=r"^run.dir .*run: can't be used: (File exists|Not a directory)$"):
        open_run(config, IDENTITY)


def test_auto_starts_where_there_is_nothing(config):
    run = open_run(resuming(config), IDENTITY)
    assert run.resume_from is None
    assert (run.folder / "config.yaml").exists()


def test_auto_starts_where_the_run_came_to_no_checkpoint(config):
    metrics(open_run(config, IDENTITY), 1, 2)
    run = open_run(resuming(config), IDENTITY)
    assert (run.resume_from, steps_of(run)) == (None, [])


def test_auto_goes_on_from_the_last_checkpoint(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    add_checkpoint(run, 10)
    metrics(run, 1, 2, 9, 10, 11, 12)
    again = open_run(resuming(config), IDENTITY)
    assert (again.resume_from, again.results) == (run.checkpoints / "step-10", None)
    assert steps_of(run) == [1, 2, 9, 10]


def test_auto_goes_back_to_a_whole_checkpoint_and_says_so(config, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nerloop"), "propagate", True)  # a training in this process turns it off
    caplog.set_level("WARNING", "nerloop")
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    add_checkpoint(run, 10)
    (run.checkpoints / "step-10" / "state.json").write_text("{}")
    metrics(run, 2, 10)
    assert open_run(resuming(config), IDENTITY).resume_from == run.checkpoints / "step-2"
    assert (steps_of(run), checkpoint.steps_in(run.checkpoints)) == ([2], [2])
    damaged = run.checkpoints / "step-10" / "state.json"
    assert caplog.messages[-1].startswith(f"warning: {damaged}: its SHA-256 is not")


def test_auto_stops_where_no_checkpoint_is_whole(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    (run.checkpoints / "step-2" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"none of its checkpoints is whole: .*state.json: missing"):
        open_run(resuming(config), IDENTITY)


def test_auto_gives_the_results_of_a_run_that_is_done(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    (run.folder / "results.json").write_text('{"steps": 2}')
    run.set_status("done", step=2)
    again = open_run(resuming(config), IDENTITY)
    assert (again.results, again.resume_from) == ({"steps": 2}, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TrainSettings(batch_size=16)}, "run.resume: train.batch_size is 16, but {} was started with 32"),
        ({"model": ModelSettings(name_or_path="other")},
         "run.resume: model.name_or_path is 'other', but {} was started with 'some/model'"),
        ({"alignment": Plugin("first")},
         "run.resume: alignment is 'first', but {} was started with 'all'"),
        ({"alignment": Plugin("all", {"stride": 3})},
         "run.resume: alignment.stride is 3, but {} was started with None"),
    ],
)  # fmt: skip
def test_other_settings_are_named(config, change, message):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    with pytest.raises(ConfigError) as caught:
        open_run(resuming(replace(config, **change)), IDENTITY)
    assert str(caught.value).startswith(message.format(run.folder))
    if message.endswith("32"):
        assert str(caught.value).endswith("; set it back, or choose another run.dir")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprints": {"train": "aaa", "validation": "zzz"}},
         "run.resume: the validation data are not those that .*run was started with; bring them back, or choose"),
        ({"fingerprints": {"train": "aaa"}}, "run.resume: the validation data are not those that"),
        ({"fingerprints": {**IDENTITY["fingerprints"], "test": "c"}}, "run.resume: the test data are not those that"),
        ({"precision": "bf16"}, "run.resume: precision is 'bf16', but"),
        ({"labels": ["O"]}, r"run.resume: labels is \['O'\], but"),
    ],
)  # fmt: skip
def test_other_data_and_another_precision_are_named(config, change, message):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    with pytest.raises(ConfigError, match=message):
        open_run(resuming(config), {**IDENTITY, **change})


def test_what_does_not_change_the_training_may_change(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    changed = replace(
        config,
        collator=Plugin("pad"),
        data=DataSettings(train="elsewhere/train.conll"),  # the fingerprints say that it is the same
        train=TrainSettings(gradient_accumulation_steps=4, mixed_precision="no", cuda_graphs=False, threads=3),
        run=replace(config.run, log_every=1, keep_checkpoints=9, resume="auto"),
    )
    assert open_run(changed, IDENTITY).resume_from == run.checkpoints / "step-2"


def test_a_run_whose_settings_are_gone(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    (run.folder / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"^run.dir .*run: its config.yaml can't be read: FileNotFoundError"):
        open_run(resuming(config), IDENTITY)


def test_a_checkpoint_that_is_named_is_gone_on_from(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    add_checkpoint(run, 4)
    metrics(run, 1, 2, 3, 4)
    without_dir = replace(config, run=RunSettings(resume=str(run.checkpoints / "step-2")))
    again = open_run(without_dir, IDENTITY)
    assert (again.folder, again.resume_from) == (run.folder, run.checkpoints / "step-2")
    assert steps_of(run) == [1, 2]
    assert checkpoint.steps_in(run.checkpoints) == [2]


def test_a_checkpoint_that_is_none(config):
    open_run(config, IDENTITY)
    with pytest.raises(CheckpointError) as caught:
        open_run(resuming(config, "runs/nowhere"), IDENTITY)
    assert str(caught.value) == (
        "run.resume runs/nowhere: found no checkpoint, expected off, auto or the folder of one"
    )


def test_a_named_checkpoint_that_is_damaged(config):
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    (run.checkpoints / "step-2" / "state.json").write_text("{ }")
    with pytest.raises(CheckpointError, match=r"state.json: its SHA-256 is not the one"):
        open_run(resuming(config, str(run.checkpoints / "step-2")), IDENTITY)


def test_an_elastic_restart_implies_auto(config, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    run = open_run(config, IDENTITY)
    add_checkpoint(run, 2)
    with pytest.raises(ConfigError, match="holds another run"):
        open_run(config, IDENTITY)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert open_run(config, IDENTITY).resume_from == run.checkpoints / "step-2"


@pytest.mark.parametrize(
    ("model", "train", "expected"),
    [
        ("a/bert-base-NER", "wikigold/train.conll", "bert-base-NER-wikigold"),
        ("./models/my model/", "news.conll", "my_model-news"),
        ("x", "train.conll", "x-train"),
    ],
)
def test_the_name_of_a_run(monkeypatch, tmp_path, model, train, expected):
    monkeypatch.chdir(tmp_path)
    config = Config(model=ModelSettings(name_or_path=model), data=DataSettings(train=train))
    folder = open_run(config, IDENTITY).folder
    assert folder.parts[0] == "runs"
    assert folder.name.split("-", 2)[2] == expected
    assert folder.is_dir()


# metrics.jsonl


def cut(tmp_path: Path, text: str, step: int) -> str:
    file = tmp_path / "metrics.jsonl"
    file.write_text(text, encoding="utf-8")
    resume.cut_metrics(file, step, step)
    return file.read_text(encoding="utf-8")


def test_later_steps_are_cut_off(tmp_path):
    text = '{"step": 1}\n{"step": 2, "f1": 0.5}\n{"step": 3}\n'
    assert cut(tmp_path, text, 2) == '{"step": 1}\n{"step": 2, "f1": 0.5}\n'
    assert cut(tmp_path, text, 0) == ""
    assert cut(tmp_path, text, 9) == text


def test_half_a_last_line_is_cut_off(tmp_path):
    assert cut(tmp_path, '{"step": 1}\n{"step": 2, "los', 9) == '{"step": 1}\n'
    assert cut(tmp_path, '{"step": 1}', 9) == '{"step": 1}\n'
    assert cut(tmp_path, "", 9) == ""


def test_a_type_with_a_line_separator_in_it_is_no_end_of_a_line(tmp_path):
    text = '{"step": 1, "per_type": {"a\u2028b\x85c": 1}}\n'
    assert cut(tmp_path, text, 1) == text


def test_no_metrics_yet(tmp_path):
    resume.cut_metrics(tmp_path / "metrics.jsonl", 3, 3)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


# status.json and patience


def test_the_status_has_the_time(tmp_path):
    Run(tmp_path).set_status("interrupted", step=7)
    status = json.loads((tmp_path / "status.json").read_text())
    assert {**status, "time": status["time"][-1]} == {"state": "interrupted", "step": 7, "time": "Z"}


def test_a_launch_is_gone_on_with_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as `accelerate launch` sets it
    with pytest.raises(Interrupted) as caught, Run(tmp_path).recording_failure(is_main=False):
        raise Interrupted("SIGTERM: stopped")
    assert str(caught.value) == (
        f"SIGTERM: stopped; go on with the same command and --run.dir {tmp_path} --run.resume auto"
    )


def test_a_failure_is_noted_by_the_main_process(tmp_path):
    for is_main in (False, True):
        with pytest.raises(RuntimeError, match="no more"), Run(tmp_path).recording_failure(is_main):
            raise RuntimeError("no more")
        assert (tmp_path / "status.json").exists() == is_main
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", "RuntimeError: no more")
