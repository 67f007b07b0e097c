"""The same training whatever it is split over: tests/benchmarks/exactness.py, through real launches."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

# The first test waits for the script, which takes four minutes of CPU time, for the most part two cores at once.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1500)]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "exactness.py"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return the figures of one run of the script, which takes minutes."""
    file = tmp_path_factory.mktemp("exactness") / "figures.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", str(file)], capture_output=True, text=True, timeout=1400
    )
    assert file.exists(), done.stderr
    figures = json.loads(file.read_text())
    assert len(done.stdout.splitlines()) == 2 + 21 + 1  # the table: its head, the cases, the tagging
    return {**figures, "exit code": done.returncode}


def test_all_ways_to_split_a_batch_train_the_same(measured):
    cases = measured["cases"]
    assert measured["problems"] == []
    assert measured["exit code"] == 0
    assert Counter((c["precision"], c["num_processes"], c["num_machines"]) for c in cases) == {
        (precision, *launch): number
        for precision in ("float64", "no")
        for launch, number in (((1, 1), 8), ((2, 1), 5), ((3, 1), 6), ((2, 2), 2))
    }
    assert Counter(c["objective"] for c in cases) == {"cross_entropy": 32, "crf": 10}
    most = {"float64": (1e-12, 1e-9, 1e-12), "no": (1e-6, 1e-5, 1e-5)}
    for case in cases:
        differences = (case["gradient"], case["weights"], case["losses"])
        assert all(a <= b for a, b in zip(differences, most[case["precision"]], strict=True)), case
        assert case["same_learning_rates"], case
        assert case["same_metrics"] or case["precision"] == "no", case
        assert case["num_steps"] == 50


def test_the_cases_that_agree_were_hard_and_not_one_computation_done_again(measured):
    cases = [c for c in measured["cases"] if c["precision"] == "float64"]
    first = {name: next(c for c in cases if c["objective"] == name) for name in ("cross_entropy", "crf")}
    for base in first.values():
        assert (base["gradient"], base["weights"], base["predicted_spans"] > 100) == (0, 0, True)
    others = [c for c in cases if c not in first.values()]
    assert all(case["gradient"] > 0 and case["weights"] > 0 for case in others)
    assert [c["situations"]["compared step: sentences"] for c in others].count(2) == 3  # those that resume
    assert sum(c["situations"]["micro-batches without a label"] for c in others) > 50
    assert sum(c["situations"]["dummy micro-batches"] for c in others) == 36
    padding = {
        c["collator"]: c["padding_share"] for c in cases if (c["launch"], c["micro_batches"]) == ("1", 1)
        and c["max_subwords"] is None
    }  # fmt: skip
    assert padding["pack"] < 0.1 < 0.3 < padding["pad"]


def test_all_launches_tag_alike_to_the_byte(measured):
    assert [row["launch"] for row in measured["tagging"]] == ["1", "2", "3", "2-on-2-machines"]
    for row in measured["tagging"]:
        assert (row["same_predictions"], row["same_metrics"], row["sentences"]) == (True, True, 512)
        assert row["predicted_spans"] > 100
        assert row["f1"] > 0
