"""The end of a run: nothing is scored twice, the pipeline is bounded, and a broken stdout changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nerloop.evaluation.predictor import Predictor
from nerloop.train import train


@pytest.fixture
def scored(monkeypatch) -> list[tuple[int, float]]:
    """Return what is scored: the number of sentences of the split, and a sum over the weights."""
    found = []
    whole = Predictor.tag_in_order

    def noting(self, model, split, *others):
        found.append((len(split.examples), float(sum(p.detach().double().abs().sum() for p in model.parameters()))))
        return whole(self, model, split, *others)

    monkeypatch.setattr(Predictor, "tag_in_order", noting)
    return found


@pytest.mark.parametrize("learning_rate", [3e-3, 1e-9])
def test_no_weights_are_scored_twice(config, scored, learning_rate):
    """With a rate of almost nothing the first evaluation stays the best, so that last and best weights differ."""
    results = train(replace(config, train=replace(config.train, learning_rate=learning_rate, eval_every=5)))
    assert results["best_step"] == (5 if learning_rate == 1e-9 else results["best_step"])
    assert [sentences for sentences, _ in scored] == [20, 20, 20, 20]  # steps 5, 10 and 14, then the test split
    assert len(set(scored[:3])) == 3
    last = [json.loads(line) for line in Path(config.run.dir, "metrics.jsonl").read_text().splitlines()][-1]
    assert results["validation"]["last"]["viterbi"]["accuracy"] == last["accuracy"]


def test_the_predictions_of_the_best_weights_are_left(config, scored):
    config = replace(config, train=replace(config.train, learning_rate=1e-2, eval_every=2, epochs=6))
    results = train(config)
    from nerloop.data import ReadOptions, read_files

    tags = [
        json.loads(line)["tags"]
        for line in Path(config.run.dir, "predictions.validation.jsonl").read_text().splitlines()
    ]
    gold, _ = read_files([config.data.validation], ReadOptions())
    right = sum(a == b for g, p in zip(gold, tags, strict=True) for a, b in zip(g.tags, p, strict=True))
    best = results["validation"]["best"]["viterbi"]
    assert right / best["tokens"] == best["accuracy"]


@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (0, None), (10**6, 20)])
def test_the_pipeline_is_scored_on_a_bounded_number_of_sentences(config, limit, expected):
    config = replace(config, train=replace(config.train, max_steps=1), run=replace(config.run, score_pipeline=limit))
    results = train(config)
    assert results["validation"].get("pipeline", {}).get("sentences") == expected


@pytest.mark.parametrize("stdout", ["closed", "ascii"])
def test_a_run_is_done_whatever_becomes_of_its_report(config, tmp_path, stdout):
    flags = {
        "model.name_or_path": config.model.name_or_path, "data.train": config.data.train,
        "data.validation": config.data.validation, "train.max_steps": 1, "run.dir": tmp_path / "run",
        "run.score_pipeline": 0,
    }  # fmt: skip
    command = [sys.executable, "-m", "nerloop.train", *(f"--{name}={value}" for name, value in flags.items())]
    if stdout == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
    assert "Traceback" not in done.stderr


def test_time_to_the_first_step_counts_from_the_call(config):
    results = [train(replace(config, run=replace(config.run, dir=f"{config.run.dir}-{n}"))) for n in range(2)]
    # Counted from the import of the module, the second would be longer by the whole first training.
    assert results[1]["timing"]["first_step_seconds"] < 2 * results[0]["timing"]["first_step_seconds"] + 1
    assert torch.get_num_threads() > 0
