"""A training whose data are cached is the one that read them."""

from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.alignment.all import All
from nerloop.train import train


def test_a_cached_run_equals_the_one_that_filled_the_cache_and_reads_nothing(config, tmp_path, monkeypatch):
    results, split = [], All.split
    for name in ("filling", "cached"):
        data = replace(config.data, cache_dir=str(tmp_path / "cache"))
        run = replace(config.run, dir=str(tmp_path / name))
        results.append(train(replace(config, data=data, run=run)))
        monkeypatch.setattr("nerloop.data._iterate", lambda *_: pytest.fail("read again"))
        # What is left to split is the one sentence that is shown at the end.
        monkeypatch.setattr(All, "split", lambda self, e: split(self, e) if len(e) == 1 else pytest.fail("split again"))
    entries = sorted(p.name.partition("-")[0] for p in (tmp_path / "cache").iterdir())
    assert [e for e in entries if e != "digest"] == ["examples"] * 3 + ["features"] * 3
    assert [{**r, "timing": 0} for r in results[1:]] == [{**results[0], "timing": 0}]
    weights = [Path(tmp_path, n, "model", "model.safetensors").read_bytes() for n in ("filling", "cached")]
    assert weights[0] == weights[1]
