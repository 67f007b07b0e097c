"""A disk that is full or a folder that can't be written: one line, and what was saved before stays whole."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.errors import TrainingError
from nerloop.run.atomic import check_folder
from nerloop.run.checkpoint import steps_in
from nerloop.train import train
from nerloop.training import training as setup

train_module = importlib.import_module("nerloop.train")  # its name is also that of its function


@pytest.fixture
def config(config):
    return replace(config, train=replace(config.train, save_every=4, eval_every=14))


@pytest.fixture
def at_step_6(monkeypatch):
    """Return a function that has something done in the middle of the training, behind the checkpoint of step 4."""
    seed = setup.dropout_seed  # type: ignore[attr-defined]

    def arrange(act):
        def seed_and_act(base, step, process):
            if step == 6:
                act()
            return seed(base, step, process)

        monkeypatch.setattr(setup, "dropout_seed", seed_and_act)

    return arrange


@pytest.fixture
def train_with_small_files(config, at_step_6, monkeypatch, capsys):
    """Return a function that trains; from step 6 on no file may exceed the size of one and some bytes, as by quota.

    That function returns the last line on stderr.
    """
    resource = pytest.importorskip("resource", reason="no limits of this kind on Windows")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def run(grown: Path | None, more: int, *flags: str) -> str:
        def limit() -> None:
            size = (grown.stat().st_size if grown is not None else 0) + more
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

        at_step_6(limit)
        arguments = ["--model.name_or_path", config.model.name_or_path, "--data.train", config.data.train,
                     "--data.validation", config.data.validation, "--train.max_steps", "14",
                     "--train.eval_every", "14", "--run.dir", config.run.dir, *flags]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["nerloop.train", *arguments])
        try:
            with pytest.raises(SystemExit) as stop:
                train_module.main()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert stop.value.code == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said.strip().splitlines()[-1]

    return run


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_and_names_the_space(config, train_with_small_files):
    message = train_with_small_files(None, 60_000, "--train.save_every", "4")
    folder = Path(config.run.dir, "checkpoints")
    assert message.startswith(f"nerloop: error: {folder / 'step-8'}: can't be written: ")
    assert "File too large" in message
    assert "it takes about 0." in message
    assert "MB are free there. What was saved before is whole" in message
    assert steps_in(folder) == [4]
    check_folder(folder / "step-4")
    assert not list(folder.glob(".step*"))  # what was written of it is given back
    status = json.loads(Path(config.run.dir, "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 4)


def test_a_metrics_file_that_can_not_grow_is_told_in_one_line(config, train_with_small_files):
    grown = Path(config.run.dir, "metrics.jsonl")
    last = train_with_small_files(grown, 10, "--run.log_every", "1")
    assert "can't be written: " in last
    assert "File too large" in last


def test_a_folder_that_is_gone_is_told_in_one_line(config, at_step_6):
    def replace_by_a_file():
        folder = Path(config.run.dir, "checkpoints")
        shutil.rmtree(folder)
        folder.write_text("")

    at_step_6(replace_by_a_file)
    with pytest.raises(TrainingError, match=r"checkpoints/step-8: can't be written: Not a directory; it takes about"):
        train(config)


MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


@pytest.mark.processes
def test_a_disk_that_is_full_ends_the_command_with_one_line_and_code_1(tmp_path, tiny_model, files):
    """A small file system of its own, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]
    if not shutil.which("unshare") or subprocess.run([*own, "1m", str(disk), "true"], capture_output=True).returncode:
        pytest.skip("no user may mount a small tmpfs here")
    arguments = ["--model.name_or_path", tiny_model, "--data.train", files["train"], "--train.max_steps", "12",
                 "--train.save_every", "4", "--run.dir", str(disk / "run")]  # fmt: skip
    # One checkpoint takes about 0.7 MB. Two do not fit, and the files are looked at before the disk goes.
    look = 'PYTHON -m nerloop.train "$@"; code=$?; ls DISK/run/checkpoints; cat DISK/run/status.json; exit $code'
    look = look.replace("PYTHON", sys.executable).replace("DISK", str(disk))
    done = subprocess.run(
        [*own, "1200k", str(disk), "bash", "-c", look, "bash", *arguments],
        capture_output=True, text=True, timeout=120, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"nerloop: error: {disk}/run/checkpoints/step-8: can't be written: ")
    assert "No space left on device" in last
    assert "Traceback" not in done.stderr
    assert "step-4" in done.stdout.split()
    assert "step-8" not in done.stdout.split()
