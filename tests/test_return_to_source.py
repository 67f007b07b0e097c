"""Predictions go back next to their source, by tool: the form that each tool documents, marked as predictions."""

from __future__ import annotations

import csv
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerloop import convert as convert_module
from nerloop.data import ReadOptions, read_records
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord, read_examples
from nerloop.evaluation.prediction_files import jsonl_lines
from nerloop.evaluation.predictor import Prediction
from nerloop.types import Example

OPTIONS = ReadOptions(with_tags=False, for_prediction=True)


pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def convert(exit_code) -> Callable[..., int]:
    return partial(exit_code, convert_module.main)


def predict(*paths: str, source_of: Callable[[int], Mapping[str, Any]] | None = None) -> None:
    """Write predictions.jsonl: each "Anna" is a PER, with confidence 0.75, and each "Rome" a LOC."""
    tags = {"Anna": "B-PER", "Rome": "B-LOC"}
    lines: list[str] = []
    for path in paths:
        records = list(read_records(path, OPTIONS, ReadWarnings()))
        if source_of is not None:
            assert all(isinstance(record, TextRecord) for record in records)
            records = [replace(record, source=source_of(i)) for i, record in enumerate(records)]
        examples = list(read_examples(records, OPTIONS, ReadWarnings()))
        tagged = [
            Prediction({"viterbi": [tags.get(t, "O") for t in e.tokens]}, np.full(len(e.tokens), 0.75))
            for e in examples
        ]
        lines += jsonl_lines(examples, tagged, "viterbi")
    Path("predictions.jsonl").write_text("".join(lines), encoding="utf-8")


TEXT = "\n 😀 Hi Anna. To\u00a0Rome?\r\n\n  \nBye, Anna-\nOK\n"


def files(folder: str) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_bytes().decode() for p in Path(folder).rglob("*") if p.is_file()}


def predict_tokens() -> None:
    """Write the predictions for a file of columns: two sentences, "Anna" is a PER, with confidence 0.75."""
    examples = [Example(("Hi", "Anna", "."), ("O", "O", "O")), Example(("Bye",), ("O",))]
    tagged = [
        Prediction({"viterbi": ["O", "B-PER", "O"]}, np.full(3, 0.75)),
        Prediction({"viterbi": ["O"]}, np.ones(1)),
    ]
    Path("predictions.jsonl").write_text("".join(jsonl_lines(examples, tagged, "viterbi")), encoding="utf-8")


ANNOTATIONS = (
    "T1\tPER 7 11\tAnna\n#1\tAnnotatorNotes T1\tpredicted by nerloop, confidence 0.75\n"
    "T2\tLOC 16 20\tRome\n#2\tAnnotatorNotes T2\tpredicted by nerloop, confidence 0.75\n"
    "T3\tPER 32 36\tAnna\n#3\tAnnotatorNotes T3\tpredicted by nerloop, confidence 0.75\n"
)


def test_brat_gets_files_of_the_same_names_and_texts(convert):
    for name in ("b/a.txt", "b/in/a.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(TEXT.encode())
    predict("b")
    assert convert("predictions.jsonl", "out", "--to", "brat") == 0
    assert files("out") == {"a.txt": TEXT, "a.ann": ANNOTATIONS, "in/a.txt": TEXT, "in/a.ann": ANNOTATIONS}
    (first, second) = read_records("out", ReadOptions(), ReadWarnings())
    assert isinstance(first, TextRecord)
    assert isinstance(second, TextRecord)
    assert [TEXT[s.start : s.end] for s in first.spans or ()] == ["Anna", "Rome", "Anna"]


def test_plain_text_comes_back_as_its_files(convert):
    Path("in").mkdir()
    for name in ("a.txt", "in/a.txt", "in/b.md"):
        Path(name).write_bytes(TEXT.encode())
    predict("a.txt", "in/a.txt", "in/b.md")
    assert convert("predictions.jsonl", "out", "--to", "brat") == 0
    assert files("out") == {
        "a.txt": TEXT, "a.ann": ANNOTATIONS, "in/a.txt": TEXT, "in/a.ann": ANNOTATIONS,
        "in/b.md.txt": TEXT, "in/b.md.ann": ANNOTATIONS,
    }  # fmt: skip


def test_predictions_can_not_write_outside_of_the_output(convert):
    Path("a.txt").write_text("Anna")
    predict("a.txt")
    value = json.loads(Path("predictions.jsonl").read_text())
    value["source"] |= {"name": "../../evil", "folder": "/etc"}
    Path("predictions.jsonl").write_text(json.dumps(value))
    assert convert("predictions.jsonl", "out", "--to", "brat") == 0
    assert sorted(files("out")) == ["evil.ann", "evil.txt"]


REGION = {"type": "labels", "from_name": "ner", "to_name": "body", "value": {"start": 0, "end": 2, "labels": ["X"]}}
TASK = {
    "id": 77, "data": {"body": "Hi Anna.", "lang": 3}, "meta": {"a": 1}, "annotations": [{"result": [REGION]}]
}  # fmt: skip


def test_label_studio_gets_tasks_with_their_ids_and_predictions(convert):
    Path("tasks.json").write_text(json.dumps([TASK]))
    predict("tasks.json")
    assert convert("predictions.jsonl", "out.json", "--to", "label_studio") == 0
    assert json.loads(Path("out.json").read_text()) == [{
        "id": 77, "data": {"body": "Hi Anna.", "lang": 3}, "meta": {"a": 1}, "predictions": [{
            "model_version": "nerloop", "score": 0.75, "result": [{
                "id": "1-1", "type": "labels", "from_name": "ner", "to_name": "body", "score": 0.75,
                "value": {"start": 3, "end": 7, "text": "Anna", "labels": ["PER"]}}]}]}]  # fmt: skip


def test_label_studio_gets_regions_of_html_and_the_names_of_the_task_before(convert):
    value = {"globalOffsets": {"start": 0, "end": 2}, "text": "Hi", "hypertextlabels": ["X"]}
    region = {"type": "hypertextlabels", "from_name": "ner", "to_name": "html", "value": value}
    html = "<p>Hi <b>Anna</b></p>"
    task = {"id": 1, "data": {"html": html}, "annotations": [{"result": [region]}]}
    Path("tasks.json").write_text(json.dumps([task, {"id": 2, "data": {"html": html}}]))
    predict("tasks.json")
    assert convert("predictions.jsonl", "out.json", "--to", "label_studio") == 0
    first, second = (
        [r for p in task["predictions"] for r in p["result"]] for task in json.loads(Path("out.json").read_text())
    )
    assert [(r["from_name"], r["to_name"], r["type"]) for r in first] == [("ner", "html", "hypertextlabels")]
    assert first[0]["value"] == {
        "globalOffsets": {"start": 3, "end": 7}, "text": "Anna", "hypertextlabels": ["PER"]
    }  # fmt: skip
    assert [(r["from_name"], r["to_name"], r["type"]) for r in second] == [("ner", "html", "hypertextlabels")]


@pytest.mark.parametrize("target", ["jsonl", "label_studio", "brat"])
def test_a_device_is_never_replaced(convert, target):
    os.mkfifo("pipe")
    if target != "brat":
        threading.Thread(target=lambda: Path("pipe").read_bytes(), daemon=True).start()
    Path("x.jsonl").write_text('{"text": "Anna", "spans": []}\n')
    assert convert("x.jsonl", "pipe", "--to", target) == (2 if target == "brat" else 0)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_line_ends_within_a_cell_come_back(convert):
    Path("x.csv").write_bytes(b'id,text\r\n7,"Hi.\r\nAnna left."\r\n')
    predict("x.csv")
    assert convert("predictions.jsonl", "out.csv", "--to", "csv") == 0
    with open("out.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["text"] == "Hi.\r\nAnna left."
    assert json.loads(row["entities"])[0]["start"] == 5


def test_prodigy_gets_tasks_with_their_hashes_and_no_answer(convert):
    tokens = [{"text": "Hi", "start": 0, "end": 2, "id": 0}, {"text": "Anna", "start": 3, "end": 7, "id": 1}]
    task = {"text": "Hi Anna", "_input_hash": 1, "_task_hash": -2, "tokens": tokens, "meta": {"s": "x"},
            "spans": [], "answer": "accept", "_timestamp": 3}  # fmt: skip
    Path("in.jsonl").write_text(json.dumps(task) + "\n")
    predict("in.jsonl", source_of=lambda _: {"format": "prodigy", "record": task})
    assert convert("predictions.jsonl", "out.jsonl", "--to", "prodigy") == 0
    span = {"start": 3, "end": 7, "label": "PER", "token_start": 1, "token_end": 1, "score": 0.75}
    assert json.loads(Path("out.jsonl").read_text()) == {
        "text": "Hi Anna", "_input_hash": 1, "_task_hash": -2, "tokens": tokens, "meta": {"s": "x"}, "spans": [span],
        "model_version": "nerloop",
    }  # fmt: skip


def test_doccano_gets_records_with_their_ids(convert):
    records = [
        {"id": 9, "text": "Hi Anna", "label": [[0, 2, "X"]], "Comments": ["c"]},
        {"id": 11, "text": "Rome", "label": []},
    ]
    Path("in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    predict("in.jsonl", source_of=lambda i: {"format": "doccano", "record": records[i]})
    assert convert("predictions.jsonl", "out.jsonl", "--to", "doccano") == 0
    assert [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()] == [
        {"id": 9, "text": "Hi Anna", "Comments": ["c"], "label": [[3, 7, "PER"]]},
        {"id": 11, "text": "Rome", "label": [[0, 4, "LOC"]]},
    ]


def test_csv_gets_the_columns_of_the_source_and_the_entities(convert):
    rows = [{"id": "5", "text": 'Hi "Anna",\nBo'}, {"id": "6", "text": "none"}]
    Path("in.jsonl").write_text("".join(json.dumps({"text": r["text"], "spans": None}) + "\n" for r in rows))
    predict("in.jsonl", source_of=lambda i: {"format": "csv", "record": rows[i]})
    assert convert("predictions.jsonl", "out.csv", "--to", "csv") == 0
    with open("out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    entities = [json.loads(row.pop("entities")) for row in found]
    assert found == rows
    assert entities == [[{"start": 4, "end": 8, "text": "Anna", "label": "PER", "score": 0.75}], []]


@pytest.mark.parametrize("target", ["prodigy", "doccano", "label_studio", "csv"])
def test_plain_text_goes_to_any_tool_by_document(convert, target):
    Path("a.txt").write_bytes(TEXT.encode())
    predict("a.txt")
    assert convert("predictions.jsonl", "out", "--to", target) == 0
    if target == "csv":
        with open("out", newline="") as file:
            rows = [(row["text"], json.loads(row["entities"])) for row in csv.DictReader(file)]
        found = [(text, [text[s["start"] : s["end"]] for s in spans]) for text, spans in rows]
    else:
        if target == "prodigy":  # an annotator accepts them all
            answered = [json.loads(line) | {"answer": "accept"} for line in Path("out").read_text().splitlines()]
            Path("out").write_text("".join(json.dumps(task) + "\n" for task in answered))
        options = ReadOptions(
            format="label_studio" if target == "label_studio" else "doccano", with_tags=target != "label_studio"
        )
        records = [r for r in read_records("out", options, ReadWarnings()) if isinstance(r, TextRecord)]
        found = [(r.text, [r.text[s.start : s.end] for s in r.spans or ()]) for r in records]
    assert [text for text, _ in found] == ["\n 😀 Hi Anna. To\u00a0Rome?", "Bye, Anna-\nOK"]
    assert target == "label_studio" or [spans for _, spans in found] == [["Anna", "Rome"], ["Anna"]]


@pytest.mark.parametrize(
    ("target", "name"), [("prodigy", "x.jsonl"), ("doccano", "x.jsonl"), ("label_studio", "x.json")]
)
def test_gold_is_marked_as_gold(convert, target, name):
    Path("in.jsonl").write_text('{"text": " Anna met Bo", "label": [[0, 5, "PER"], [1, 5, "X"]]}\n')
    assert convert("in.jsonl", name, "--to", target) == 0
    assert convert(name, "back.jsonl", "--to", "jsonl") == 0
    spans = json.loads(Path("back.jsonl").read_text())["spans"]
    assert [(s["start"], s["end"], s["label"]) for s in spans] == [(0, 5, "PER"), (1, 5, "X")]
    said = Path(name).read_text()
    assert "predictions" not in said
    assert ('"answer": "accept"' in said) == (target == "prodigy")


def test_losses_are_counted_and_strict_refuses_them(convert, capsys, caplog):
    Path("b").mkdir()
    Path("b/a.txt").write_text("Anna met Bo")
    Path("b/a.ann").write_text("T1\tPER 0 4\tAnna\nT2\tPER 9 11\tBo\nR1\tkin Arg1:T1 Arg2:T2\n")
    assert convert("b", "x.jsonl", "--to", "jsonl") == 0
    assert caplog.messages == ["warning: b: 1 relations: b/a.ann:3 'R1\\tkin Arg1:T1 Arg2:T2'"]
    capsys.readouterr()
    for target in ("jsonl", "conll", "brat", "label_studio", "csv"):
        assert convert("b", "y", "--to", target, "--strict") == 2
        assert capsys.readouterr().err.startswith("nerloop: error: b: 1 relations: b/a.ann:3")
        assert not Path("y").exists()
    Path("b/a.ann").write_text("T1\tPER 0 8\tAnna met\nT2\tPER 0 4\tAnna\n")
    assert convert("b", "y", "--to", "jsonl", "--strict") == 0
    assert convert("b", "z", "--to", "conll", "--strict") == 2
    assert "1 nested or overlapping spans left out" in capsys.readouterr().err


def test_empty_tokens_are_lost_in_texts(convert, caplog):
    Path("x.jsonl").write_text('{"tokens": ["Anna", ""], "tags": ["B-PER", "O"]}\n')
    assert convert("x.jsonl", "y.json", "--to", "label_studio") == 0
    assert caplog.messages == ["warning: x.jsonl: 1 empty tokens, which no text can hold: x.jsonl:1"]


@pytest.mark.parametrize("target", ["jsonl", "brat"])
def test_a_full_disk_is_one_line_and_leaves_nothing(convert, monkeypatch, capsys, target):
    Path("x.jsonl").write_text('{"text": "Anna", "spans": []}\n')
    real = Path.open

    def full(self, *arguments, **options):
        return real(Path("/dev/full") if arguments[:1] == ("w",) else self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    assert convert("x.jsonl", "y", "--to", target) == 2
    assert capsys.readouterr().err == "nerloop: error: y: can't be written: No space left on device\n"
    assert [p.name for p in Path().iterdir()] == ["x.jsonl"]


def test_predictions_for_tokens_are_no_gold_either(convert):
    predict_tokens()
    assert convert("predictions.jsonl", "prodigy.jsonl", "--to", "prodigy") == 0
    first, second = map(json.loads, Path("prodigy.jsonl").read_text().splitlines())
    assert first == {
        "text": "Hi Anna .", "spans": [{"start": 3, "end": 7, "label": "PER", "score": 0.75}],
        "model_version": "nerloop",
    }  # fmt: skip
    assert second == {"text": "Bye", "spans": [], "model_version": "nerloop"}
    assert convert("predictions.jsonl", "tasks.json", "--to", "label_studio") == 0
    tasks = json.loads(Path("tasks.json").read_text())
    assert [("annotations" in task, len(task["predictions"][0]["result"])) for task in tasks] == [
        (False, 1),
        (False, 0),
    ]


def test_predictions_for_tokens_keep_their_tokens_as_columns(convert):
    predict_tokens()
    assert convert("predictions.jsonl", "out.conll", "--to", "conll") == 0
    assert Path("out.conll").read_text() == "Hi O\nAnna B-PER\n. O\n\nBye O\n\n"


def test_predictions_are_known_after_any_number_of_sentences_without_entities(convert):
    predict_tokens()
    entity, empty = Path("predictions.jsonl").read_text().splitlines()
    Path("predictions.jsonl").write_text("".join(f"{line}\n" for line in [*[empty] * 150, entity]))
    assert convert("predictions.jsonl", "prodigy.jsonl", "--to", "prodigy") == 0
    tasks = list(map(json.loads, Path("prodigy.jsonl").read_text().splitlines()))
    assert len(tasks) == 151
    assert not any("answer" in task for task in tasks)
