import importlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nerloop.config.parse import parse
from nerloop.errors import CheckpointError, ConfigError, Interrupted
from nerloop.run import atomic
from nerloop.run.checkpoint import steps_in
from nerloop.run.folder import Run
from nerloop.train import train

train_module = importlib.import_module("nerloop.train")  # its name is also that of its function


def without_timing(path: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "timing"} for line in path.read_text().splitlines()]


def in_folder(config, name: str, **run):
    return replace(config, run=replace(config.run, dir=str(Path(config.run.dir).with_name(name)), **run))


@pytest.mark.parametrize(
    ("at_step", "precision"),
    [(3, "no"), (9, "no"), (13, "no"), (9, "bf16")],
    ids=["before any checkpoint", "mid-epoch", "before the end", "bf16"],
)
def test_a_resumed_run_ends_byte_for_byte_as_the_undisturbed_one(config, train_once, interrupted, at_step, precision):
    config = replace(config, train=replace(config.train, save_every=4, eval_every=3, mixed_precision=precision))
    undisturbed, whole = train_once(config)
    broken = in_folder(config, "broken")
    interrupted(broken, at_step=at_step)
    resumed = train(in_folder(config, "broken", resume="auto"))
    a, b = Path(undisturbed.run.dir), Path(broken.run.dir)
    tensors = load_file(str(a / "checkpoints/step-14/model.safetensors"))
    assert 0 < float(tensors["bert.embeddings.word_embeddings.decayed"]) < 1e-3  # its embedding is a narrow one
    for name in ("model/model.safetensors", "checkpoints/step-14/model.safetensors",
                 "checkpoints/step-14/optimizer.safetensors", "predictions.test.conll"):  # fmt: skip
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert {**whole, "timing": 0} == {**resumed, "timing": 0}
    assert without_timing(a / "metrics.jsonl") == without_timing(b / "metrics.jsonl")


def test_the_command_in_the_line_of_an_interruption_goes_on_exactly(config, train_once, interrupted):
    config = replace(config, train=replace(config.train, save_every=4))
    undisturbed, whole = train_once(config)
    broken = in_folder(config, "bro ken")
    interrupted(broken, at_step=9)
    with pytest.raises(Interrupted) as stopped, Run(Path(broken.run.dir)).recording_failure(is_main=False):
        raise Interrupted("SIGTERM: stopped after step 9")
    start, _, flags = str(stopped.value).partition(" python -m nerloop.train ")
    assert start == "SIGTERM: stopped after step 9; go on with:"
    resumed = train(parse(shlex.split(flags)))
    a, b = (Path(c.run.dir, "checkpoints/step-14/optimizer.safetensors") for c in (undisturbed, broken))
    assert a.read_bytes() == b.read_bytes()
    assert {**whole, "timing": 0} == {**resumed, "timing": 0}


def test_a_done_run_is_not_trained_again(config, train_once):
    config, results = train_once(config)
    before = Path(config.run.dir, "model", "model.safetensors").stat().st_mtime_ns
    again = train(replace(config, run=replace(config.run, resume="auto")))
    assert again == json.loads(json.dumps(results))
    assert Path(config.run.dir, "model", "model.safetensors").stat().st_mtime_ns == before
    assert "\nall " in again.report(config)


def test_another_run_in_the_folder_is_refused(config):
    train(replace(config, train=replace(config.train, max_steps=1)))
    with pytest.raises(ConfigError, match=r"holds another run \(done\); choose another folder, or --run.resume auto"):
        train(config)


def test_another_configuration_is_refused_by_name(config, interrupted):
    interrupted(config, at_step=9)
    other = replace(config, train=replace(config.train, learning_rate=1e-4), run=replace(config.run, resume="auto"))
    with pytest.raises(ConfigError, match=r"train\.learning_rate is 0\.0001, but .* was started with 0\.003"):
        train(other)


def test_other_data_are_refused(config, interrupted, tmp_path):
    path = shutil.copy(config.data.train, tmp_path / "train.conll")
    config = replace(config, data=replace(config.data, train=str(path)))
    interrupted(config, at_step=9)
    with open(path, "a", encoding="utf-8") as file:
        file.write("Oslo B-LOC\n")
    with pytest.raises(ConfigError, match=r"the train data are not those that .* was started with"):
        train(replace(config, run=replace(config.run, resume="auto")))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(config, train_once, interrupted, capsys):
    config = replace(config, train=replace(config.train, save_every=4))
    _, whole = train_once(config)
    broken = in_folder(config, "broken")
    interrupted(broken, at_step=9)
    damaged = Path(broken.run.dir, "checkpoints", "step-8", "model.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00\x01")
    resumed = train(in_folder(config, "broken", resume="auto"))
    assert "step-8/model.safetensors: its SHA-256" in capsys.readouterr().err
    assert {**whole, "timing": 0} == {**resumed, "timing": 0}


def test_no_whole_checkpoint_stops_the_run(config, interrupted):
    interrupted(config, at_step=9)
    folder = Path(config.run.dir, "checkpoints")
    for step in steps_in(folder):
        (folder / f"step-{step}" / atomic.CHECKSUMS).unlink()
    with pytest.raises(CheckpointError, match="none of its checkpoints is whole"):
        train(replace(config, run=replace(config.run, resume="auto")))


def test_a_checkpoint_folder_can_be_named(config, train_once, interrupted):
    config = replace(config, train=replace(config.train, save_every=4))
    _, whole = train_once(config)
    broken = in_folder(config, "broken")
    interrupted(broken, at_step=9)
    resumed = train(in_folder(config, "broken", resume=str(Path(broken.run.dir, "checkpoints", "step-4"))))
    assert {**whole, "timing": 0} == {**resumed, "timing": 0}
    assert train_module.MAX_SKIPPED_UPDATES == 20


def test_a_checkpoint_can_be_gone_on_from_in_another_folder(config, train_once, interrupted):
    config = replace(config, train=replace(config.train, save_every=4, eval_every=3))
    undisturbed, whole = train_once(config)
    broken = in_folder(config, "broken")
    interrupted(broken, at_step=9)
    resumed = train(in_folder(config, "elsewhere", resume=str(Path(broken.run.dir, "checkpoints", "step-8"))))
    assert {**whole, "timing": 0} == {**resumed, "timing": 0}
    a, b = Path(undisturbed.run.dir), Path(config.run.dir).with_name("elsewhere")
    assert without_timing(a / "metrics.jsonl") == without_timing(b / "metrics.jsonl")


@pytest.mark.usefixtures("with_kernels")
def test_what_a_run_is_resumed_with_that_it_did_not_have_is_said(config, interrupted, monkeypatch, capsys):
    from nerloop.kernels import bindings as kernels

    config = replace(config, train=replace(config.train, save_every=4))
    interrupted(config, at_step=9)
    monkeypatch.setattr(kernels, "is_supported", lambda *_: False)
    train(replace(config, run=replace(config.run, resume="auto")))
    assert "resumed with other kernels: equal up to rounding and dropout" in capsys.readouterr().err
