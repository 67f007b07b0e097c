"""The command: flags, exit codes, text, JSON and HTML."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nerloop import inspect as command

TRAIN = "".join(f"Anna B-PER\nSmith{i} I-PER\ncame O\n\n" for i in range(12))


@pytest.fixture
def run(run_main, monkeypatch, tmp_path):
    """Return a function that runs the command in a folder of files: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(flags: str, **files: str) -> tuple[int, str, str]:
        for name, text in files.items():
            Path(name.replace("_", ".")).write_text(text, encoding="utf-8")
        return run_main(command.main, *flags.split())

    return call


def test_text(run):
    code, out, err = run("train.conll test.conll", train_conll=TRAIN, test_conll="x O\nRome B-LOC\n")
    assert (code, err) == (0, "")
    assert out.startswith("split  file         sentences  tokens  spans  documents\ntrain  train.conll         12")
    assert "\nwarning: test.conll:2: the test split has tags that the training split does not have: B-LOC (1)\n" in out


def test_json(run):
    code, out, _ = run("train.conll test.conll --json", train_conll=TRAIN, test_conll="x O\nRome B-LOC\n")
    found = json.loads(out)
    assert code == 0
    assert (found["scheme"], found["tokenizer"]) == ("IOB2", None)
    assert found["splits"][1] == {
        "path": "test.conll", "split": "test", "taken_as_split": "by its name", "sentences": 1, "tokens": 2, "spans": 1,
        "spans_per_type": {"LOC": 1}, "tags": {"B-LOC": 1, "O": 1}, "documents": 0, "scheme": "IOB2",
        "first_sentences": [{"location": "test.conll:1", "tokens": ["x", "Rome"], "spans": [[1, 2, "LOC"]]}],
        "tags_against_scheme": 0, "tokens_per_sentence": {"50": 2, "90": 2, "95": 2, "99": 2, "100": 2},
        "tokens_per_span": {"1": 1},
    }  # fmt: skip
    assert found["findings"] == [
        {
            "severity": "warning",
            "kind": "unseen_label",
            "where": "test.conll:2",
            "message": "the test split has tags that the training split does not have: B-LOC (1)",
            "action": "gives the model an output for each and counts them as gold; "
            "without an example it hardly finds one",
            "count": 1,
            "details": [{"where": "test.conll:2", "text": "'Rome': B-LOC"}],
        }
    ]


def test_a_file_that_can_not_be_read_is_a_finding_and_the_others_are_looked_at(run):
    code, out, err = run("train.conll dev.conll no.conll --json", train_conll=TRAIN, dev_conll="a O\n\nb PER\n")
    found = json.loads(out)
    assert (code, err) == (2, "")
    assert [(split["path"], split["sentences"]) for split in found["splits"]] == [("train.conll", 12)]
    assert [(f["severity"], f["where"], f["message"]) for f in found["findings"]] == [
        ("error", "dev.conll:3", "'PER' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"),
        ("error", "no.conll", "no such file"),
    ]


def test_several_errors_of_a_file_are_a_line_each(run):
    code, out, _ = run("x.conll", x_conll="Anna B-PER\nleft 0\n\nBo 0\n\nx O\n")
    assert code == 2
    assert [line.split(" is")[0] for line in out.splitlines() if line.startswith("error: ")] == [
        "error: x.conll:2: '0'", "error: x.conll:4: '0'",
    ]  # fmt: skip


SCORED = '{"text": "Anna came", "spans": [{"start": 0, "end": 4, "label": "PER", "score": 0.5}]}\n'
WARNED = "records with a score and no answer are read as gold; leave out what a model predicted"


def test_what_a_reader_warns_of_is_a_finding_and_nothing_else(run, caplog):
    code, out, err = run("train.jsonl --html x.html", train_jsonl=12 * SCORED)
    assert (code, err, caplog.text) == (0, "", "")
    assert "findings: 0 errors, 1 warning, " in out
    assert (
        f"\nwarning: train.jsonl: 12 {WARNED}\n  train.jsonl:1\n  train.jsonl:2\n  train.jsonl:3\n  train.jsonl:4\n"
        "  train.jsonl:5\n  and 7 more\n  nerloop goes on; training reads the file in the same way\n"
    ) in out
    assert f"12 {WARNED}" in Path("x.html").read_text(encoding="utf-8")


def test_what_a_reader_warns_of_names_each_place(run, tiny_model):
    bad = '{"text": "Bo", "label": [[0, 9, "PER"]]}\n'
    flags = f"train.jsonl --json --on_bad_record skip --model {tiny_model}"
    _, out, _ = run(flags, train_jsonl=12 * '{"text": "Anna", "label": [[0, 4, "PER"]]}\n' + bad)
    (finding,) = (f for f in json.loads(out)["findings"] if f["kind"] == "reading")
    assert (finding["where"], finding["message"]) == ("train.jsonl", "1 bad records are left out")
    where = "train.jsonl:13: found offsets 0 to 9 in a text of 2 characters, expected them within it"
    assert finding["details"] == [{"where": where, "text": ""}]


def test_places_without_a_line_are_shown_as_the_reader_names_them(run, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "x.txt").write_text("Ratio a:3 in Rome\n")
    (folder / "x.ann").write_text("T1\tORG 0 5;6 9\tRatio a:3\nT2\tLOC 13 17\tRome\n")
    _, out, _ = run("notes --json")
    (finding,) = (f for f in json.loads(out)["findings"] if f["kind"] == "reading")
    assert (finding["where"], finding["message"]) == ("notes", "1 discontinuous spans read as their hull")
    assert [detail["where"].startswith("notes/x.") for detail in finding["details"]] == [True]


def test_what_an_annotator_rejected_is_good_to_know(run):
    task = '{"text": "Anna", "spans": [{"start": 0, "end": 4, "label": "PER"}], "answer": "ANSWER"}\n'
    text = 12 * task.replace("ANSWER", "accept") + task.replace("ANSWER", "reject")
    _, out, _ = run("train.jsonl", train_jsonl=text)
    assert "\ninfo: train.jsonl: 1 records that were rejected or ignored are left out\n  train.jsonl:13\n" in out


def test_what_the_reader_of_a_data_set_warns_of_is_a_finding(run, tmp_path, caplog):
    import datasets

    rows = datasets.Dataset.from_dict({"tokens": [["Anna", "came"]] * 12, "ner_tags": [["U-PER", "O"]] * 12})
    rows.save_to_disk(str(tmp_path / "saved"))
    _, out, _ = run("--dataset saved")
    assert "\ninfo: saved/train: 12 tags of BILOU or BMES are read as those of BIOES\n" in out
    assert caplog.text == ""


def test_errors_make_the_exit_code_2_as_text_too(run):
    code, out, _ = run("train.conll", train_conll="a O\n")
    assert code == 2
    assert "\nerror: train.conll: found no entity in the training split, expected some;" in out


def test_splits_by_option(run):
    _, out, _ = run("c.conll --train a.conll b.conll", a_conll=TRAIN, b_conll=TRAIN, c_conll="x O\n")
    lines = [line.split()[:2] for line in out.splitlines()[1:5]]
    assert lines[:3] == [["train", "a.conll"], ["train", "b.conll"], ["validation", "c.conll"]]
    assert "c.conll is taken as validation by its position; --train, --validation and --test say otherwise" in out


def test_with_a_model(run, tiny_model):
    long = "a O\n" * 70
    code, out, err = run(f"train.conll --json --model {tiny_model}", train_conll=f"{TRAIN}{long}")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["tokenizer"] == {"model": tiny_model, "max_length": 64, "num_special": 2, "stride": 15}
    assert found["splits"][0]["subwords_per_sentence"]["100"] == 72
    assert (found["splits"][0]["sentences_cut_into_windows"], found["splits"][0]["windows"]) == (1, 2)
    assert [f["where"] for f in found["findings"] if f["kind"] == "long_sentence"] == ["train.conll:49"]


def test_windows_as_settings_have_them(run, tiny_model):
    flags = f"train.conll --json --model {tiny_model} --max_length 32 --stride 10"
    _, out, _ = run(flags, train_conll=f"{TRAIN}{'a O' + chr(10)}" * 1)
    assert json.loads(out)["tokenizer"] == {"model": tiny_model, "max_length": 32, "num_special": 2, "stride": 10}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "",
            "found no files, expected some: python -m nerloop.inspect train.conll dev.conll test.conll, or --dataset",
        ),
        ("a.conll --dataset x", "--dataset: found with the file 'a.conll', expected one or the other"),
        ("--dataset x --format conll", "--format: found conll with --dataset, expected it with files"),
        ("a.conll --dataset_config x", "--dataset_config: found without --dataset, expected with it"),
        ("a.conll --stride 3", "--stride: found without --model, expected with it: it counts subwords"),
        ("a.conll --model ./no", "model.name_or_path ./no: no such folder"),
        ("a.conll --html no/x.html", "no/x.html: can't be written: No such file or directory"),
        (
            "a.conll --json --html -",
            "--html -: found with --json, expected one of them, since both go to standard output",
        ),
        ("a.conll --html a.conll", "--html a.conll: is the input, expected another name for the output"),
    ],
)
def test_mistakes_are_told_in_one_line(run, flags, message):
    assert run(flags, a_conll=TRAIN) == (2, "", f"nerloop: error: {message}\n")


def test_columns_and_labels(run):
    flags = "--train a.conll --token_column 1 --tag_column 0 --labels O B-PER --json"
    _, out, _ = run(flags, a_conll="1 Anna\n0 came\n")
    assert json.loads(out)["splits"][0]["spans_per_type"] == {"PER": 1}


@pytest.fixture
def saved(tmp_path) -> str:
    """Return the folder of a saved data set with class labels."""
    import datasets

    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")),
        ner_tags=datasets.List(datasets.ClassLabel(names=["O", "B-PER", "B-LOC"])),
    )
    splits = {"train": [[["Anna", "came"], [1, 0]]] * 12, "dev": [[["Rome"], [2]]]}
    datasets.disable_progress_bars()
    made = {
        name: datasets.Dataset.from_dict({"tokens": [t for t, _ in rows], "ner_tags": [g for _, g in rows]}, features)
        for name, rows in splits.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    datasets.enable_progress_bars()
    return "saved"


def test_a_data_set_is_looked_at_as_its_splits(run, saved):
    code, out, err = run(f"--dataset {saved} --json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert [(s["path"], s["split"], s["sentences"], s["spans_per_type"]) for s in found["splits"]] == [
        ("saved/train", "train", 12, {"PER": 12}),
        ("saved/validation", "validation", 1, {"LOC": 1}),
    ]
    assert [f["where"] for f in found["findings"] if f["kind"] == "unseen_label"] == ["saved/dev:1"]


def test_a_data_set_that_can_not_be_read_is_a_finding(run):
    code, out, err = run("--dataset ./no --json")
    (finding,) = json.loads(out)["findings"]
    assert (code, err, finding["severity"]) == (2, "", "error")
    assert finding["message"] == "data.dataset ./no: no such folder"


def test_how_texts_are_read_can_be_said(run):
    text = '{"text": "Anna-Lena came", "label": [[0, 4, "PER"]]}\n'
    _, out, _ = run("--train a.jsonl --json --tokenizer whitespace", a_jsonl=text)
    assert json.loads(out)["splits"][0]["tokens"] == 2
    emoji = '{"text": "😀😀 ab ab ab", "label": [[5, 7, "PER"]]}\n'
    _, out, _ = run("--train a.jsonl --json --offsets utf16 --tokenizer whitespace", a_jsonl=emoji)
    assert json.loads(out)["splits"][0]["spans_per_type"] == {"PER": 1}


def test_a_format_by_name(run):
    _, out, _ = run("a.txt --format jsonl --json", a_txt='{"tokens": ["Anna"], "ner_tags": ["B-PER"]}\n')
    assert json.loads(out)["splits"][0]["spans_per_type"] == {"PER": 1}


def test_the_page_goes_to_standard_output(run):
    code, out, _ = run("train.conll --html -", train_conll=TRAIN)
    assert (code, out.startswith("<!DOCTYPE html>"), "train.conll" in out) == (0, True, True)
    assert [p.name for p in Path().iterdir()] == ["train.conll"]


def test_html_and_json_together(run):
    code, out, _ = run("train.conll --json --html page.html", train_conll=TRAIN)
    assert code == 0
    assert json.loads(out)["splits"][0]["sentences"] == 12
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_as_a_program_with_a_name_that_is_no_utf_8(tmp_path):
    name = b"train-\xff.conll"
    with open(bytes(tmp_path) + b"/" + name, "w", encoding="utf-8") as file:
        file.write(TRAIN)
    done = subprocess.run(
        [sys.executable, "-m", "nerloop.inspect", name, "--json", "--html", "x.html"], capture_output=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["splits"][0]["path"] == "train-\udcff.conll"
    assert "train-\\udcff.conll" in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_ctrl_c_is_told_in_one_line(run, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "inspect", interrupted)
    assert run("train.conll") == (130, "", "nerloop: stopped by Ctrl-C\n")
