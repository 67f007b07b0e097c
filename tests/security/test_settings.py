"""YAML is read by a safe loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nerloop.config.parse import parse
from nerloop.errors import CheckpointError, ConfigError
from nerloop.train import train

EVIL = "train: !!python/object/apply:os.mkdir [{mark!r}]\n"


def test_the_trap_in_yaml_snaps_in_an_unsafe_loader(mark):
    yaml.load(EVIL.format(mark=str(mark)), Loader=yaml.UnsafeLoader)
    assert mark.exists()


def test_settings_in_yaml_run_nothing(mark, tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(EVIL.format(mark=str(mark)))
    with pytest.raises(ConfigError) as caught:
        parse(["--config", str(path)])
    assert str(caught.value).startswith(f"{path}:1: not YAML: could not determine a constructor for the tag ")
    assert not mark.exists()


def test_the_settings_of_a_run_that_is_resumed_run_nothing(config, mark):
    config = replace(config, train=replace(config.train, max_steps=1))
    train(config)
    Path(config.run.dir, "config.yaml").write_text(EVIL.format(mark=str(mark)))
    with pytest.raises(CheckpointError, match=r"^run.dir .*: its config.yaml can't be read: "):
        train(replace(config, run=replace(config.run, resume="auto")))
    assert not mark.exists()
