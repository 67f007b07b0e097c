"""Records in JSON on any number of lines and inside objects, and which of their keys is the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files, read_records
from nerloop.data.column_names import find_texts, is_text
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError

TOKENS = {"tokens": ["Anna", "left"], "ner_tags": ["B-PER", "O"]}
SPANS = {"text": "Anna left", "spans": [{"start": 0, "end": 4, "label": "PER"}]}
PAIR = ["Anna left", {"entities": [[0, 4, "PER"]]}]
TASK = {"id": 1, "data": {"text": "Anna left"}, "annotations": [
    {"result": [{"type": "labels", "value": {"start": 0, "end": 4, "labels": ["PER"]}}]}]}  # fmt: skip
RECORDS = {"tokens": TOKENS, "prodigy": SPANS, "spacy": PAIR, "label_studio": TASK}


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def read(text: str, name: str = "x.json", **options) -> list:
    Path(name).write_text(text, encoding="utf-8")
    return [(e.tokens, e.tags) for e in read_files([name], ReadOptions(**options))[0]]


def message(text: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


ANNA = (("Anna", "left"), ("B-PER", "O"))
SHAPES = {
    "lines": lambda r: f"{json.dumps(r)}\n" * 3,
    "an array": lambda r: json.dumps([r] * 3),
    "an indented array": lambda r: json.dumps([r] * 3, indent=2),
    "indented one after another": lambda r: f"{json.dumps(r, indent=2)}\n" * 3,
    "one indented among lines": lambda r: "\n".join(json.dumps(r, indent=i) for i in (None, 4, None)),
    "in an object": lambda r: json.dumps({"version": "1", "classes": ["PER"], "data": [r] * 3}),
    "in an indented object": lambda r: json.dumps({"train": [r] * 3, "empty": []}, indent=1),
    "in an object over lines": lambda r: '{"examples": [\n' + ",\n".join([json.dumps(r)] * 3) + "\n]}\n",
}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_records_are_found_in_any_shape(record, shape, name):
    if record is PAIR and shape is SHAPES["indented one after another"] and name == "x.txt":
        pytest.skip("a line [ is a token in a file of columns")
    assert read(shape(record), name) == [ANNA] * 3


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_record_is_a_file(record, indent):
    assert read(json.dumps(record, indent=indent)) == [ANNA]


def test_two_lists_of_records_are_refused_by_name():
    assert message(json.dumps({"train": [TOKENS], "test": [TOKENS], "n": 2})) == (
        "x.json:1: found records in 'train' and in 'test', expected one list of them; write each to its own file"
    )


def test_an_object_without_records_names_its_keys():
    assert message(json.dumps({"a": [1], "b": {}})) == (
        "x.json:1: found no column 'tokens' or 'words'; set data.token_column to one of: a, b"
    )


def test_bad_records_are_told_together():
    lines = [json.dumps(TOKENS), '{"tokens": ["Bo"', json.dumps({**TOKENS, "ner_tags": ["O"]}), json.dumps(TOKENS)]
    assert message("\n".join(lines)).splitlines() == [
        "x.json:2: not JSON: the value that begins here is cut off, or broken in line 3",
        "x.json:3: 2 in 'tokens' but 1 in 'ner_tags'; expected as many",
    ]
    assert read("\n".join(lines), on_bad_record="skip") == [ANNA, ANNA]


# Texts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Anna left", True), ("Anna left on 12 May.", True), ("大谷翔平はロサンゼルスで生まれた。", True),
        ("उसने कहा है", True), ("Anna", False), ("Sentence: 1", False), ("2020-01-01 10:00:00", False),
        ("Mon Apr 06 22:19:45 PDT 2009", False), ("3 5", False), ("", False), ("http://a.b/c", False),
    ],
)  # fmt: skip
def test_is_text(value, expected):
    assert is_text(value) is expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"id": "a b", "text": "x"}, "text"),
        ({"title": "Two words", "Text": "Anna left home"}, "Text"),
        ({"Body": "x", "author": "Anna Li"}, "Body"),
        ({"id": "12", "lyrics": "Anna left home", "date": "2020-01-01"}, "lyrics"),
        ({"id": "12", "n": 5}, None),
        ({"sentence": "12", "content": "Anna left"}, "content"),
    ],
)
def test_find_texts(record, expected):
    assert find_texts([record, record], "x:1") == expected


@pytest.mark.parametrize("names", [("lyrics", "artist"), ("content", "review")])
def test_two_columns_that_may_be_texts_are_refused(names):
    with pytest.raises(DataError) as caught:
        find_texts([dict.fromkeys(names, "Anna left")], "x:1")
    assert str(caught.value) == (f"x:1: texts may be in '{names[0]}' or in '{names[1]}'; set data.token_column to one")


def test_json_lines_with_texts_keep_their_other_keys(caplog):
    record = {"id": 7, "lyrics": "Anna left.", "lang": "en"}
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    warnings = ReadWarnings()
    (found,) = read_records("x.jsonl", ReadOptions(with_tags=False, for_prediction=True), warnings)
    assert (found.text, found.source) == ("Anna left.", {"format": "prodigy", "record": record})
    assert warnings.lines("x.jsonl") == ["note: x.jsonl: 1 files whose texts are under 'lyrics': x.jsonl:1"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (SPANS, "prodigy"),
        ({"id": 1, "text": "Anna left", "label": [[0, 4, "PER"]]}, "doccano"),
        ({"id": 1, "text": "Anna left", "entities": [], "relations": []}, "doccano"),
    ],
)
def test_records_keep_what_leads_back(record, expected):
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    assert format_of("x.jsonl") == expected
    (found,) = read_records("x.jsonl", ReadOptions(for_prediction=True), ReadWarnings())
    assert found.source == {"format": expected, "record": record}
    (found,) = read_records("x.jsonl", ReadOptions(), ReadWarnings())
    assert found.source is None


def test_of_several_annotations_in_label_studios_short_form_the_first_is_read():
    label = [{"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}]
    records = [{"id": 1, "text": "Anna left", "label": label, "annotator": a, "annotation_id": a} for a in (1, 2)]
    other = {"id": 2, "text": "Anna left", "label": label, "annotator": 2, "annotation_id": 3}
    assert read(json.dumps([*records, other])) == [ANNA, ANNA]


def test_labels_of_whole_texts_are_refused():
    assert message(json.dumps({"id": 1, "text": "Anna left", "label": ["news"]})) == (
        "x.json:1: found ['news']: labels of a whole text (classification), expected spans"
    )
