"""A training whose data are cached is the one that read them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.alignment.all import All
from nerloop.config import Plugin
from nerloop.data.cached_examples import StoredExamples
from nerloop.inspection import splits
from nerloop.train import train


def test_a_cached_run_equals_the_one_that_filled_the_cache_and_reads_nothing(config, tmp_path, monkeypatch):
    results, split = [], All.split
    for name in ("filling", "cached"):
        data = replace(config.data, cache_dir=str(tmp_path / "cache"))
        run = replace(config.run, dir=str(tmp_path / name))
        results.append(train(replace(config, data=data, run=run)))
        monkeypatch.setattr("nerloop.data.iterate_files", lambda *_: pytest.fail("read again"))
        monkeypatch.setattr("nerloop.inspection.splits.find_all", lambda _: pytest.fail("looked through again"))
        # What is left to split is the one sentence that is shown at the end.
        monkeypatch.setattr(All, "split", lambda self, e: split(self, e) if len(e) == 1 else pytest.fail("split again"))
    entries = sorted(p.name.partition("-")[0] for p in (tmp_path / "cache").iterdir())
    assert [e for e in entries if e != "digest"] == ["examples"] * 3 + ["features"] * 3 + ["look"]
    assert [{**r, "timing": 0} for r in results[1:]] == [{**results[0], "timing": 0}]
    weights = [Path(tmp_path, n, "model", "model.safetensors").read_bytes() for n in ("filling", "cached")]
    assert weights[0] == weights[1]


def test_a_cached_training_says_what_the_one_before_found(config, tmp_path, capsys):
    said = []
    for name in ("filling", "cached"):
        data = replace(config.data, cache_dir=str(tmp_path / "cache"))
        run = replace(config.run, dir=str(tmp_path / name), log_level="info")
        train(replace(config, data=data, run=run, train=replace(config.train, max_steps=1)))
        lines = capsys.readouterr().err.splitlines()
        said.append([line for line in lines if line.startswith(("train  ", "warning: ")) and "split" not in line])
        said.append([line for line in lines if "split" in line and line.startswith("warning: ")])
    assert said[0][0].startswith("train          50 sentences")
    assert said[1]
    assert said[2:] == said[:2]


def test_what_only_a_walk_over_all_sentences_tells_is_not_asked_of_a_cached_one(config, tmp_path, monkeypatch):
    config = replace(
        config,
        data=replace(config.data, validation=None, test=None, cache_dir=str(tmp_path / "cache")),
        alignment=Plugin("document"),
        train=replace(config.train, max_steps=1),
    )
    train(replace(config, run=replace(config.run, dir=str(tmp_path / "filling"))))
    monkeypatch.setattr(splits, "first_sentences", lambda examples: [])  # only the first ones are shown
    monkeypatch.setattr(StoredExamples, "_between", lambda *_: pytest.fail("an example was taken out"))
    train(replace(config, run=replace(config.run, dir=str(tmp_path / "cached"))))


def test_a_training_clears_the_cache_of_what_is_old(config, tmp_path):
    cache = tmp_path / "cache"
    old = cache / f"examples-{'a' * 40}"
    old.mkdir(parents=True)
    (old / "about.json").write_text("{}")
    os.utime(old / "about.json", (0, 0))
    train(replace(config, data=replace(config.data, cache_dir=str(cache)), train=replace(config.train, max_steps=1)))
    assert not old.exists()
