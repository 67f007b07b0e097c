"""The README's first command."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_trains_to_an_honest_f1_and_says_where_things_are(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "-m", "nerloop.train"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    results = json.loads((run / "results.json").read_text())
    assert 0.6 < results["test"]["best"]["viterbi"]["f1"] < 0.99
    for line in (
        "type  precision  recall      f1  support",
        f"model        runs/{run.name}/model",
        "TensorBoard  tensorboard --logdir runs",
        "found in: Detective Ilse Thorwald of Vellingby",
        "This was the embedded demo. For real work:",
    ):
        assert line in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[3:7]] == ["LOC", "MISC", "ORG", "PER"]
    assert "Traceback" not in done.stderr
