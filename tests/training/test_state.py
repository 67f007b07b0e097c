"""What a checkpoint keeps of a training's state."""

from pathlib import Path

import pytest

from nerloop.errors import CheckpointError
from nerloop.training.state import State

FOLDER = Path("run/checkpoints/step-4")
KEPT = {
    "step": 4, "best": 0.5, "best_step": 2, "evaluated": 4, "evaluations_without_best": 1, "seconds": 2.5,
    "last_metrics": {"viterbi": {"f1": 0.25}},
}  # fmt: skip


def test_it_is_read_as_it_was_written():
    state = State.from_dict(KEPT, FOLDER)
    assert state.to_dict() == KEPT
    assert (state.step, state.best, state.saved, state.skipped_in_a_row) == (4, 0.5, 4, 0)


@pytest.mark.parametrize("odd", [None, [], {}, {"step": 4}, {**KEPT, "more": 1}, {**KEPT, "step": "4"}])
def test_anything_else_is_one_line(odd):
    with pytest.raises(CheckpointError, match=r"^run/checkpoints/step-4: its progress is .* what nerloop writes$"):
        State.from_dict(odd, FOLDER)


def test_of_equal_evaluations_the_first_is_the_best():
    state = State()
    found = [
        state.note_evaluation(step, value, greater_is_better=True) for step, value in ((1, 0.5), (2, 0.5), (3, 0.6))
    ]
    assert found == [True, False, True]
    assert (state.best, state.best_step, state.evaluated, state.evaluations_without_best) == (0.6, 3, 3, 0)


def test_where_less_is_better_the_least_is_the_best():
    state = State()
    found = [
        state.note_evaluation(step, value, greater_is_better=False) for step, value in ((1, 0.5), (2, 0.6), (3, 0.1))
    ]
    assert found == [True, False, True]


def test_patience_counts_evaluations_without_a_better_one():
    assert [State(evaluations_without_best=n).is_patience_over(2) for n in (0, 1, 2, 3)] == [False, False, True, True]
    assert not State(evaluations_without_best=99).is_patience_over(None)
