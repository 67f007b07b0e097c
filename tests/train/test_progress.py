"""What a checkpoint keeps of a run's progress."""

from dataclasses import asdict
from pathlib import Path

import pytest

from nerloop.errors import CheckpointError
from nerloop.run.folder import Progress

FOLDER = Path("run/checkpoints/step-4")


def test_it_is_read_as_it_was_written():
    progress = Progress(step=4, best=0.5, best_step=2, evaluated=4, evaluations_without_best=1, seconds=2.5)
    assert Progress.of({"progress": asdict(progress)}, FOLDER) == progress


@pytest.mark.parametrize(
    "odd", [None, [], {}, {"step": 4}, {**asdict(Progress()), "more": 1}, {**asdict(Progress()), "step": "4"}]
)
def test_anything_else_is_told_in_one_line(odd):
    with pytest.raises(CheckpointError, match=r"^run/checkpoints/step-4: its progress is .* what nerloop writes$"):
        Progress.of({"progress": odd}, FOLDER)
