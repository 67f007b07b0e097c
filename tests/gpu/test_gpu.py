"""What only a CUDA device can show: `pytest -m gpu`. One device is enough."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.train import train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def weights(config) -> dict:
    from safetensors.torch import load_file

    (last,) = Path(config.run.dir, "checkpoints").glob("step-14")
    return load_file(str(last / "model.safetensors"))


def changed(config, folder: str, **train_settings):
    run = replace(config.run, dir=str(Path(config.run.dir).with_name(folder)))
    return replace(config, run=run, train=replace(config.train, **train_settings))


def losses(config) -> list[float]:
    lines = Path(config.run.dir, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]


def test_accumulation_changes_nothing_in_float64(config):
    config = replace(config, model=replace(config.model, dropout=0.0))
    one, four = (
        changed(config, "one", mixed_precision="float64"),
        changed(config, "four", mixed_precision="float64", gradient_accumulation_steps=4),
    )
    train(one)
    train(four)
    a, b = weights(one), weights(four)
    assert len(a) > 20
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.02)])
def test_mixed_precision_follows_float32(config, precision, tolerance):
    config = replace(config, model=replace(config.model, dropout=0.0))
    full, mixed = changed(config, "full", mixed_precision="no"), changed(config, "mixed", mixed_precision=precision)
    train(full)
    train(mixed)
    assert json.loads(Path(mixed.run.dir, "environment.json").read_text())["precision"] == precision
    assert losses(mixed) == pytest.approx(losses(full), rel=tolerance)


def test_fp16_overflows_advance_neither_step_nor_schedule(config):
    results = train(changed(config, "fp16", mixed_precision="fp16"))
    assert results["steps"] == 14


def test_a_resumed_run_ends_as_the_undisturbed_one(config):
    config = replace(config, train=replace(config.train, deterministic=True, save_every=4))
    whole = changed(config, "whole")
    train(whole)
    resumed = changed(config, "resumed")
    train(replace(resumed, train=replace(resumed.train)))
    first = Path(resumed.run.dir, "checkpoints", "step-12")
    train(replace(resumed, run=replace(resumed.run, resume=str(first))))
    a, b = weights(whole), weights(resumed)
    assert all(bool((a[name] == b[name]).all()) for name in a)
