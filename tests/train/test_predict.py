import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nerloop import cli
from nerloop import predict as predict_module
from nerloop.alignment.document import Document
from nerloop.config import Config, DataSettings, Plugin
from nerloop.data import ReadOptions
from nerloop.data.segmentation import rule_of
from nerloop.errors import ConfigError
from nerloop.evaluation.backends import in_precision
from nerloop.evaluation.prediction_files import jsonl_lines
from nerloop.evaluation.predictor import Predictor
from nerloop.evaluation.tagger import load
from nerloop.model.saved import SavedModel
from nerloop.train import train


@pytest.fixture
def model(config, learned, train_once) -> tuple[str, dict]:
    """Return the folder of a trained model, which a test may change, and the results of its run."""
    trained, results = train_once(learned)
    shutil.copytree(trained.run.dir, config.run.dir)
    return str(Path(config.run.dir, "model")), results


def test_predict_reproduces_the_results_of_the_run_to_the_last_digit(config, model, run_predict, tmp_path, capsys):
    folder, results = model
    metrics, out = tmp_path / "metrics.json", tmp_path / "out.conll"
    flags = ("--output", str(out), "--metrics", str(metrics))
    assert run_predict("--model", folder, str(config.data.validation), *flags) == 0
    assert json.loads(metrics.read_text()) == json.loads(json.dumps(results["validation"]["best"]))
    assert out.read_bytes() == Path(config.run.dir, "predictions.validation.conll").read_bytes()
    assert "precision" in capsys.readouterr().err


def test_predict_gives_a_sentence_of_5000_tokens_5000_tags(model, run_predict, tmp_path):
    folder, _ = model
    source, out = tmp_path / "long.conll", tmp_path / "out.conll"
    source.write_text("Paris\n\u200e\n" * 2500, encoding="utf-8")
    assert run_predict("--model", folder, str(source), "--output", str(out)) == 0
    lines = out.read_text(encoding="utf-8").split("\n")
    assert len([line for line in lines if line]) == 5000
    assert {len(line.split(" ")) for line in lines if line} == {2}


def test_predict_reads_sentences_from_standard_input(model, run_predict, monkeypatch, capsys):
    folder, _ = model
    text = b"\xef\xbb\xbfAnna Smith went to Paris.\r\n\r\nHello (again)!"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    assert run_predict("--model", folder, "--output_format", "jsonl") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["tokens"] for r in records] == [
        ["Anna", "Smith", "went", "to", "Paris", "."],
        ["Hello", "(", "again", ")", "!"],
    ]
    assert any(record["spans"] for record in records)
    for record in records:
        assert len(record["tags"]) == len(record["tokens"])
        for span in record["spans"]:
            assert 0 < span["confidence"] <= 1
            assert span["text"] == " ".join(record["tokens"][span["start"] : span["end"]])


def test_predict_refuses_code_that_a_model_folder_names(model, run_predict, monkeypatch, capsys):
    folder, _ = model
    path = Path(folder, "nerloop.json")
    ours = json.loads(path.read_text())
    ours["decoding"]["name"] = "subprocess.Popen"
    path.write_text(json.dumps(ours))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n"), encoding="utf-8"))
    assert run_predict("--model", folder) == 2
    assert capsys.readouterr().err == (
        f"nerloop: error: {path}: decoding is 'subprocess.Popen', which is not nerloop's code; "
        "if you trust it, say --decoding subprocess.Popen (nerloop.load: plugins={'decoding': 'subprocess.Popen'})\n"
    )


def test_predict_needs_an_own_evaluator_for_gold_tags_alone(model, run_predict, tmp_path, capsys):
    folder, _ = model
    path = Path(folder, "nerloop.json")
    values = json.loads(path.read_text())
    values["evaluator"]["name"] = "my_own.Evaluator"  # a module that does not exist
    path.write_text(json.dumps(values))
    (tmp_path / "text.txt").write_text("Anna went to Paris .\n")
    (tmp_path / "gold.conll").write_text("Anna B-PER\nwent O\n")
    assert run_predict("--model", folder, str(tmp_path / "text.txt"), "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").read_text().startswith("Anna ")
    capsys.readouterr()
    assert run_predict("--model", folder, str(tmp_path / "gold.conll")) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"nerloop: error: {path}: evaluator is 'my_own.Evaluator', which is not nerloop's code; if")
    assert run_predict("--model", folder, "--evaluator", "seqeval", str(tmp_path / "gold.conll")) == 0


def test_predict_says_in_one_line_that_a_folder_is_no_model(run_predict, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n"), encoding="utf-8"))
    assert run_predict("--model", str(tmp_path / "nope")) == 2
    assert capsys.readouterr().err == f"nerloop: error: model {tmp_path / 'nope'}: no such folder\n"


def test_records_that_nobody_annotated_are_tagged_as_well(model, run_predict, tmp_path, capsys):
    folder, _ = model
    source = tmp_path / "x.jsonl"
    records = [{"text": "😀 Anna went. Bo, too.", "label": [[2, 6, "PER"]]}, {"text": "To Paris.", "label": None}]
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert run_predict("--model", folder, str(source)) == 0
    found = capsys.readouterr()
    assert "nerloop: not all records are annotated, so no scores" in found.err
    assert "left out" not in found.err
    lines = [json.loads(line) for line in found.out.splitlines()]
    assert [line["document"] for line in lines] == [f"{source}:1", f"{source}:1", f"{source}:2"]
    assert [line["offsets"][0] for line in lines] == [[0, 1], [13, 15], [0, 2]]


@pytest.fixture
def documents(config: Config, tmp_path: Path) -> Config:
    """Return settings whose files have a -DOCSTART- line before each seventh sentence."""
    paths: dict[str, Any] = {}
    for split, path in config.data.files().items():
        sentences = Path(path[0]).read_text(encoding="utf-8").split("\n\n")
        sentences = [f"-DOCSTART- O\n\n{s}" if i % 7 == 0 else s for i, s in enumerate(sentences)]
        paths[split] = str(tmp_path / f"{split}.conll")
        Path(paths[split]).write_text("\n\n".join(sentences), encoding="utf-8")
    return replace(config, data=DataSettings(**paths), alignment=Plugin("document", {"max_length": 48}))


def test_documents_are_trained_on_and_predicted_as_they_were_evaluated(documents, run_predict, tmp_path, capsys):
    config = replace(documents, train=replace(documents.train, epochs=8), run=replace(documents.run, log_level="info"))
    results = train(config)
    said = capsys.readouterr().err
    assert "50 training sentences share 29 windows: 1.7 a window" in said
    assert "documents are known" not in said
    folder, metrics, out = str(Path(config.run.dir, "model")), tmp_path / "metrics.json", tmp_path / "out.conll"
    flags = ("--output", str(out), "--metrics", str(metrics))
    assert run_predict("--model", folder, str(config.data.validation), *flags) == 0
    assert json.loads(metrics.read_text()) == json.loads(json.dumps(results["validation"]["best"]))
    assert out.read_bytes() == Path(config.run.dir, "predictions.validation.conll").read_bytes()
    assert "warning" not in capsys.readouterr().err
    assert "Give it whole documents" in Path(folder, "README.md").read_text()
    ours = json.loads(Path(folder, "nerloop.json").read_text())["alignment"]
    assert ours == {"name": "document", "options": {"max_length": 48}}


def test_predict_takes_text_up_to_a_blank_line_for_a_document(documents, run_predict, monkeypatch, capsys):
    train(replace(documents, train=replace(documents.train, max_steps=1)))
    capsys.readouterr()  # what the training had to say of the files
    windows = []
    split = Document.split

    def noting_split(self, examples):
        features = list(split(self, examples))
        windows.append([f.examples for f in features])
        return features

    monkeypatch.setattr(Document, "split", noting_split)

    def windows_of(text: bytes, *arguments: str) -> list[tuple[int, ...]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        assert run_predict("--model", str(Path(documents.run.dir, "model")), *arguments) == 0
        return windows.pop()

    assert windows_of(b"Anna went to Paris.\nHello.\n\nBye.\n") == [(0, 1), (2,)]
    assert "warning" not in capsys.readouterr().err

    source = Path(documents.run.dir, "no_documents.jsonl")
    source.write_text('{"tokens": ["Hi"]}\n{"tokens": ["Bye"]}\n', encoding="utf-8")
    assert windows_of(b"", str(source)) == [(0,), (1,)]
    assert "warning: no documents are known in the input, so each sentence gets a window" in capsys.readouterr().err


def test_a_training_without_documents_says_so_of_each_split(config, capsys):
    train(replace(config, alignment=Plugin("document"), run=replace(config.run, log_level="info")))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: no documents")]
    assert [line.split(",")[0] for line in said] == [
        "warning: no documents are known in the train split",
        "warning: no documents are known in the validation split",
        "warning: no documents are known in the test split",
    ]


def test_standard_input_is_tagged_and_written_in_pieces(model, run_predict, monkeypatch, capsys):
    monkeypatch.setattr("nerloop.batching.features.CHUNK", 10)
    at_writing = []

    def noting(examples, *others):
        at_writing.append(len(examples))
        return jsonl_lines(examples, *others)

    monkeypatch.setattr("nerloop.evaluation.prediction_files.jsonl_lines", noting)
    give(monkeypatch, "".join(f"Anna went to Paris {i}.\n" for i in range(35)).encode())
    assert run_predict("--model", model[0], "--output_format", "jsonl") == 0
    assert at_writing == [10, 10, 10, 5]
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["tokens"][4] for record in records] == [str(i) for i in range(35)]


def give(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfAnna went to Paris. So did Bo.\r\n\r\nHello\n",
        b"Anna B-PER\nwent O\n\nBo B-PER\n",
        b"Anna\nwent\n.\n\nBo\n",
        b'{"text": "Anna went. Bo, too.", "label": [[0, 4, "PER"]]}\n{"text": "To Paris.", "label": null}\n',
        b'{"tokens": ["Anna", "went"], "tags": ["B-PER", "O"]}\n',
        b"Anna\nZ\xfcrich\n",
        b"Anna\n\0\n",
        b" \n",
    ],
)
@pytest.mark.parametrize("argument", [(), ("-",)])
def test_standard_input_is_read_as_a_file_is(model, run_predict, monkeypatch, tmp_path, capsys, data, argument):
    source = tmp_path / "source"
    source.write_bytes(data)
    flags = ("--model", model[0], "--output_format", "jsonl")
    capsys.readouterr()
    code = run_predict(*flags, str(source))
    of_file = capsys.readouterr()
    give(monkeypatch, data)
    assert run_predict(*flags, *argument) == code
    of_input = capsys.readouterr()
    assert of_input.err == of_file.err.replace(str(source), "<stdin>")
    place = f'"folder": "{tmp_path}", "name": "source"'
    expected = of_file.out.replace(place, '"folder": ".", "name": "stdin"').replace(str(source), "<stdin>")
    assert of_input.out == expected
    assert bool(of_input.out) == (code == 0)
    assert ("<stdin>:2: found b'\\xfc' at byte 2" in of_input.err) == (b"\xfc" in data)


def test_text_files_simply_work(model, run_predict, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Barack Obama was born in Hawaii.\nAngela Merkel lives in Berlin.\n")
    (tmp_path / "b.txt").write_text("😀 One.\n\n Two. Three\n", encoding="utf-8")
    capsys.readouterr()
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert run_predict("--model", model[0], *files, "--output_format", "jsonl") == 0
    found = capsys.readouterr()
    assert found.err == ""
    records = [json.loads(line) for line in found.out.splitlines()]
    assert [r["tokens"][-2:] for r in records] == [
        ["Hawaii", "."], ["Berlin", "."], ["One", "."], ["Two", "."], ["Three"]
    ]  # fmt: skip
    assert [r["location"] for r in records] == [
        f"{files[0]}:1", f"{files[0]}:2", f"{files[1]}:1", f"{files[1]}:3", f"{files[1]}:3"
    ]  # fmt: skip
    assert [r["offsets"][0][0] for r in records] == [0, 33, 0, 9, 14]
    assert run_predict("--model", model[0], *files) == 0
    assert capsys.readouterr().out.startswith("Barack ")
    written = tmp_path / "x.jsonl"
    assert run_predict("--model", model[0], *files, "--output", str(written)) == 0
    assert [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()] == records


def test_a_tagger_finds_in_a_text_what_predict_finds_in_its_file(model, run_predict, tmp_path, capsys):
    text = "Anna Smith met Bo in Paris. So?\r\n\n \tMr. Li, of Rome" + ", and Anna Bo" * 300 + "\n\nPeru"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert run_predict("--model", model[0], str(tmp_path / "a.txt"), "--output_format", "jsonl") == 0
    lines = capsys.readouterr().out.splitlines()
    spans = [span for line in lines for span in json.loads(line)["character_spans"]]
    found = load(model[0]).tag(text)
    assert len(found) > 10
    assert [(e["start"], e["end"], e["type"], e["confidence"]) for e in found] == [
        (s["start"], s["end"], s["type"], s["confidence"]) for s in spans
    ]
    assert all(text[e["start"] : e["end"]] == e["text"] for e in found)


def test_models_keep_the_rule_that_they_were_trained_with(model, run_predict, monkeypatch, tmp_path, capsys):
    path, (folder, _) = Path(model[0], "nerloop.json"), model
    saved = json.loads(path.read_text())
    assert (saved["tokenizer"], saved["data"]["tokenizer"]) == ("words2", "words2")

    def tokens(*flags: str) -> list[str]:
        give(monkeypatch, b"York-based\n")
        capsys.readouterr()
        assert run_predict("--model", folder, "--output_format", "jsonl", *flags) == 0
        return json.loads(capsys.readouterr().out)["tokens"]

    assert tokens() == ["York", "-", "based"]
    path.write_text(json.dumps(saved | {"tokenizer": "words", "data": saved["data"] | {"tokenizer": "words"}}))
    assert tokens() == ["York-based"]
    assert load(folder)._rule is rule_of("words1")
    assert tokens("--tokenizer", "words") == ["York", "-", "based"]


@pytest.mark.parametrize("alignment", ["all", "document"])
def test_files_in_pieces_are_scored_and_predicted_as_the_run_did(config, run_predict, monkeypatch, tmp_path, alignment):
    monkeypatch.setattr("nerloop.batching.features.CHUNK", 7)
    results = train(replace(config, alignment=Plugin(alignment)))
    folder, metrics, out = str(Path(config.run.dir, "model")), tmp_path / "metrics.json", tmp_path / "out.jsonl"
    monkeypatch.setattr("nerloop.data.list", lambda _: pytest.fail("all in memory"), raising=False)
    flags = ("--output", str(out), "--output_format", "jsonl", "--metrics", str(metrics))
    assert run_predict("--model", folder, str(config.data.test), *flags) == 0
    assert json.loads(metrics.read_text()) == json.loads(json.dumps(results["test"]["best"]))
    assert out.read_bytes() == Path(config.run.dir, "predictions.test.jsonl").read_bytes()


def test_a_mistake_in_a_file_is_found_before_anything_is_written(model, run_predict, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("nerloop.batching.features.CHUNK", 2)
    source, out = tmp_path / "x.conll", tmp_path / "out.conll"
    source.write_text("Anna B-PER\n\n" * 9 + "Bo B-PER x\n", encoding="utf-8")
    out.write_text("before", encoding="utf-8")
    assert run_predict("--model", model[0], str(source), "--output", str(out)) == 2
    assert f"{source}:19: 3 columns where line 1 has 2" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("out")] == ["out.conll"]
    assert out.read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize("flag", ["--output", "--metrics"])
def test_predict_does_not_write_over_what_it_reads(model, run_predict, tmp_path, capsys, flag):
    path, other = tmp_path / "x.conll", tmp_path / "other.conll"
    path.write_text("Anna O\n\n")
    other.symlink_to(path)
    capsys.readouterr()
    assert run_predict("--model", model[0], str(path), flag, str(other)) == 2
    assert capsys.readouterr() == (
        "", f"nerloop: error: {flag} {other}: is the input, expected another name for the output\n"
    )  # fmt: skip
    assert path.read_text() == "Anna O\n\n"
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "a.txt").write_text("Anna")
    assert run_predict("--model", model[0], str(folder), flag, str(folder / "a.txt")) == 2
    assert "is in the folder" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["/dev/full", "out"])
def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(
    model, run_predict, monkeypatch, tmp_path, capsys, output
):
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("Anna went to Paris.\n" * 2000)
    if output == "out":
        real = open

        def full(path, *arguments, **options):
            return real("/dev/full" if str(path).startswith("out") else path, *arguments, **options)

        monkeypatch.setattr("nerloop.run.output.open", full, raising=False)
    capsys.readouterr()
    assert run_predict("--model", model[0], "x.txt", "--output", output) == 2
    assert capsys.readouterr().err == f"nerloop: error: {output}: can't be written: No space left on device\n"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["x.txt"]


def test_a_full_disk_behind_standard_output_is_one_line(model, tmp_path):
    source = tmp_path / "x.txt"
    source.write_text("Anna went to Paris.\n" * 2000)
    command = [sys.executable, "-m", "nerloop.predict", "--model", model[0], str(source)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        2, "nerloop: error: standard output: can't be written: No space left on device\n"
    )  # fmt: skip


def test_texts_are_cut_as_in_training(config, run_predict, monkeypatch, tmp_path, capsys):
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "Anna-Lena went, too.", "label": [[0, 9, "PER"]]}\n' * 8, encoding="utf-8")
    data = DataSettings(train=str(source), tokenizer="whitespace")
    train(replace(config, data=data, train=replace(config.train, max_steps=1)))
    folder = Path(config.run.dir, "model")
    assert json.loads((folder / "nerloop.json").read_text())["tokenizer"] == "whitespace"
    capsys.readouterr()

    def tokens(*arguments: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Bo, hi.\n"), encoding="utf-8"))
        assert run_predict("--model", str(folder), "--output_format", "jsonl", *arguments) == 0
        return [json.loads(line)["tokens"] for line in capsys.readouterr().out.splitlines()]

    assert tokens() == [["Bo,", "hi."]]
    assert tokens("--tokenizer", "words") == [["Bo", ",", "hi", "."]]
    assert tokens(str(source))[0] == ["Anna-Lena", "went,", "too."]


# Code points say "b", UTF-16 says "a", and neither is a word: only the option tells.
EMOJI = '{"text": "\U0001f600ab", "label": [[2, 3, "PER"]]}\n'


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        (EMOJI, (), "no gold tags, so no scores"),
        (EMOJI, ("--offsets", "utf16"), "1 spans off the borders"),
        ('{"tokens": ["Anna"], "tags": [1]}\n', (), "set data.labels to the names"),
        ('{"tokens": ["Anna"], "tags": [1]}\n', ("--labels", "O", "B-PER"), "precision"),
        (
            '{"text": "Anna Li", "label": [[0, 7, "PER"], [0, 4, "PER"]]}\n',
            ("--overlaps", "error"),
            "spans that overlap",
        ),
        ('{"text": "Anna Li", "label": [[0, 7, "PER"], [0, 4, "PER"]]}\n', (), "nested or overlapping spans left out"),
    ],
)
def test_predict_takes_the_read_options_that_its_errors_ask_for(
    model, run_predict, tmp_path, capsys, text, flags, said
):
    source = tmp_path / "x.jsonl"
    source.write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert run_predict("--model", model[0], str(source), *flags, "--output", str(tmp_path / "out")) == 0
    assert said in capsys.readouterr().err


def test_predict_reads_as_the_training_did_unless_told_otherwise(config, monkeypatch, tmp_path, capsys):
    source = tmp_path / "x.jsonl"
    source.write_text(EMOJI * 2, encoding="utf-8")
    train(replace(config, data=DataSettings(train=str(source), offsets="utf16", tag_column="label", labels=["O"])))
    folder = Path(config.run.dir, "model")
    assert json.loads((folder / "nerloop.json").read_text())["data"] == {
        "format": "auto", "token_column": None, "tag_column": "label", "labels": ["O"], "tokenizer": "words2",
        "offsets": "utf16", "overlaps": "outermost", "discontinuous": "hull", "encoding": "utf-8",
        "token_prefix": None, "on_bad_record": "stop",
    }  # fmt: skip
    arguments = predict_module._arguments(["--model", str(folder), "x.jsonl", "--labels", "O", "B-Q"])
    found = cli.read_options(arguments, SavedModel.read(folder).read_options, for_prediction=True)
    assert found == ReadOptions(labels=["O", "B-Q"], offsets="utf16", tokenizer="words2", for_prediction=True)


def test_predict_refuses_read_options_that_a_model_folder_can_not_have(model, run_predict, capsys):
    path = Path(model[0], "nerloop.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"offsets": "bytes"}}))
    assert run_predict("--model", model[0]) == 2
    assert capsys.readouterr().err == (
        f"nerloop: error: {path}: data.offsets: found 'bytes', expected one of auto, codepoints, utf16\n"
    )


def test_predict_refuses_a_tokenizer_that_a_model_folder_names(model, run_predict, capsys):
    path = Path(model[0], "nerloop.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer": "os.listdir"}))
    assert run_predict("--model", model[0]) == 2
    assert capsys.readouterr().err == (
        f"nerloop: error: {path}: tokenizer is 'os.listdir', which is not nerloop's code; "
        "if you trust it, say --tokenizer os.listdir (nerloop.load: plugins={'tokenizer': 'os.listdir'})\n"
    )


def test_borders_of_documents_come_back_in_columns_and_not_for_plain_text(
    model, run_predict, monkeypatch, tmp_path, capsys
):
    source = tmp_path / "x.conll"
    source.write_text("-DOCSTART-\n\nAnna\n\nBo\n\n-DOCSTART-\n\nCy\n", encoding="utf-8")
    assert run_predict("--model", model[0], str(source)) == 0
    lines = capsys.readouterr().out.split("\n")
    assert [line.split(" ")[0] for line in lines if line] == ["-DOCSTART-", "Anna", "Bo", "-DOCSTART-", "Cy"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Anna\n\nBo\n"), encoding="utf-8"))
    assert run_predict("--model", model[0]) == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.split("\n") if line] == ["Anna", "Bo"]


def test_ctrl_c_ends_predict_with_one_line_and_leaves_no_part_of_a_file(
    model, config, run_predict, monkeypatch, tmp_path, capsys
):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    folder, _ = model
    monkeypatch.setattr(Predictor, "tag_in_order", interrupted)
    capsys.readouterr()
    assert run_predict("--model", folder, str(config.data.validation), "--output", str(tmp_path / "o")) == 130
    shown, stopped = capsys.readouterr().err.splitlines()
    assert shown.startswith("as it was read: ")
    assert stopped == "nerloop: stopped by Ctrl-C"
    assert list(tmp_path.glob("o*")) == []


def test_metrics_of_text_without_gold_tags_are_told_to_be_missing(model, run_predict, tmp_path, capsys):
    folder, _ = model
    source, metrics = tmp_path / "notes.txt", tmp_path / "metrics.json"
    source.write_text("Anna flew to Paris.\n")
    capsys.readouterr()
    arguments = ("--format", "text", "--metrics", str(metrics), "--output", str(tmp_path / "out"))
    assert run_predict("--model", folder, str(source), *arguments) == 0
    assert capsys.readouterr().err == f"nerloop: --metrics {metrics}: no gold tags, so it is not written\n"
    assert not metrics.exists()


def test_the_folder_of_a_run_is_told_where_its_model_is(model, config, run_predict, capsys):
    folder, _ = model
    capsys.readouterr()
    assert run_predict("--model", config.run.dir, str(config.data.validation)) == 2
    assert capsys.readouterr().err.endswith(f"can't be read; expected a model folder, such as {folder}\n")


@pytest.mark.parametrize(
    ("asked", "has_bf16", "expected"),
    [(None, True, "no"), ("auto", True, "bf16"), ("auto", False, "no"), ("bf16", True, "bf16"), ("no", True, "no")],
)
def test_the_precision_can_be_chosen(model, monkeypatch, asked, has_bf16, expected):
    saved = replace(SavedModel.read(model[0]), precision="no")
    monkeypatch.setattr("nerloop.evaluation.backends.has_bf16", lambda *_: has_bf16)
    assert in_precision(saved, asked).precision == expected


def test_a_precision_that_can_not_be_had_is_refused(model, run_predict, monkeypatch, capsys):
    monkeypatch.setattr("nerloop.evaluation.backends.has_bf16", lambda *_: False)
    folder, _ = model
    assert run_predict("--model", folder, "--mixed_precision", "bf16") == 2
    assert "found bf16, which this hardware does not support; expected auto or no" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="an export computes as it was exported"):
        in_precision(replace(SavedModel.read(folder), backend="onnx"), "auto")
