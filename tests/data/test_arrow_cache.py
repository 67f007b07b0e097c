"""The cache: an entry is whole or not there, whoever writes, and whatever became of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from nerloop.data import arrow_cache as store
from nerloop.data.arrow_cache import ABOUT, ARROW, Cache, digest_of, fingerprint
from nerloop.errors import ConfigError, DataError

SCHEMA = pa.schema([("n", pa.int32())])


def numbers(cache: Cache, key: str | None, *values: int) -> list[int]:
    """Return the numbers of an entry; `values` where it has to be written."""

    def write(add):
        add(pa.record_batch([pa.array(values, pa.int32())], schema=SCHEMA))
        return {"sum": sum(values)}

    table = cache.table("numbers", key, SCHEMA, write)
    return [n for batch in table.batches() for n in batch.column("n").to_pylist()]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.at(str(tmp_path / "cache"))


@pytest.fixture
def said(caplog, monkeypatch):
    """Return a function that says what was logged."""
    monkeypatch.setattr(logging.getLogger("nerloop"), "propagate", True)  # a training before may have changed it
    caplog.set_level("WARNING", "nerloop")
    return lambda: [r.getMessage() for r in caplog.records]


def test_an_entry_is_written_once(cache):
    assert [numbers(cache, "a", 1, 2), numbers(cache, "a", 3), numbers(cache, "b", 4)] == [[1, 2], [1, 2], [4]]
    assert sorted(p.name for p in cache.folder.iterdir()) == ["numbers-a", "numbers-b"]


def test_without_a_key_nothing_is_kept(cache):
    assert numbers(cache, None, 1) == [1]
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / ARROW).write_bytes((entry / ARROW).read_bytes()[:-7]),
        lambda entry: (entry / ARROW).write_bytes(b"x" * (entry / ARROW).stat().st_size),
        lambda entry: (entry / ARROW).unlink(),
        lambda entry: (entry / ABOUT).unlink(),
        lambda entry: (entry / ABOUT).write_text("{"),
        lambda entry: (entry / ABOUT).write_text("[]"),
        lambda entry: (entry / ABOUT).write_text(json.dumps({"num_bytes": (entry / ARROW).stat().st_size})),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_made_anew(cache, damage, said):
    numbers(cache, "a", 1, 2)
    damage(cache.folder / "numbers-a")
    assert numbers(cache, "a", 3) == [3]
    assert numbers(cache, "a", 4) == [3]
    (line,) = set(said())
    assert line.startswith(f"warning: {cache.folder / 'numbers-a'} is damaged (")


def test_what_fails_leaves_nothing(cache):
    def write(add):
        raise DataError("x.conll:1: no")

    with pytest.raises(DataError, match=r"^x\.conll:1: no$"):
        cache.table("numbers", "a", SCHEMA, write)
    assert list(cache.folder.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(cache):
    def write(add):
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"^data\.cache_dir .*: can't be written: No space left on device; make room"):
        cache.table("numbers", "a", SCHEMA, write)
    assert list(cache.folder.iterdir()) == []


def test_another_process_may_be_as_quick(cache):
    def write(add):
        numbers(cache, "a", 1)  # as another one would meanwhile
        add(pa.record_batch([pa.array([2], pa.int32())], schema=SCHEMA))

    table = cache.table("numbers", "a", SCHEMA, write)
    assert table.batch(0).column("n").to_pylist() == [1]
    assert [p.name for p in cache.folder.iterdir()] == ["numbers-a"]


WRITER = """
import sys
import pyarrow as pa
from nerloop.data.arrow_cache import Cache

folder, value = sys.argv[1], int(sys.argv[2])
schema = pa.schema([("n", pa.int32())])
print("ready", flush=True)
sys.stdin.readline()  # all of them begin together
table = Cache.at(folder).table(
    "numbers", "a", schema, lambda add: add(pa.record_batch([pa.array([value] * 1000, pa.int32())], schema=schema))
)
print(*{n for batch in table.batches() for n in batch.column("n").to_pylist()}, table.num_rows, flush=True)
"""


def test_processes_at_once_end_with_one_entry(cache):
    command = [sys.executable, "-c", WRITER, str(cache.folder)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([*command, str(v)], stdin=pipe, stdout=pipe, text=True) for v in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate(timeout=60)[0] for process in processes}
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert len(found) == 1  # one of them wrote it, the others read that
    assert found <= {"0 1000\n", "1 1000\n", "2 1000\n"}
    assert [p.name for p in cache.folder.iterdir()] == ["numbers-a"]


def test_what_a_killed_process_left_is_removed_after_a_day(cache):
    for name, age in (("old", 2 * store.FORGOTTEN_SECONDS), ("young", 0)):
        (cache.folder / f".numbers-{name}").mkdir()
        (cache.folder / f".numbers-{name}" / ARROW).write_bytes(b"")
        for path in (cache.folder / f".numbers-{name}" / ARROW, cache.folder / f".numbers-{name}"):
            os.utime(path, (time.time() - age,) * 2)
    numbers(cache, "a", 1)
    assert sorted(p.name for p in cache.folder.iterdir()) == [".numbers-young", "numbers-a"]


def test_the_setting_wins_then_the_variable_then_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NERLOOP_CACHE", str(tmp_path / "variable"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache.at(str(tmp_path / "setting")).folder == tmp_path / "setting"
    assert Cache.at(None).folder == tmp_path / "variable"
    monkeypatch.delenv("NERLOOP_CACHE")
    assert Cache.at(None).folder == tmp_path / "xdg" / "nerloop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.at(None).folder == tmp_path / "home" / ".cache" / "nerloop"
    assert Cache.at(None).is_kept


def test_a_folder_that_was_asked_for_and_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^data\.cache_dir .*file/x: can't be used: Not a directory; name another"):
        Cache.at(str(tmp_path / "file" / "x"))


def test_without_the_usual_folder_nothing_is_kept(tmp_path, monkeypatch, said):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("NERLOOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = Cache.at(None)
    assert not found.is_kept
    assert set(said()) == {"warning: no cache: Not a directory; set data.cache_dir to a folder to keep what is read"}
    assert [numbers(found, "a", 1), numbers(found, "a", 2)] == [[1], [2]]


def test_digest_is_the_sha_256_of_the_bytes(cache, tmp_path):
    (tmp_path / "a").write_text("onetwo")
    sha = "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1"  # printf onetwo | sha256sum
    assert cache.digest([str(tmp_path / "a")]) == sha


def test_digest_of_several_files_tells_which_bytes_are_in_which(tmp_path):
    def digest(names, *texts):
        for name, text in zip(("a", "b"), texts, strict=True):
            (tmp_path / name).write_text(text)
        return digest_of([str(tmp_path / name) for name in names])

    assert len({digest("ab", "one", "two"), digest("ab", "onet", "wo"), digest("ab", "onetwo", "")}) == 3
    assert digest("ab", "one", "two") == digest("ba", "two", "one")


def test_digest_of_a_folder_tells_the_names_in_it(tmp_path):
    folder, same = tmp_path / "one", tmp_path / "other"
    for place in (folder, same):
        (place / "in").mkdir(parents=True)
        (place / "in" / "a.txt").write_text("one")
    assert digest_of([str(folder)]) == digest_of([str(same)])
    (same / "in" / "a.txt").rename(same / "in" / "b.txt")
    assert digest_of([str(folder)]) != digest_of([str(same)])


def test_digest_remembers_files_that_did_not_change(cache, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("one")
    monkeypatch.setattr(store, "SETTLED_SECONDS", -1)
    digest = cache.digest([str(path)])
    monkeypatch.setattr(store, "digest_of", lambda paths: "read again")
    assert cache.digest([str(path)]) == digest
    path.write_text("two")
    os.utime(path, ns=(path.stat().st_atime_ns, 0))
    assert cache.digest([str(path)]) == "read again"


def test_digest_does_not_believe_a_file_that_has_just_been_written(cache, tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    cache.digest([str(path)])
    assert list(cache.folder.iterdir()) == []
    assert cache.digest([str(path)]) == digest_of([str(path)])


def test_fingerprint_tells_plain_values_apart():
    parts = [("a", None), ("a", "None"), ("a",), (["a"], None), ("a", {}), ("a", 1), ("a", "1"), ("a", True)]
    assert len({fingerprint(*p) for p in parts}) == len(parts)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_value_is_made_once_and_anew_where_it_can_not_be_read(cache):
    assert [cache.value("look", "a", lambda: {"n": 1}), cache.value("look", "a", lambda: {"n": 2})] == [{"n": 1}] * 2
    (path,) = cache.folder.iterdir()
    path.write_text("{", encoding="utf-8")
    assert cache.value("look", "a", lambda: {"n": 3}) == {"n": 3}
    assert cache.value("look", "a", lambda: {"n": 4}) == {"n": 3}


def test_a_value_without_a_key_is_not_kept(cache):
    assert [cache.value("look", None, lambda: [1]), cache.value("look", None, lambda: [2])] == [[1], [2]]
    assert list(cache.folder.iterdir()) == []


def age(path: Path, days: float) -> None:
    """Make a file look as if it was last used some days ago."""
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def test_what_was_not_used_for_30_days_goes(cache):
    names = [f"{name}-{digit * 40}" for name, digit in (("examples", "a"), ("features", "b"), ("examples", "c"))]
    for name in names:
        kind, _, key = name.partition("-")
        cache.table(kind, key, SCHEMA, lambda add: None)
        age(cache.folder / name / ABOUT, 29.9 if key[0] == "c" else 30.1)
    for key in ("d" * 40, "e" * 40):
        cache.value("look", key, lambda: 1)
        age(cache.folder / f"look-{key}.json", 30.1)
    assert cache.value("look", "e" * 40, lambda: 2) == 1  # used again
    others = cache.folder / "examples-of-mine"
    others.write_text("x")
    age(others, 1000)
    cache.prune()
    left = sorted(p.name for p in cache.folder.iterdir())
    assert left == [f"examples-{'c' * 40}", "examples-of-mine", f"look-{'e' * 40}.json"]


def test_an_entry_in_use_stays_however_old(cache):
    key = "a" * 40
    entry = cache.folder / f"examples-{key}"
    table = cache.table("examples", key, SCHEMA, lambda add: None)
    age(entry / ABOUT, 1000)
    other = (
        "import sys; from pathlib import Path; from nerloop.data.arrow_cache import Cache; "
        "Cache(Path(sys.argv[1])).prune()"
    )
    prune = [sys.executable, "-c", other, str(cache.folder)]
    subprocess.run(prune, check=True)
    assert entry.exists()
    assert table.num_rows == 0
    del table
    subprocess.run(prune, check=True)
    assert not entry.exists()


def test_to_open_an_entry_is_to_use_it(cache):
    key = "a" * 40
    cache.table("features", key, SCHEMA, lambda add: None)
    age(cache.folder / f"features-{key}" / ABOUT, 1000)
    cache.table("features", key, SCHEMA, lambda add: None)
    cache.prune()
    assert (cache.folder / f"features-{key}").exists()
