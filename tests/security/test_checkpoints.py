"""A checkpoint is tensors and JSON, whoever wrote it and whatever else lies in it."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nerloop.errors import CheckpointError
from nerloop.run import atomic, checkpoint
from nerloop.train import train


@pytest.fixture
def layer() -> torch.nn.Linear:
    return torch.nn.Linear(3, 2)


@pytest.fixture
def optimizer(layer) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.fixture
def step_1(layer, optimizer, tmp_path) -> Path:
    """Return a checkpoint."""
    state = {"step": 1, "best_step": None, "progress": {"step": 1, "evaluated": 0}}
    checkpoint.save_checkpoint(tmp_path / "step-1", layer, optimizer, state)
    return tmp_path / "step-1"


def sign(folder: Path) -> None:
    """Write checksums that are right, as whoever hands out a checkpoint can."""
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir() if f.name != "checksums.json"}
    (folder / "checksums.json").write_text(json.dumps(sums))


PICKLES = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl", "pytorch_model.bin", "custom_checkpoint_0.pkl")
"""What accelerate's load_state would read, most of it with pickle."""


def test_pickles_in_a_checkpoint_are_not_read(step_1, layer, optimizer, trap, mark):
    for name in PICKLES:
        torch.save(trap, step_1 / name)
    checkpoint.load_checkpoint(step_1, layer, optimizer)
    sign(step_1)
    checkpoint.load_checkpoint(step_1, layer, optimizer)
    assert checkpoint.load_state(step_1)["step"] == 1
    assert not mark.exists()


def test_a_resumed_run_reads_no_pickle_of_its_checkpoint(config, edit, trap, mark):
    config = replace(config, train=replace(config.train, max_steps=2, save_every=1))
    train(config)
    folder = Path(config.run.dir, "checkpoints")
    for name in PICKLES:
        torch.save(trap, folder / "step-1" / name)
    shutil.rmtree(folder / "step-2")
    status = Path(config.run.dir, "status.json")
    edit(status, state="interrupted")
    assert train(replace(config, run=replace(config.run, resume="auto")))["steps"] == 2
    assert json.loads(status.read_text())["state"] == "done"
    assert not mark.exists()


@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors"])
def test_a_pickle_in_place_of_a_checkpoints_tensors_is_a_damaged_checkpoint(step_1, layer, optimizer, trap, mark, name):
    (step_1 / name).write_bytes(pickle.dumps(trap))
    with pytest.raises(CheckpointError, match=rf"^{step_1 / name}: its SHA-256 is not the one in checksums.json; "):
        checkpoint.load_checkpoint(step_1, layer, optimizer)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors"])
def test_a_pickle_in_place_of_a_checkpoints_tensors_is_not_read_where_its_checksum_is_right(
    step_1, layer, optimizer, trap, mark, name
):  # fmt: skip
    torch.save(trap, step_1 / name)
    sign(step_1)
    with pytest.raises(Exception, match="deserializing header"):  # which error: the next test's business
        checkpoint.load_checkpoint(step_1, layer, optimizer)
    assert not mark.exists()


def replace_tensors(folder: Path, name: str, **tensors: torch.Tensor) -> None:
    from safetensors.torch import save_file

    save_file({key.replace("_of_", ":"): tensor for key, tensor in tensors.items()}, folder / name)


ODD_CHECKPOINTS = {
    "a pickle for the optimizer": lambda f: (f / "optimizer.safetensors").write_bytes(pickle.dumps([1])),
    "a pickle for the weights": lambda f: (f / "model.safetensors").write_bytes(pickle.dumps([1])),
    "no optimizer": lambda f: (f / "optimizer.safetensors").unlink(),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "moments of another model": lambda f: replace_tensors(f, "optimizer.safetensors", exp_avg_of_other=torch.ones(2)),
    "moments of another shape": lambda f: replace_tensors(f, "optimizer.safetensors", exp_avg_of_bias=torch.ones(7)),
    "weights of another model": lambda f: replace_tensors(f, "model.safetensors", other=torch.ones(2)),
    "weights of another shape": lambda f: replace_tensors(f, "model.safetensors", weight=torch.ones(7)),
}
ODD_STATES = {
    "a list": "[]", "null": "null", "nothing in it": "{}", "garbage": "{garbage", "empty": "", "deep": "[" * 100_000,
    "a path for the best step": '{"step": 1, "best_step": "1/../../secret", "progress": {}}',
    "text for the step": '{"step": "1", "best_step": null, "progress": {}}',
    "a list for the best step": '{"step": 1, "best_step": [1], "progress": {}}',
    "not UTF-8": "\udcff",
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_CHECKPOINTS)
def test_a_checkpoint_that_is_none_is_one_line_where_its_checksums_are_right(step_1, layer, optimizer, kind):
    ODD_CHECKPOINTS[kind](step_1)
    sign(step_1)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_checkpoint(step_1, layer, optimizer)
    assert str(caught.value).startswith(str(step_1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ODD_STATES)
def test_the_state_of_a_checkpoint_that_is_none_is_one_line(step_1, kind):
    (step_1 / "state.json").write_text(ODD_STATES[kind], encoding="utf-8", errors="surrogateescape")
    sign(step_1)
    for read in (checkpoint.load_state, lambda folder: checkpoint.last_whole(folder.parent)):
        with pytest.raises(CheckpointError) as caught:
            read(step_1)
        assert "\n" not in str(caught.value)
        assert str(step_1 / "state.json") in str(caught.value)
    assert checkpoint.load_best_step(step_1) is None


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "."])
def test_checksums_name_no_file_outside_the_checkpoint(step_1, name):
    (step_1.parent / "secret").write_text("x")
    (step_1 / "checksums.json").write_text(json.dumps({name: hashlib.sha256(b"x").hexdigest()}))
    with pytest.raises(CheckpointError) as caught:
        atomic.check_folder(step_1)
    assert str(caught.value).startswith(f"{step_1}: found no readable checksums.json")
