"""Trainings that several tests look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from nerloop import evaluate, predict
from nerloop.config import Config
from nerloop.train import train

TrainOnce = Callable[[Config], tuple[Config, dict]]


@pytest.fixture(scope="session")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> TrainOnce:
    """Return a function that trains with some settings, the first time it is called with them.

    It returns the settings with the folder of that run, and the results. The folder is shared: read it, or copy it.
    """
    done: dict[str, tuple[Config, dict]] = {}

    def run(config: Config) -> tuple[Config, dict]:
        settings = repr(replace(config, run=replace(config.run, dir=None)))
        if settings not in done:
            shared = replace(config, run=replace(config.run, dir=str(tmp_path_factory.mktemp("shared") / "run")))
            done[settings] = shared, train(shared)
        return done[settings]

    return run


@pytest.fixture
def run_predict(exit_code: Callable[..., int]) -> Callable[..., int]:
    """Return a function that runs `nerloop.predict` with flags and returns its exit code."""
    return partial(exit_code, predict.main)


@pytest.fixture
def run_evaluate(exit_code: Callable[..., int]) -> Callable[..., int]:
    """Return a function that runs `nerloop.evaluate` with flags and returns its exit code."""
    return partial(exit_code, evaluate.main)


@pytest.fixture
def learned(config: Config) -> Config:
    """Return settings of a training that finds some entities; one of 14 steps finds none."""
    return replace(config, train=replace(config.train, epochs=9, learning_rate=1e-2))
