"""Several files, their format and fingerprint; and the counts of real annotated text."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.data.arrow_cache import Cache
from nerloop.data.formats import FORMATS
from nerloop.data.tag_counts import TagCounts
from nerloop.errors import DataError
from nerloop.tags import Scheme, scheme_of, to_spans

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def message(*paths: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_files(paths, ReadOptions(**options))
    return str(caught.value)


def test_read_files_puts_files_end_to_end():
    Path("a.conll").write_text("A B-X\n\nb O\n")
    Path("b.jsonl").write_text('{"tokens": ["c"], "tags": ["O"]}\n')
    examples, _ = read_files(["a.conll", "b.jsonl"])
    assert [(e.tokens, e.location) for e in examples] == [
        (("A",), "a.conll:1"),
        (("b",), "a.conll:3"),
        (("c",), "b.jsonl:1"),
    ]


def test_read_files_fingerprint_is_the_sha_256_of_the_bytes():
    Path("a.conll").write_bytes(b"A B-X\r\n")
    # printf 'A B-X\r\n' | sha256sum
    expected = "47f0e057220dfb869000993da1d1291e54e765f5f1e230362d1bf7cc77b37910"
    assert read_files(["a.conll"])[1] == expected


def test_a_cache_tells_files_apart_that_are_the_same_end_to_end(tmp_path):
    cache = Cache(tmp_path)

    def read(first, second):
        Path("a.conll").write_text(first)
        Path("b.conll").write_text(second)
        return [e.tokens for e in read_files(["a.conll", "b.conll"], cache=cache)[0]]

    assert read("A B-X\n", "b O\nc O\n") == [("A",), ("b", "c")]
    assert read("A B-X\nb O\n", "c O\n") == [("A", "b"), ("c",)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.ndjson", "x.JSONL"])
def test_format_of_goes_by_the_suffix(name):
    assert format_of(name) == "jsonl"


def test_a_file_of_columns_may_begin_with_a_brace():
    Path("x.conll").write_text('{" O\n')
    assert read_files(["x.conll"])[0][0].tokens == ('{"',)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{ O\n", "conll"),
        ('{ "tokens": []}\n', "jsonl"),
        ("{}\n", "jsonl"),
        ('{"tokens": []}\n', "jsonl"),
        ('\n \n\t{"tokens": []}\n', "jsonl"),
        ("A O\n", "conll"),
        ("", "conll"),
    ],
)
def test_format_of_another_suffix_goes_by_the_first_line(text, expected):
    Path("x.txt").write_text(text)
    assert format_of("x.txt") == expected


def test_format_wins_over_the_suffix():
    Path("x.json").write_text("A O\n")
    assert read_files(["x.json"], ReadOptions(format="conll"))[0][0].tokens == ("A",)


def test_an_unknown_format_is_refused():
    assert message("x.conll", format="xml") == (f"data.format: found 'xml', expected auto, {', '.join(FORMATS)}")


@pytest.mark.parametrize("name", ["x.conll", "x.jsonl"])
@pytest.mark.parametrize("text", ["", "\n\n \t\n"])
def test_a_file_without_sentences_is_refused(name, text):
    Path(name).write_text(text)
    assert message(name) == f"{name}: found no sentence, expected at least one. Is this the right file?"


def test_the_second_file_that_is_missing_is_named():
    Path("a.conll").write_text("A O\n")
    assert message("a.conll", "b.conll") == "b.conll: no such file"


@pytest.mark.parametrize("path", ["a.conll b.conll", "a.conll,b.conll"])
def test_several_files_in_one_name_are_told_apart(path):
    for name in ("a.conll", "b.conll"):
        Path(name).write_text("A O\n")
    assert message(path) == f"{path}: no such file; for several files write a list: '[a.conll, b.conll]'"


def test_a_folder_is_refused():
    Path("folder.d").mkdir()
    assert message("folder.d") == "folder.d: found a folder, expected a file (data.dataset takes a save_to_disk folder)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\0b", r"a\x00b: can't be read: no file can have this name"),
        ("\ud800", r"\ud800: can't be read: no file can have this name"),
        ("x" * 5000, f"'{'x' * 55}...': can't be read: File name too long"),
        ("a\nb", r"a\nb: no such file"),
    ],
)
def test_a_name_that_no_file_can_have_is_told_in_one_line(name, expected):
    assert message(name) == expected


def test_options_reach_every_reader():
    Path("a.conll").write_text("1 A\n")
    Path("b.jsonl").write_text('{"1": ["b"], "0": [0]}\n')
    examples, _ = read_files(["a.conll", "b.jsonl"], ReadOptions(token_column="1", tag_column="0", labels=["O", "B-X"]))
    assert [(e.tokens, e.tags) for e in examples] == [(("A",), ("B-X",)), (("b",), ("O",))]


# By the README.md of the folder
WIKIGOLD = {"PER", "ORG", "LOC", "MISC"}
WNUT = {"person", "location", "group", "creative-work", "corporation", "product"}
REAL = [
    ("wikigold/train.conll", 977, 22_544, 2_023, WIKIGOLD),
    ("wikigold/dev.conll", 343, 7_684, 740, WIKIGOLD),
    ("wikigold/test.conll", 376, 8_779, 795, WIKIGOLD),
    ("wnut17/train.conll", 3_394, 62_730, 1_975, WNUT),
    ("wnut17/dev.conll", 1_009, 15_733, 836, WNUT),
    ("wnut17/test.conll", 1_287, 23_394, 1_079, WNUT),
]


@pytest.mark.parametrize(("name", "num_sentences", "num_tokens", "num_spans", "types"), REAL)
def test_real_files_have_the_counts_that_are_told_of_them(
    data_folder, name, num_sentences, num_tokens, num_spans, types
):
    examples, _ = read_files([str(data_folder / name)])
    spans = [span for e in examples for span in to_spans(e.tags)]
    assert (len(examples), sum(len(e.tokens) for e in examples), len(spans)) == (num_sentences, num_tokens, num_spans)
    assert {span.type for span in spans} == types
    assert all(len(e.tokens) == len(e.tags) for e in examples)


@pytest.mark.parametrize("name", [name for name, *_ in REAL])
def test_real_files_are_iob2(data_folder, name):
    examples, _ = read_files([str(data_folder / name)])
    assert scheme_of(TagCounts.of(examples).pairs)[0] is Scheme.IOB2


def test_an_encoding_is_read_as_it_says(tmp_path):
    for encoding in ("latin-1", "utf-16", "cp1252"):
        path = tmp_path / f"{encoding}.conll"
        path.write_bytes("Zürich B-LOC\r\nträumt O\r\n".encode(encoding))
        examples, _ = read_files([str(path)], ReadOptions(encoding=encoding))
        assert [e.tokens for e in examples] == [("Zürich", "träumt")]
    with pytest.raises(DataError, match="expected UTF-8"):
        read_files([str(tmp_path / "latin-1.conll")])
    with pytest.raises(DataError, match=r"latin-1.conll:1: after this line, found bytes that are not ascii"):
        read_files([str(tmp_path / "latin-1.conll")], ReadOptions(encoding="ascii"))
    with pytest.raises(DataError, match=r"data\.encoding: found 'klingon', expected one such as latin-1"):
        ReadOptions(encoding="klingon")


def test_a_prefix_of_every_token_is_removed(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("en:London B-LOC\nen:a:b O\n")
    examples, _ = read_files([str(path)], ReadOptions(token_prefix="en:"))
    assert examples[0].tokens == ("London", "a:b")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "Colon\tB\ncancer\tI\nis\tO\n\nIt\tO\n"),
        (
            "a.jsonl",
            '{"tokens": ["Colon", "cancer", "is"], "tags": ["B", "I", "O"]}\n{"tokens": ["It"], "tags": ["O"]}\n',
        ),
        ("a.conll", "Colon B\ncancer E\nis O\n\nIt O\n"),
        ("b.conll", "Colon B\ncancer L\nis O\n\nIt U\nso O\n"),
    ],
)
def test_prefixes_without_types_are_entities_of_one_type(tmp_path, caplog, name, text):
    path = tmp_path / name
    path.write_text(text)
    examples, _ = read_files([str(path)])
    assert to_spans(examples[0].tags) == [(0, 2, "ENTITY")]
    assert "tags without types are read with the type ENTITY" in caplog.text


def test_a_prefix_without_a_type_among_others_is_refused(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Colon B-X\ncancer I\nis O\n")
    with pytest.raises(DataError, match=r"a\.conll:2: 'I' is not a tag"):
        read_files([str(path)])
