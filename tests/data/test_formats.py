"""Which format a file is in: by its suffix and by what is in it, and an error where it is two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def found(text: str, name: str = "x.txt", **options) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return format_of(name, ReadOptions(**options))


TOKENS = {"tokens": ["Anna"], "tags": ["B-PER"]}
SPANS = {"text": "Anna", "spans": [{"start": 0, "end": 4, "label": "PER"}]}
TASK = {"data": {"text": "Anna"}, "annotations": []}


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.json"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([TOKENS], ("jsonl", "json")),
        ([SPANS], ("prodigy", "prodigy")),
        ([{"text": "Anna", "answer": "accept"}], ("prodigy", "prodigy")),
        ([{"text": "Anna", "label": [[0, 4, "PER"]]}], ("doccano", "doccano")),
        ([{"text": "Anna"}], ("prodigy", "prodigy")),
        ([{"text": "Anna", "entities": None}, {"text": "Bo"}], ("doccano", "doccano")),
        ([["Anna", {"entities": []}]], ("spacy", "spacy")),
        ([TASK], ("label_studio", "label_studio")),
        ([{"text": "Anna", "tokens": ["Anna"], "labels": ["B-PER"]}], ("jsonl", "json")),
        ([{**TOKENS, "spans": [{"start": 0, "end": 1, "type": "PER"}]}], ("jsonl", "json")),
        ([{**TOKENS, "spans": [], "document": "of two words"}], ("jsonl", "json")),
        ([{"text": "x", "tokens": ["x"], "labels": []}, SPANS], ("prodigy", "prodigy")),
    ],
)
def test_json_goes_by_its_records(values, expected, name):
    lines = "".join(json.dumps(value) + "\n" for value in values)
    assert (found(lines, name), found(json.dumps(values), name)) == expected


def test_a_record_with_both_tags_and_spans_is_refused():
    Path("x.jsonl").write_text(json.dumps({**TOKENS, **SPANS}) + "\n")
    with pytest.raises(DataError) as caught:
        read_files(["x.jsonl"])
    assert str(caught.value) == ("x.jsonl:1: can be read as jsonl and as prodigy; set data.format to one of them")
    assert read_files(["x.jsonl"], ReadOptions(format="jsonl"))[0][0].offsets == ()
    assert read_files(["x.jsonl"], ReadOptions(format="prodigy"))[0][0].offsets == ((0, 4),)


def test_columns_that_are_named_tell():
    record = {"body": "Anna", "marks": [[0, 4, "PER"]]}
    assert found(json.dumps(record), token_column="body", tag_column="marks") == "prodigy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word,tag\nAnna,B-PER\n", "csv"),
        ("word;tag\n", "csv"),
        ("a,b O\n", "conll"),
        ("[ O\n", "conll"),
        ("[\tO\n", "conll"),
        ("Anna\tB-PER\n", "conll"),
    ],
)
def test_text_goes_by_its_first_line(text, expected):
    assert found(text) == expected


def test_a_folder_without_brats_files_is_refused():
    Path("b").mkdir()
    with pytest.raises(DataError, match=r"^b: found a folder, expected a file"):
        read_files(["b"])


def test_tag_in_column_3_of_5_with_a_header_and_with_an_index():
    Path("x.conll").write_text("id\tword\tner\ta\tb\n1\tAnna\tB-PER\t_\t_\n2\t\tO\t_\t_\n", encoding="utf-8")
    (example,) = read_files(["x.conll"], ReadOptions(token_column="word", tag_column="ner"))[0]
    assert (example.tokens, example.tags) == (("Anna", ""), ("B-PER", "O"))
    Path("y.conll").write_text("1\tAnna\tB-PER\t_\t_\n2\tleft\tO\t_\t_\n", encoding="utf-8")
    assert read_files(["y.conll"], ReadOptions(token_column="1", tag_column="2"))[0][0].tags == ("B-PER", "O")
