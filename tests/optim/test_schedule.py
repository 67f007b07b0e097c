"""The learning rate by step, in literals."""

from __future__ import annotations

import inspect

import pytest

from nerloop.optim.schedule import learning_rate


def rates(num_steps: int, *, peak: float = 1.0, warmup_ratio: float = 0.0, schedule: str = "linear") -> list[float]:
    return [
        learning_rate(step, num_steps=num_steps, peak=peak, warmup_ratio=warmup_ratio, schedule=schedule)
        for step in range(num_steps)
    ]


def test_learning_rate_rises_then_falls_towards_zero():
    assert rates(4, warmup_ratio=0.5) == [0.5, 1.0, 1.0, 0.5]


def test_learning_rate_linear_without_warmup():
    assert rates(4) == [1.0, 0.75, 0.5, 0.25]


def test_learning_rate_constant_stays_after_warmup():
    assert rates(5, warmup_ratio=0.4, schedule="constant") == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_learning_rate_scales_with_the_peak():
    assert rates(4, peak=8e-5, warmup_ratio=0.25) == pytest.approx([8e-5, 8e-5, 8e-5 * 2 / 3, 8e-5 / 3], rel=1e-12)


def test_learning_rate_of_a_run_that_is_all_warmup():
    assert rates(4, warmup_ratio=1.0) == [0.25, 0.5, 0.75, 1.0]


def test_learning_rate_warmup_of_less_than_a_step_is_none():
    assert rates(10, warmup_ratio=0.06)[0] == 1.0


def test_learning_rate_of_a_single_step():
    assert rates(1, warmup_ratio=0.06) == [1.0]


def test_learning_rate_is_zero_behind_the_last_step():
    assert [learning_rate(step, num_steps=4, peak=1.0, warmup_ratio=0.0, schedule="linear") for step in (3, 4, 5)] == [
        0.25,
        0.0,
        0.0,
    ]


def test_learning_rate_default_recipe():
    found = rates(100, peak=5e-5, warmup_ratio=0.06)
    assert found[:7] == pytest.approx([5e-5 * n / 6 for n in (1, 2, 3, 4, 5, 6)] + [5e-5], rel=1e-12)
    assert found[99] == pytest.approx(5e-5 / 94, rel=1e-12)


def test_learning_rate_knows_no_processes():
    assert list(inspect.signature(learning_rate).parameters) == [
        "step",
        "num_steps",
        "peak",
        "warmup_ratio",
        "schedule",
    ]
