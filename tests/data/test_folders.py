"""Folders and patterns of column files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.data.arrow_cache import Cache
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def write(**files: str) -> None:
    Path("corpus").mkdir(exist_ok=True)
    for name, text in files.items():
        Path("corpus", name.replace("_", ".")).write_text(text, encoding="utf-8")


def found(path: str, **options) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.location, e.tokens) for e in read_files([path], ReadOptions(**options))[0]]


def message(path: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        found(path, **options)
    return str(caught.value)


def test_a_folder_is_read_in_the_order_of_its_names():
    write(b_txt="b O\n\nc O\n", a_conll="a B-X\n", README_md="no data", _gitignore="x")
    assert found("corpus") == [("corpus/a.conll:1", ("a",)), ("corpus/b.txt:1", ("b",)), ("corpus/b.txt:3", ("c",))]
    assert format_of("corpus/") == "conll"


def test_a_pattern_is_read_likewise(tmp_path):
    write(b_txt="b O\n", a_conll="a B-X\n", c_conll="c O\n")
    assert found("corpus/*.conll") == [("corpus/a.conll:1", ("a",)), ("corpus/c.conll:1", ("c",))]
    assert found("*/[bc].*") == [("corpus/b.txt:1", ("b",)), ("corpus/c.conll:1", ("c",))]
    cache = Cache.at(str(tmp_path / "cache"))
    digests = []
    for text in ("a B-X\n", "a B-X\n", "d O\n"):
        write(a_conll=text)
        examples, digest = read_files(["corpus/*.conll"], cache=cache)
        digests.append(digest)
        assert [e.tokens for e in examples] == [(text[0],), ("c",)]
    assert digests[0] == digests[1] != digests[2]


def test_a_pattern_that_no_file_fits():
    assert message("corpus/*.conll") == "corpus/*.conll: found no file that fits this pattern, expected some"


def test_a_file_whose_name_looks_like_a_pattern():
    Path("a[1].conll").write_text("a O\n")
    assert found("a[1].conll") == [("a[1].conll:1", ("a",))]


def test_a_folder_of_several_formats_is_refused():
    write(a_conll="a O\n", b_jsonl='{"tokens": ["a"], "tags": ["O"]}\n')
    assert message("corpus") == (
        "corpus: found files in conll (corpus/a.conll) and jsonl (corpus/b.jsonl), expected one format; "
        "name the files that belong together"
    )
    assert message("corpus/*.jsonl*") == (
        "corpus/*.jsonl*: found 1 files of jsonl, expected columns; name one file after the other"
    )


def test_files_with_other_columns_are_refused():
    write(a_conll="EU NNP B-ORG\nit PRP O\n", b_conll="EU B-ORG NNP\nit O PRP\n")
    assert message("corpus") == (
        "corpus/b.conll: found tokens and tags in columns 0 and 1 (from 0), expected 0 and 2 as in corpus/a.conll; "
        "set data.token_column and data.tag_column"
    )


def test_bad_records_of_all_files_are_told_together():
    write(a_conll="a O\nb X-Y\n", b_conll="c O\nd Z\n")
    assert message("corpus").split("\n")[1].startswith("corpus/b.conll:2: 'Z' is not a tag")
