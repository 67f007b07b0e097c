"""Checkpoints: exact, whole or not there, never half, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nerloop.errors import CheckpointError
from nerloop.run import atomic, checkpoint


class Tied(nn.Module):
    """A little of everything: an embedding that is the last layer's weight too, a norm, a frozen parameter."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(7, 4)
        self.hidden = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.hidden(self.embedding(ids))))


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01, fused=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        ids = torch.randint(0, 7, (8,), generator=generator)
        nn.functional.cross_entropy(model(ids), ids).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def written(tmp_path) -> Path:
    """Return the folder of checkpoints of steps 3 and 5, which the best of step 3 belongs to."""
    model = Tied(0)
    optimizer = optimizer_of(model)
    for step, num_steps in ((3, 3), (5, 2)):
        train(model, optimizer, num_steps, seed=step)
        state = {"step": step, "best_step": 3}
        checkpoint.save_checkpoint(tmp_path / f"step-{step}", model, optimizer, state)
    atomic.write_folder(tmp_path / "best-3", lambda f: checkpoint.save_weights(model, f))
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_round_trip_is_bit_exact_and_so_is_the_next_step(tmp_path):
    ours, theirs = Tied(0), Tied(1)
    our_optimizer, their_optimizer = optimizer_of(ours), optimizer_of(theirs)
    train(ours, our_optimizer, 3, seed=0)
    train(theirs, their_optimizer, 1, seed=9)  # a state of its own, which must go
    checkpoint.save_checkpoint(tmp_path / "step-3", ours, our_optimizer, {"step": 3})
    checkpoint.load_checkpoint(tmp_path / "step-3", theirs, their_optimizer)

    def are_equal() -> bool:
        return all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))

    assert are_equal()
    assert theirs.out.weight is theirs.embedding.weight
    num_moments = 0
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert our_optimizer.state[p].keys() == their_optimizer.state[q].keys()
        for key, value in our_optimizer.state[p].items():
            assert torch.equal(value, their_optimizer.state[q][key])
            assert value.dtype == their_optimizer.state[q][key].dtype
            num_moments += 1
    assert num_moments == 15  # step, exp_avg, exp_avg_sq of 5 trained parameters
    train(ours, our_optimizer, 2, seed=5)
    train(theirs, their_optimizer, 2, seed=5)
    assert are_equal()


def test_without_the_moments_the_next_step_would_be_another(tmp_path):
    ours, theirs = Tied(0), Tied(1)
    our_optimizer = optimizer_of(ours)
    train(ours, our_optimizer, 3, seed=0)
    checkpoint.save_checkpoint(tmp_path / "step-3", ours, our_optimizer, {"step": 3})
    checkpoint.load_weights(theirs, tmp_path / "step-3")
    train(ours, our_optimizer, 1, seed=5)
    train(theirs, optimizer_of(theirs), 1, seed=5)
    assert not torch.equal(ours.hidden.weight, theirs.hidden.weight)


def test_a_checkpoint_before_the_first_step_has_no_moments(tmp_path):
    model = Tied(0)
    checkpoint.save_checkpoint(tmp_path / "step-0", model, optimizer_of(model), {"step": 0})
    other = Tied(1)
    optimizer = optimizer_of(other)
    checkpoint.load_checkpoint(tmp_path / "step-0", other, optimizer)
    assert torch.equal(model.hidden.weight, other.hidden.weight)
    assert len(optimizer.state) == 0


def test_there_are_only_safetensors_and_json(written):
    assert names(written) == ["best-3", "step-3", "step-5"]
    assert names(written / "step-5") == [
        "checksums.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip
    assert names(written / "best-3") == ["checksums.json", "model.safetensors"]
    for file in written.rglob("*.*"):
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.is_file():
            assert file.suffix == ".safetensors"
            size = int.from_bytes(file.read_bytes()[:8], "little")
            json.loads(file.read_bytes()[8 : 8 + size])


def test_the_state_comes_back(written):
    assert checkpoint.load_state(written / "step-5") == {"step": 5, "best_step": 3}


FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "{}: its SHA-256 is not the one in checksums.json; the checkpoint is damaged"),
        (flip, "{}: its SHA-256 is not the one in checksums.json; the checkpoint is damaged"),
        (Path.unlink, "{}: missing; the checkpoint is not whole"),
    ],
)
def test_damage_is_found_and_the_file_named(written, name, damage, message):
    damage(written / "step-5" / name)
    for load in (
        lambda folder: atomic.check_folder(folder),
        lambda folder: checkpoint.load_state(folder),
        lambda folder: checkpoint.load_weights(Tied(2), folder),
        lambda folder: checkpoint.load_checkpoint(folder, Tied(2), None),
    ):
        with pytest.raises(CheckpointError) as caught:
            load(written / "step-5")
        assert str(caught.value) == message.format(written / "step-5" / name)


@pytest.mark.parametrize("text", [None, "", '{"model.safetensors": ', "[]", "{}", '{"state.json": "0"}'])
def test_without_readable_checksums_it_is_no_checkpoint(written, text):
    file = written / "step-5" / "checksums.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(CheckpointError, match="step-5"):
        atomic.check_folder(written / "step-5")


def test_the_last_whole_one_is_taken_and_the_rest_told(written):
    assert checkpoint.last_whole(written) == (written / "step-5", [])
    flip(written / "step-5" / "state.json")
    damaged = written / "step-5" / "state.json"
    problem = f"{damaged}: its SHA-256 is not the one in checksums.json; the checkpoint is damaged"
    assert checkpoint.last_whole(written) == (written / "step-3", [problem])


def test_none_whole_is_an_error(written):
    for step in (3, 5):
        (written / f"step-{step}" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.last_whole(written)
    assert str(caught.value) == (
        f"{written}: none of its checkpoints is whole: {written / 'step-5' / 'model.safetensors'}: missing; the "
        "checkpoint is not whole. Start anew in another run.dir"
    )


def test_no_checkpoints_are_no_error(tmp_path):
    (tmp_path / "best-9").mkdir()
    (tmp_path / ".step-4.tmp").mkdir()
    assert checkpoint.last_whole(tmp_path) == (None, [])
    assert checkpoint.last_whole(tmp_path / "nowhere") == (None, [])


def test_steps_are_counted_as_numbers(tmp_path):
    for name in ("step-10", "step-9", "step-x", "step-11.tmp", ".step-12.tmp", "best-3", "notstep-1"):
        (tmp_path / name).mkdir()
    assert checkpoint.steps_in(tmp_path) == [9, 10]
    assert checkpoint.steps_in(tmp_path, "best") == [3]


def make(folder: Path, step: int, best_step: int | None) -> None:
    """Make a small checkpoint that refers to some best weights, and those."""
    state = json.dumps({"step": step, "best_step": best_step})
    atomic.write_folder(folder / f"step-{step}", lambda f: (f / "state.json").write_text(state))
    if best_step is not None:
        atomic.write_folder(folder / f"best-{best_step}", lambda f: (f / "x").write_text("x"))


def test_prune_keeps_the_last_and_the_best_that_they_refer_to(tmp_path):
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 4), (5, 4)):
        make(tmp_path, step, best)
    (tmp_path / ".step-6.tmp").mkdir()
    (tmp_path / "identity.json").write_text("{}")
    checkpoint.prune(tmp_path, 3)
    assert names(tmp_path) == ["best-3", "best-4", "identity.json", "step-3", "step-4", "step-5"]
    checkpoint.prune(tmp_path, 2)
    assert names(tmp_path) == ["best-4", "identity.json", "step-4", "step-5"]
    checkpoint.prune(tmp_path, 9)
    assert names(tmp_path) == ["best-4", "identity.json", "step-4", "step-5"]


def test_prune_leaves_the_lock(tmp_path):
    make(tmp_path, 1, None)
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".step-2.tmp").mkdir()
    checkpoint.prune(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "step-1"]


def test_prune_where_there_is_no_best(tmp_path):
    for step in (1, 2):
        make(tmp_path, step, None)
    checkpoint.prune(tmp_path, 1)
    assert names(tmp_path) == ["step-2"]


def test_later_steps_are_forgotten(tmp_path):
    for step in (1, 2, 3):
        make(tmp_path, step, None)
    checkpoint.forget_after(tmp_path, 2)
    assert names(tmp_path) == ["step-1", "step-2"]


def fail_half_way(folder: Path) -> None:
    (folder / "half").write_text("x")
    raise RuntimeError("the disk is full")


def test_a_write_that_fails_leaves_nothing_that_looks_whole(tmp_path):
    with pytest.raises(RuntimeError, match="the disk is full"):
        atomic.write_folder(tmp_path / "step-1", fail_half_way)
    assert not (tmp_path / "step-1").exists()
    assert checkpoint.steps_in(tmp_path) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    make(tmp_path, 1, None)
    with pytest.raises(RuntimeError, match="the disk is full"):
        atomic.write_folder(tmp_path / "step-1", fail_half_way)
    assert checkpoint.load_state(tmp_path / "step-1") == {"step": 1, "best_step": None}
    checkpoint.prune(tmp_path, 1)
    assert names(tmp_path) == ["step-1"]


def test_a_folder_is_written_over(tmp_path):
    make(tmp_path, 1, None)
    atomic.write_folder(tmp_path / "step-1", lambda f: (f / "new").write_text("x"))
    assert names(tmp_path) == ["step-1"]
    assert names(tmp_path / "step-1") == ["checksums.json", "new"]


def test_checksums_are_sha_256(tmp_path):
    atomic.write_folder(tmp_path / "a", lambda f: (f / "x").write_text("abc"))
    assert json.loads((tmp_path / "a" / "checksums.json").read_text()) == {
        "x": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }
    atomic.write_folder(tmp_path / "b", lambda f: (f / "x").write_text("abc"), checksums=False)
    assert names(tmp_path / "b") == ["x"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "status.json"
    atomic.write_json(file, {"state": "läuft"})
    assert file.read_text(encoding="utf-8") == '{\n "state": "läuft"\n}\n'
    with pytest.raises(TypeError):
        atomic.write_json(file, {"state": object()})
    assert json.loads(file.read_text(encoding="utf-8")) == {"state": "läuft"}
    assert names(tmp_path) == ["status.json"]


def test_the_best_step_of_a_damaged_checkpoint_is_none(tmp_path):
    make(tmp_path, 1, 1)
    assert checkpoint.load_best_step(tmp_path / "step-1") == 1
    (tmp_path / "step-1" / "state.json").write_text("{")
    assert checkpoint.load_best_step(tmp_path / "step-1") is None
    assert checkpoint.load_best_step(tmp_path / "step-2") is None
