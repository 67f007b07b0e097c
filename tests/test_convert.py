"""Every pair of formats that can hold the same facts, there and back."""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nerloop import convert as convert_module
from nerloop.data import ReadOptions, format_of, read_files
from nerloop.data.formats import FORMATS
from nerloop.data.read_warnings import ReadWarnings
from nerloop.evaluation.prediction_files import jsonl_lines
from nerloop.evaluation.predictor import Prediction
from nerloop.types import Span

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def convert(run_main):
    """Return a function that runs the command and gives its exit code and what it said."""

    def run(*arguments: str) -> tuple[int, str]:
        code, _, err = run_main(convert_module.main, *arguments)
        return code, err

    return run


def records(path: str) -> list[tuple]:
    found = FORMATS[format_of(path)].read(path, ReadOptions(), ReadWarnings())
    return [(r.text, r.spans if r.spans is None else sorted(r.spans), r.tokens) for r in found]


def sentences(path: str, **options) -> list[tuple]:
    return [(e.tokens, e.tags) for e in read_files([path], ReadOptions(**options))[0]]


# Texts: an emoji, nested spans, one off the tokens, white space of every kind, nobody's text, an empty list.
TEXTS = [
    {"text": "😀 Bank of China\tin New York-based  Anna.\r\n\n Bo\u00a0left.", "spans": [
        {"start": 2, "end": 15, "label": "ORG"}, {"start": 10, "end": 15, "label": "LOC"},
        {"start": 19, "end": 27, "label": "LOC"}, {"start": 44, "end": 46, "label": "PER"}]},
    {"text": "Nobody looked at this.", "spans": None},
    {"text": "Nothing here", "spans": []},
]  # fmt: skip
TEXT_FORMS = ("jsonl", "brat", "label_studio")


@pytest.fixture
def source() -> str:
    Path("source.jsonl").write_text("".join(json.dumps(r) + "\n" for r in TEXTS), encoding="utf-8")
    return "source.jsonl"


@pytest.mark.parametrize(("first", "second"), list(itertools.product(TEXT_FORMS, TEXT_FORMS)))
def test_texts_go_from_any_format_to_any_other_and_back(convert, source, first, second):
    name = {"jsonl": "x.jsonl", "brat": "x.brat", "label_studio": "x.json"}
    expected = records(source)
    assert len(expected[0][1]) == 4
    assert convert(source, f"1{name[first]}", "--to", first) == (0, "")
    assert convert(f"1{name[first]}", f"2{name[second]}", "--to", second) == (0, "")
    assert convert(f"2{name[second]}", "3.jsonl", "--to", "jsonl") == (0, "")
    assert records(f"1{name[first]}") == records(f"2{name[second]}") == records("3.jsonl") == expected
    assert sentences("3.jsonl") == sentences(source)


TOKENS = (
    "-DOCSTART- O\n\n{ O\nNew B-LOC\nYork I-LOC\n, O\n[ B-X\n\nU.S. B-LOC\n. O\n\n-DOCSTART- O\n\n😀 O\nBo B-PER\n\n"
)


@pytest.mark.parametrize("form", ["conll", "jsonl", "brat", "label_studio"])
def test_tokens_go_to_any_format_and_back(convert, form):
    Path("source.conll").write_text(TOKENS, encoding="utf-8")
    there = {"conll": "x.conll", "jsonl": "x.jsonl", "brat": "x.brat", "label_studio": "x.json"}[form]
    assert convert("source.conll", there, "--to", form)[0] == 0
    assert convert(there, "back.conll", "--to", "conll", "--tokenizer", "whitespace") == (0, "")
    assert Path("back.conll").read_text(encoding="utf-8") == TOKENS


def test_sentences_of_no_document_are_a_task_each_and_one_text_of_brats(convert):
    Path("x.conll").write_text("A B-X\n\nb O\n")
    convert("x.conll", "x.json", "--to", "label_studio")
    assert [task["data"]["text"] for task in json.loads(Path("x.json").read_text())] == ["A", "b"]
    convert("x.conll", "b", "--to", "brat")
    assert [(p.name, p.read_text()) for p in sorted(Path("b").iterdir())] == [
        ("000001.ann", "T1\tX 0 1\tA\n"),
        ("000001.txt", "A\nb"),
    ]


def test_brats_names_are_kept(convert):
    Path("b/in").mkdir(parents=True)
    Path("b/in/one.txt").write_text("Anna")
    Path("b/in/one.ann").write_text("T1\tPER 0 4\tAnna\n")
    assert convert("b", "c", "--to", "brat") == (0, "")
    assert Path("c/in/one.ann").read_text() == "T1\tPER 0 4\tAnna\n"


def test_prodigys_tokens_stay(convert):
    tokens = [{"text": t, "start": s, "end": s + 1, "id": s} for s, t in enumerate("ab")]
    Path("x.jsonl").write_text(json.dumps({"text": "ab", "tokens": tokens, "spans": []}))
    convert("x.jsonl", "y.jsonl", "--to", "jsonl")
    assert records("y.jsonl") == records("x.jsonl") == [("ab", [], ((0, 1), (1, 2)))]


def test_what_columns_can_not_hold_is_counted(convert, source, caplog):
    assert convert(source, "x.conll", "--to", "conll")[0] == 0
    assert "1 nested or overlapping spans left out" in caplog.text
    assert "1 records that nobody annotated are left out: source.jsonl:2" in caplog.text


def test_predictions_go_back_to_the_form_that_came_in(convert, source):
    examples = read_files([source])[0]
    tagged = [Prediction({"viterbi": [*e.tags]}, np.ones(len(e.tokens))) for e in examples]
    Path("predictions.test.jsonl").write_text("".join(jsonl_lines(examples, tagged, "viterbi")), encoding="utf-8")
    assert convert("predictions.test.jsonl", "x", "--to", "brat")[0] == 0
    assert Path("x/000001.txt").read_text(encoding="utf-8") == (
        "😀 Bank of China in New York-based  Anna.\n   Bo left."
    )
    assert Path("x/000001.ann").read_text(encoding="utf-8") == (
        "T1\tORG 2 15\tBank of China\n#1\tAnnotatorNotes T1\tpredicted by nerloop, confidence 1.0\n"
        "T2\tLOC 19 27\tNew York\n#2\tAnnotatorNotes T2\tpredicted by nerloop, confidence 1.0\n"
        "T3\tPER 44 46\tBo\n#3\tAnnotatorNotes T3\tpredicted by nerloop, confidence 1.0\n"
    )
    convert("predictions.test.jsonl", "x.json", "--to", "label_studio")
    (first, *_) = json.loads(Path("x.json").read_text(encoding="utf-8"))
    assert [r["value"]["text"] for r in first["predictions"][0]["result"]] == ["Bank of China", "New York", "Bo"]


def row(number: int | str, form: str, misc: str = "_") -> str:
    return f"{number}\t{form}\t_\t_\t_\t_\t_\t_\t_\t{misc}\n"


@pytest.mark.parametrize("documents", [True, False])
def test_predictions_on_conllu_go_back_into_its_texts(convert, documents):
    anna = "# text = Anna's  cat\n" + row(1, "Anna", "NER=B-PER") + row(2, "'s") + row(3, "cat") + "\n"
    split = "# text = vámonos\n" + row("1-2", "vámonos") + row(1, "vamos") + row(2, "nos", "NER=B-X") + "\n"
    Path("x.conllu").write_text("# newdoc\n" * documents + anna + split + anna, encoding="utf-8")
    examples = read_files(["x.conllu"])[0]
    tagged = [Prediction({"v": [*e.tags]}, np.ones(len(e.tokens))) for e in examples]
    Path("p.jsonl").write_text("".join(jsonl_lines(examples, tagged, "v")), encoding="utf-8")
    assert convert("p.jsonl", "b", "--to", "brat")[0] == 0
    texts = [p.read_text(encoding="utf-8") for p in sorted(Path("b").glob("*.txt"))]
    spans = [p.read_text(encoding="utf-8") for p in sorted(Path("b").glob("*.ann"))]
    if documents:
        assert texts == ["Anna's  cat\nvamos nos\nAnna's  cat"]
        assert [line for line in spans[0].splitlines() if line[0] == "T"] == [
            "T1\tPER 0 4\tAnna", "T2\tX 18 21\tnos", "T3\tPER 22 26\tAnna"
        ]  # fmt: skip
    else:
        assert texts == ["Anna's  cat", "vamos nos", "Anna's  cat"]


def test_a_mistake_is_told_in_one_line_and_leaves_nothing(convert):
    Path("x.jsonl").write_text('{"text": "Anna", "label": [[0, 4, "PER"]]}\n{"text": "Bo", "label": [[0, 9, "PER"]]}\n')
    for form in ("conll", "jsonl", "brat", "label_studio"):
        assert convert("x.jsonl", "y", "--to", form) == (
            2, "nerloop: error: x.jsonl:2: found offsets 0 to 9 in a text of 2 characters, expected them within it\n"
        )  # fmt: skip
    assert [p.name for p in Path.cwd().iterdir()] == ["x.jsonl"]


def test_no_file_is_lost_by_its_own_conversion(convert, source):
    assert convert(source, source, "--to", "jsonl") == (
        2, "nerloop: error: source.jsonl: is the input, expected another name for the output\n"
    )  # fmt: skip
    Path("b").mkdir()
    Path("b/mine").touch()
    assert convert(source, "b", "--to", "brat") == (
        2, "nerloop: error: b: found something there, expected the name of a new or empty folder\n"
    )  # fmt: skip
    assert convert(source, "b", "--to", "jsonl") == (
        2, "nerloop: error: b: found a folder, expected the name of a file\n"
    )  # fmt: skip


def test_what_was_rejected_or_nobody_annotated_is_no_loss(convert, caplog):
    anna = {"text": "Anna", "spans": [{"start": 0, "end": 4, "label": "PER"}]}
    records = [anna | {"answer": answer} for answer in ("accept", "reject", "ignore")]
    Path("x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*records, {"text": "Bo", "spans": None}]))
    assert convert("x.jsonl", "x.conll", "--to", "conll", "--strict")[0] == 0
    assert Path("x.conll").read_text() == "-DOCSTART- O\n\nAnna B-PER\n\n"
    assert caplog.messages == [
        "note: x.jsonl: 2 records that were rejected or ignored are left out: x.jsonl:2; x.jsonl:3",
        "note: x.jsonl: 1 records that nobody annotated are left out: x.jsonl:4",
    ]


def test_predicted_tasks_stay_unanswered_on_their_way(convert, caplog):
    task = {"text": "Anna came.", "spans": [{"start": 0, "end": 4, "label": "PER", "score": 0.4}]}
    Path("tasks.jsonl").write_text(json.dumps(task | {"model_version": "nerloop"}) + "\n")
    assert convert("tasks.jsonl", "again.jsonl", "--to", "prodigy")[0] == 0
    assert "1 tasks with spans that a model predicted and nobody answered: tasks.jsonl:1" in caplog.text
    assert json.loads(Path("again.jsonl").read_text()) == {
        "text": "Anna came.",
        "spans": [],
        "model_version": "nerloop",
    }
    assert convert("tasks.jsonl", "other.jsonl", "--to", "prodigy", "--strict")[0] == 2
    for source in ("tasks.jsonl", "again.jsonl"):
        assert convert(source, "gold.conll", "--to", "conll", "--format", "prodigy")[0] == 2
        assert not Path("gold.conll").exists()


def test_what_nobody_annotated_stays_so_or_is_a_loss(convert, caplog):
    spans = [{"start": 0, "end": 4, "label": "PER"}]
    both = [{"text": "Anna came.", "spans": spans, "answer": "accept"}, {"text": "Bo left.", "spans": None}]
    Path("half.jsonl").write_text("".join(json.dumps(record) + "\n" for record in both))
    code, err = convert("half.jsonl", "doccano.jsonl", "--to", "doccano", "--strict")
    assert (code, "1 records that nobody annotated become records without entities: half.jsonl:2" in err) == (2, True)
    assert convert("half.jsonl", "out.jsonl", "--to", "prodigy", "--strict")[0] == 0
    assert caplog.text == ""
    assert [r[1] for r in records("out.jsonl")] == [[Span(0, 4, "PER")], None]


def test_a_file_of_which_nothing_is_left_is_an_error_and_writes_nothing(convert):
    Path("x.jsonl").write_text('{"text": "Bo", "spans": null}\n{"text": "Al", "spans": [], "answer": "reject"}\n')
    assert convert("x.jsonl", "y", "--to", "conll") == (
        2, "nerloop: error: x.jsonl: found no sentence (1 records that nobody annotated are left out, 1 records that "
        "were rejected or ignored are left out), expected at least one. Is this the right file?\n"
    )  # fmt: skip
    Path("z.jsonl").write_text('{"text": "Al", "spans": [], "answer": "reject"}\n')
    for form in ("jsonl", "brat", "label_studio", "csv"):
        assert convert("z.jsonl", "y", "--to", form)[0] == 2
    assert sorted(p.name for p in Path().iterdir()) == ["x.jsonl", "z.jsonl"]


@pytest.mark.parametrize("form", ["conll", "jsonl"])
def test_a_cancelled_annotation_is_no_loss(convert, form):
    region = {"type": "labels", "value": {"start": 0, "end": 4, "labels": ["PER"]}}
    answers = [{"was_cancelled": cancelled, "result": [region]} for cancelled in (True, False)]
    tasks = [{"data": {"text": "Anna"}, "annotations": found} for found in (answers, answers[:1])]
    Path("x.json").write_text(json.dumps(tasks))
    assert convert("x.json", "y", "--to", form, "--strict")[0] == 0
    assert Path("y").stat().st_size > 0


def test_a_loss_is_an_error_with_strict_and_a_note_is_not_in_its_line(convert):
    relation = {"type": "relation", "from_id": "1", "to_id": "2"}
    tasks = [{"data": {"text": "Anna"}, "annotations": [{"result": [relation]}, {"was_cancelled": True, "result": []}]}]
    Path("x.json").write_text(json.dumps(tasks))
    assert convert("x.json", "y", "--to", "conll", "--strict") == (
        2, "nerloop: error: x.json: 1 relations: x.json:1: region 1 (--strict)\n"
    )  # fmt: skip
    assert not Path("y").exists()


def test_a_file_that_is_not_there_is_named(convert):
    assert convert("none.jsonl", "x", "--to", "conll") == (2, "nerloop: error: none.jsonl: no such file\n")


def test_ctrl_c_is_told_in_one_line_and_leaves_nothing(convert, monkeypatch):
    def interrupted(examples):
        yield "A O\n"
        raise KeyboardInterrupt

    Path("x.conll").write_text("A B-X\n")
    monkeypatch.setattr(convert_module, "conll_lines", interrupted)
    assert convert("x.conll", "y.conll", "--to", "conll") == (130, "nerloop: stopped by Ctrl-C\n")
    assert [p.name for p in Path().iterdir()] == ["x.conll"]


def test_standard_input_is_converted_like_a_file(convert, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Anna B-PER\nx O\n\n")))
    convert("-", "out.jsonl", "--to", "jsonl")
    assert json.loads(Path("out.jsonl").read_text())["tags"] == ["B-PER", "O"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Anna B-PER\nx Y\n\n")))
    code, err = convert("-", "out2.jsonl", "--to", "jsonl")
    assert code == 2
    assert err.startswith("nerloop: error: <stdin>:2: 'Y' is not a tag")


def test_the_result_goes_to_standard_output(run_main):
    Path("x.conll").write_text("Anna B-PER\nleft O\n\n")
    code, out, _ = run_main(convert_module.main, "x.conll", "-", "--to", "jsonl")
    assert (code, json.loads(out)) == (0, {"tokens": ["Anna", "left"], "tags": ["B-PER", "O"]})
    code, _, err = run_main(convert_module.main, "x.conll", "-", "--to", "brat")
    assert (code, err) == (2, "nerloop: error: OUT: found -, expected a folder: brat has two files for each text\n")
    assert [path.name for path in Path().iterdir()] == ["x.conll"]


def test_a_loss_refused_by_strict_leaves_standard_output_empty(run_main):
    Path("x.jsonl").write_text(json.dumps({"text": "Anna left", "spans": [{"start": 0, "end": 3, "label": "PER"}]}))
    code, out, err = run_main(convert_module.main, "x.jsonl", "-", "--to", "conll", "--strict")
    assert (code, out) == (2, "")
    assert err.endswith("(--strict)\n")
