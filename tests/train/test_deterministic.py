"""train.deterministic: run again, the same bytes; what they depend on is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nerloop.train import train


@pytest.fixture(autouse=True)
def not_afterwards():
    yield
    torch.use_deterministic_algorithms(False)


def named(config, name: str, **settings):
    run = replace(config.run, dir=str(Path(config.run.dir).with_name(name)))
    return replace(config, run=run, train=replace(config.train, **settings))


def metrics(config) -> list[dict]:
    lines = Path(config.run.dir, "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "timing"} for line in lines]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_rerun_gives_the_same_bytes(config, precision):
    one, two = (named(config, n, deterministic=True, mixed_precision=precision) for n in ("one", "two"))
    first, second = train(one), train(two)
    assert {**first, "timing": 0} == {**second, "timing": 0}
    assert metrics(one) == metrics(two)
    assert len(metrics(one)) == 5
    for name in ("checkpoints/step-14/model.safetensors", "checkpoints/step-14/optimizer.safetensors"):
        assert Path(one.run.dir, name).read_bytes() == Path(two.run.dir, name).read_bytes()


def test_what_the_bytes_depend_on_is_recorded(config):
    for deterministic in (True, False):
        settings = named(config, f"run-{deterministic}", deterministic=deterministic, max_steps=1)
        train(settings)
        environment = json.loads(Path(settings.run.dir, "environment.json").read_text())
        assert environment["deterministic"] is deterministic
        assert environment["threads"] == torch.get_num_threads()
        assert environment["num_processes"] == 1
