"""Examples that come back from disk as they went there."""

from __future__ import annotations

import dataclasses

import pytest

from nerloop.contracts import nasty_examples
from nerloop.data import ReadOptions, arrow_cache, read_files
from nerloop.data import cached_examples as stored
from nerloop.data.arrow_cache import Cache
from nerloop.data.cached_examples import StoredExamples, store_examples
from nerloop.errors import DataError
from nerloop.types import Example

EXAMPLES = [
    Example(("Anna", "lives"), ("B-PER", "O"), "x:1", "x:0", ((0, 4), (5, 10))),
    Example((), (), "x:4"),
    Example(("é\u200e", "", "👩‍👩‍👧", "\x00"), (), ""),
    *nasty_examples(8, ["O", "B-X"]),
]


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache.at(str(tmp_path / "cache"))


def test_examples_come_back_as_they_were(cache):
    found = store_examples(lambda: EXAMPLES, cache, "key")
    assert list(found) == EXAMPLES
    assert list(store_examples(lambda: [], cache, "key")) == EXAMPLES


def test_every_field_of_an_example_has_a_column():
    assert list(stored._columns()) == [f.name for f in dataclasses.fields(Example)]


def test_stored_examples_are_a_sequence(cache, monkeypatch):
    monkeypatch.setattr(stored, "AT_A_TIME", 7)
    monkeypatch.setattr(stored, "ROWS", 10)
    monkeypatch.setattr("nerloop.data.arrow_cache.ROWS", 10)
    monkeypatch.setattr(stored, "batched", lambda rows: arrow_cache.batched(rows, 10))
    many = [Example((str(i),), ("O",), f"x:{i}") for i in range(34)]
    found = store_examples(lambda: many, cache, "key")
    assert (len(found), found[0], found[9], found[10], found[-1]) == (34, many[0], many[9], many[10], many[33])
    assert list(found) == many
    assert (found[8:12], found[::5], found[40:]) == (many[8:12], many[::5], [])
    assert found == many
    with pytest.raises(IndexError):
        found[34]


def test_no_examples_are_none(cache):
    assert list(store_examples(lambda: [], cache, None)) == []


def write(path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_read_files_gives_the_same_from_the_cache(cache, tmp_path):
    paths = [
        write(tmp_path / "a.conll", "Anna B-PER\nis O\n\nhere O\n"),
        write(tmp_path / "b.jsonl", '{"tokens": ["x"], "tags": ["O"]}\n'),
    ]
    plain, digest = read_files(paths)
    for _ in range(2):
        found, same = read_files(paths, cache=cache)
        assert isinstance(found, StoredExamples)
        assert (list(found), same) == (plain, digest)
    assert len(list(cache.folder.glob("examples-*"))) == 1


def test_read_files_does_not_read_what_is_cached(cache, tmp_path, monkeypatch):
    path = write(tmp_path / "a.conll", "Anna B-PER\n")
    read_files([path], cache=cache)
    monkeypatch.setattr("nerloop.data.iterate_files", lambda *_, **__: pytest.fail("read again"))
    assert read_files([path], cache=cache)[0][0].tokens == ("Anna",)


def test_a_changed_file_is_read_again(cache, tmp_path):
    path = write(tmp_path / "a.conll", "Anna B-PER\n")
    assert read_files([path], cache=cache)[0][0].tags == ("B-PER",)
    write(tmp_path / "a.conll", "Anna B-LOC\n")
    assert read_files([path], cache=cache)[0][0].tags == ("B-LOC",)


@pytest.mark.parametrize("options", [{"with_tags": False}, {"tag_column": "0", "token_column": "1"}, {"labels": ["O"]}])
def test_other_options_are_another_entry(cache, tmp_path, options):
    path = write(tmp_path / "a.conll", "O O\n")
    one, other = read_files([path], cache=cache)[0], read_files([path], ReadOptions(**options), cache=cache)[0]
    assert one.key != other.key


def test_a_copy_elsewhere_says_where_it_is_from(cache, tmp_path):
    texts = [write(tmp_path / name, "Anna B-PER\n") for name in ("a.conll", "b.conll")]
    assert [read_files([t], cache=cache)[0][0].location for t in texts] == [f"{t}:1" for t in texts]


def test_a_bad_line_is_told_as_without_a_cache_and_nothing_is_kept(cache, tmp_path):
    path = write(tmp_path / "a.conll", "Anna B-PER\n\nis not-a-tag\n")
    with pytest.raises(DataError, match=r"a\.conll:3: 'not-a-tag' is not a tag"):
        read_files([path], cache=cache)
    assert list(cache.folder.glob("*examples*")) == []


def test_a_missing_file_is_told_as_without_a_cache(cache):
    with pytest.raises(DataError, match=r"^nowhere\.conll: no such file$"):
        read_files(["nowhere.conll"], cache=cache)


def test_a_file_that_changes_while_it_is_read_is_refused(cache, tmp_path, monkeypatch):
    path = write(tmp_path / "a.conll", "Anna B-PER\n")
    digests = iter(["before", "after"])
    monkeypatch.setattr(Cache, "digest", lambda *_: next(digests))
    with pytest.raises(DataError, match="changed while it was read"):
        read_files([path], cache=cache)
