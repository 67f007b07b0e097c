"""Several processes at once: one reads and tokenises, the others map what it wrote."""

import importlib.util
from pathlib import Path

import pytest

specification = importlib.util.spec_from_file_location("profiles", Path(__file__).with_name("test_profiles.py"))
profiles = importlib.util.module_from_spec(specification)
specification.loader.exec_module(profiles)
tiny_arguments = profiles.tiny_arguments

pytestmark = pytest.mark.processes


def test_of_two_processes_one_fills_the_cache(tiny_arguments, tmp_path):
    cache = tmp_path / "cache"
    flags = [*tiny_arguments, "--train.max_steps=2", "--run.dir=run", f"--data.cache_dir={cache}"]
    done = profiles.launch("cpu_2_processes.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "on 2 process(es)" in done.stdout + done.stderr
    said = [line.split(" in ")[0] for line in (done.stdout + done.stderr).splitlines() if line.startswith("cached ")]
    # Both read, and where the other one is quicker this one has nothing to say; one tokenises.
    assert said.count("cached features") == 3
    assert set(said) <= {"cached examples", "cached features"}
    written = sorted(p.name.partition("-")[0] for p in cache.iterdir() if not p.name.startswith("digest-"))
    assert written == ["examples"] * 3 + ["features"] * 3 + ["look"]


def test_a_bad_file_is_told_once_by_all_processes(tiny_model, tmp_path):
    (tmp_path / "bad.conll").write_text("Anna PERSON\n")
    flags = ["--model.name_or_path", tiny_model, "--data.train", "bad.conll", "--run.dir=run"]
    done = profiles.launch("cpu_2_processes.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("nerloop: error: ")]
    assert lines == ["nerloop: error: bad.conll:1: 'PERSON' is not a tag: expected 'O' or B-, I-, E- or S- and a type, "
                     "such as 'B-PER'"]  # fmt: skip
