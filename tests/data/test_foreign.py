"""Formats that are recognised but not read, and files of tools whose names differ a little from the usual ones."""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
import zipfile
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError

ENTITY = {"start": 0, "end": 4, "type": "PER"}


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def message(name: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_files([name], ReadOptions(**options))
    return str(caught.value)


RECORDS = {
    "pandas' JSON by columns": {"tokens": {"0": ["a"], "1": ["b"]}, "ner_tags": {"0": ["O"], "1": ["O"]}},
    "pandas' JSON, split": {"columns": ["text"], "index": [0], "data": [["Anna"]]},
    "brat's JSON": {"text": "Anna", "entities": [["T1", "PER", [[0, 4]]]]},
    "UIMA's JSON (INCEpTION)": {"%TYPES": {}, "%FEATURE_STRUCTURES": []},
    "tagtog's ann.json": {"annotatable": {"parts": ["s1"]}, "anncomplete": True, "entities": []},
    "what AWS Comprehend found": {"Entities": [{"BeginOffset": 0, "EndOffset": 4, "Type": "PERSON"}], "Line": 0},
    "Dataturks' JSON": {"content": "Anna left", "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 3}]}]},
    "JSON of SpERT": {"tokens": ["Anna"], "entities": [ENTITY], "relations": []},
    "SQuAD's JSON": {"data": [{"title": "x", "paragraphs": [{"context": "Anna left", "qas": []}]}]},
    "GATE's JSON": {"text": "Anna", "entities": {"Person": [{"indices": [0, 4]}]}},
    "a description of a data set": {"default": {"features": {}, "splits": {}}},
}


@pytest.mark.parametrize(("found", "record"), RECORDS.items(), ids=RECORDS)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_of_other_tools_is_refused_by_its_name(found, record, indent):
    Path("x.json").write_text(json.dumps(record, indent=indent))
    expected = f"found {found}"
    assert expected in message("x.json")
    assert ", which nerloop does not read; " in message("x.json")
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    assert expected in message("x.jsonl", with_tags=False)


def test_a_refusal_says_what_to_do():
    Path("x.json").write_text(json.dumps(RECORDS["pandas' JSON by columns"]))
    assert message("x.json") == (
        "x.json:1: found pandas' JSON by columns, which nerloop does not read; write it with df.to_json(path, "
        "orient='records', lines=True)"
    )


BYTES = {
    "a Python pickle": pickle.dumps([("Anna", "B-PER")]),
    "a compressed file": gzip.compress(b"Anna B-PER\n"),
    "UIMA XMI": b'<?xml version="1.0"?><xmi:XMI xmlns:xmi="x"/>',
    "GATE XML": b"<?xml version='1.0'?>\n<!-- x -->\n<GateDocument version='3'/>",
    "TEI": b'<?xml version="1.0"?>\n<TEI xmlns="http://www.tei-c.org/ns/1.0"/>',
    "XML": b'<?xml version="1.0"?>\n<collection/>',
    "a PDF": b"%PDF-1.7\n",
    "an Arrow file": b"ARROW1\0\0",
    "RTF": b"{\\rtf1\\ansi Anna left.}",
    "WebAnno TSV": b"#FORMAT=WebAnno TSV 3.2\n\n#Text=Anna left\n1-1\t0-4\tAnna\tPER\t\n",
}


@pytest.mark.parametrize(("found", "data"), BYTES.items(), ids=BYTES)
@pytest.mark.parametrize("name", ["x.bin", "x.json", "x.txt", "x.csv"])
def test_other_files_are_refused_by_their_name(found, data, name):
    Path(name).write_bytes(data)
    assert message(name).startswith(f"{name}: found {found}")


TEXTS = {
    "Python's literals": b"[('Anna left', {'entities': [(0, 4, 'PER')]})]",
    "text with tags of XML": b"<PER>Anna</PER> left.\n",
    "text with tags of XML or HTML": b'<p class="x">Anna left.</p>\n',
    "tokens with their tags after / or _": b"Anna/B-PER left/O ./O\n",
}


@pytest.mark.parametrize(("found", "data"), TEXTS.items(), ids=TEXTS)
@pytest.mark.parametrize("name", ["x", "x.txt", "x.conll"])
@pytest.mark.parametrize("for_prediction", [False, True])
def test_texts_that_hold_their_tags_are_refused_by_their_name(found, data, name, for_prediction):
    Path(name).write_bytes(data)
    assert message(name, for_prediction=for_prediction).startswith(f"{name}: found {found}")
    assert read_files([name], ReadOptions(format="text", with_tags=False))[0]


def test_a_database_and_an_archive_are_refused():
    with sqlite3.connect("x.db") as database:
        database.execute("create table x (y)")
    database.close()
    assert message("x.db").endswith("export it: prodigy db-out NAME > data.jsonl")
    with zipfile.ZipFile("x.xlsx", "w") as archive:
        archive.writestr("a", "b")
    assert message("x.xlsx").startswith("x.xlsx: found a ZIP archive, as .xlsx and .docx files are")


def test_annotations_for_aws_comprehend_are_refused():
    Path("x.csv").write_text("File,Line,Begin Offset,End Offset,Type\na.txt,0,0,4,PER\n")
    assert message("x.csv").startswith("x.csv: found a table of annotations for AWS Comprehend, which nerloop does not")


def test_columns_named_json_are_told():
    Path("x.json").write_text("EU NNP B-ORG\nrejects V O\n")
    assert message("x.json") == "x.json: found columns, not JSON: 'EU NNP B-ORG'; set data.format to conll"
    assert read_files(["x.json"], ReadOptions(format="conll"))[0][0].tags == ("B-ORG", "O")


TEXT = "Anna lives in Paris."
READ = {
    "LightTag": {"examples": [{"content": TEXT, "metadata": {}, "annotations": [
        {"start": 0, "end": 4, "tag": "PER", "value": "Anna", "annotated_by": []},
        {"start": 14, "end": 19, "tag": "LOC", "value": "Paris"}]}], "relations": []},
    "UBIAI": [{"documentName": "a", "document": TEXT, "relations": [], "tokens": [
        {"text": "Anna", "start": 0, "end": 4, "entityLabel": "PER"},
        {"text": "Paris", "start": 14, "end": 19, "entityLabel": "LOC"}]}],
    "UBIAI, new": [{"documentName": "a", "document": TEXT, "annotation": [
        {"text": "Anna", "start": 0, "end": 4, "label": "PER"},
        {"text": "Paris", "start": 14, "end": 19, "label": "LOC"}]}],
    "NER annotator for spaCy": {"classes": ["PER"], "annotations": [
        [TEXT, {"entities": [[0, 4, "PER"], [14, 19, "LOC"]]}], None]},
}  # fmt: skip


@pytest.mark.parametrize("value", READ.values(), ids=READ)
@pytest.mark.parametrize("indent", [None, 2])
def test_files_of_other_tools_are_read(value, indent):
    Path("x.json").write_text(json.dumps(value, indent=indent))
    assert format_of("x.json") in ("prodigy", "spacy")
    (example,) = read_files(["x.json"])[0]
    assert example.tags == ("B-PER", "O", "O", "B-LOC", "O")
    assert read_files(["x.json"], ReadOptions(with_tags=False))[0][0].tokens == example.tokens


@pytest.mark.parametrize(
    "text", ["<s> O\nAnna B-PER\n</s> O\n", "<s>\tX\tO\nAnna\tX\tB-PER\n</s>\tX\tO\n", "a/O O\nb/O O\nc/O O\nd B-PER\n"]
)
def test_columns_whose_tokens_look_like_other_formats_are_read(text):
    Path("x.conll").write_text(text)
    assert [len(e.tokens) for e in read_files(["x.conll"], ReadOptions())[0]] == [text.count("\n")]
