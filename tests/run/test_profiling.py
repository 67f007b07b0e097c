"""The trace of some steps."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from nerloop.run.profiling import FOLDER, SKIPPED, profiling


def run(folder, *, num_traced, num_steps, is_main=True):
    """Return the steps that were traced, by the names of their events."""
    with profiling(num_traced, folder, is_main=is_main) as end_of_step:
        for _ in range(num_steps):
            torch.ones(2) @ torch.ones(2)
            end_of_step()
    files = sorted((folder / FOLDER).glob("*.pt.trace.json")) if (folder / FOLDER).exists() else []
    events = [event for file in files for event in json.loads(file.read_text())["traceEvents"]]
    return sorted({event["name"] for event in events if event["name"].startswith("ProfilerStep#")})


def test_so_many_steps_are_traced_behind_the_first(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nerloop")
    found = run(tmp_path, num_traced=2, num_steps=SKIPPED + 6)
    assert found == [f"ProfilerStep#{SKIPPED}", f"ProfilerStep#{SKIPPED + 1}"]
    assert caplog.messages == [
        f"traced 2 steps; open the file in {tmp_path / FOLDER} in ui.perfetto.dev or chrome://tracing"
    ]


def test_a_run_that_ends_before_leaves_what_there_was(tmp_path):
    assert run(tmp_path, num_traced=9, num_steps=SKIPPED + 1)[:1] == [f"ProfilerStep#{SKIPPED}"]


@pytest.mark.parametrize(("num_traced", "is_main"), [(0, True), (2, False)])
def test_else_there_is_no_trace(tmp_path, num_traced, is_main):
    assert run(tmp_path, num_traced=num_traced, num_steps=SKIPPED + 6, is_main=is_main) == []
    assert list(tmp_path.iterdir()) == []
