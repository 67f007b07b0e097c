"""`python -m nerloop.evaluate` on a trained model, and the report.html of its run."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from nerloop.config import Config


@pytest.fixture
def run(learned, train_once) -> tuple[Config, dict, Path]:
    """Return settings, results and folder of a finished run that finds some entities."""
    config, results = train_once(learned)
    return config, results, Path(str(config.run.dir))


def test_the_model_its_predictions_and_its_run_agree(run, run_evaluate, tmp_path, capsys):
    config, results, folder = run
    by_model, by_file = tmp_path / "model.json", tmp_path / "file.json"
    capsys.readouterr()
    flags = ("--json", str(by_model), "--html", str(tmp_path / "page.html"))
    assert run_evaluate("--model", str(folder / "model"), config.data.test, *flags) == 0
    shown = capsys.readouterr()
    assert f"known names are those of the training data in {config.data.train}\n" in shown.err
    assert "changed" not in shown.err
    assert "name in the training data" in shown.out
    found = json.loads(by_model.read_text())
    assert found["scores"] == json.loads(json.dumps(results["test"]["best"]["viterbi"]))
    assert found["scores"]["f1"] == pytest.approx(found["partial"]["strict"]["f1"])
    assert found["interval"]["f1"][0] < found["scores"]["f1"] < found["interval"]["f1"][1]
    wrong = sum(len(e["gold"]) + len(e["predicted"]) for s in found["mistakes"] for e in s["errors"])
    correct = found["partial"]["strict"]["correct"]
    assert correct > 0
    assert wrong == found["scores"]["gold_spans"] + found["scores"]["predicted_spans"] - 2 * correct
    assert sum(found["errors"].values()) == sum(len(s["errors"]) for s in found["mistakes"])
    assert found["mistakes"][0]["location"].startswith(f"{config.data.test}:")
    assert {e["confidence"] is None for s in found["mistakes"] for e in s["errors"]} == {False}

    predictions = str(folder / "predictions.test.jsonl")
    flags = ("--train", config.data.train, "--json", str(by_file))
    assert run_evaluate("--predictions", predictions, *flags) == 0
    again = json.loads(by_file.read_text())
    assert again["calibration"]["ece_uncalibrated"] is None  # a file does not tell
    again["calibration"]["ece_uncalibrated"] = found["calibration"]["ece_uncalibrated"]
    for of_one in (found, again):
        for sentence in of_one["mistakes"]:
            del sentence["location"]
    assert again == found

    page = (tmp_path / "page.html").read_text()
    of_run = (folder / "report.html").read_text()
    assert f"<small>{config.data.test}, test split</small>" in of_run
    assert page.partition("</h1>")[2] == of_run.partition("</h1>")[2]
    assert page.count("<article") == sum(found["errors"].values())


def test_a_predictions_file_is_scored_with_an_own_evaluator(run, run_evaluate, monkeypatch, tmp_path):
    _, results, folder = run
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
    flags = ("--evaluator", "outside_plugins.Mistakes", "--json", str(tmp_path / "out.json"))
    assert run_evaluate("--predictions", str(folder / "predictions.test.jsonl"), *flags) == 0
    scores = json.loads((tmp_path / "out.json").read_text())["scores"]
    assert scores == {"error_rate": pytest.approx(1 - results["test"]["best"]["viterbi"]["accuracy"])}
    assert 0 < scores["error_rate"] < 1


def test_a_run_without_a_test_split_reports_validation_and_one_without_both_nothing(config, train_once):
    from dataclasses import replace

    no_test, _ = train_once(replace(config, data=replace(config.data, test=None)))
    page = Path(str(no_test.run.dir), "report.html").read_text()
    assert f"<small>{config.data.validation}, validation split</small>" in page
    bare, results = train_once(replace(config, data=replace(config.data, test=None, validation=None)))
    assert not Path(str(bare.run.dir), "report.html").exists()
    assert "report " not in results.report(bare)


def test_standard_input_and_json_to_standard_output(run, run_evaluate, monkeypatch, capsys):
    _, _, folder = run
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Anna B-PER\nsang O\n\n"), encoding="utf-8"))
    capsys.readouterr()
    assert run_evaluate("--model", str(folder / "model"), "-", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentences"] == 1
    assert {s["location"] for s in found["mistakes"]} <= {"<stdin>:1"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found no sentence, expected at least one. Is this the right file?"),
        ("Anna\nsang\n\n", ":1: found one column only, 'Anna', expected a token and a tag"),
        ("Anna O\nsang O\n\n", "found no entity, expected annotated sentences"),
        ("sang O\nAnna B-CLUB\n\n", "found the type 'CLUB', which the model does not have, expected one of "
                                    "LOC, MISC, ORG, PER"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(run, run_evaluate, tmp_path, capsys, text, problem):
    _, _, folder = run
    path = tmp_path / "x.conll"
    path.write_text(text)
    capsys.readouterr()
    flags = ("--json", str(tmp_path / "out.json"))
    assert run_evaluate("--model", str(folder / "model"), str(path), *flags) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"nerloop: error: {path}")
    assert line.endswith(problem)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--model", "m"], ["x.conll"], ["--predictions", "p", "x.conll"], ["--predictions", "p", "--model", "m"]],
)
def test_what_to_evaluate_is_asked_for(run_evaluate, capsys, arguments):
    assert run_evaluate(*arguments) == 2
    assert capsys.readouterr().err == ("nerloop: error: expected --model and annotated files, or --predictions alone\n")


def test_the_input_is_never_written_over(run, run_evaluate, capsys):
    config, _, folder = run
    before = Path(str(config.data.test)).read_bytes()
    flags = ("--model", str(folder / "model"), config.data.test, "--html", config.data.test)
    assert run_evaluate(*flags) == 2
    assert "is the input" in capsys.readouterr().err
    assert Path(str(config.data.test)).read_bytes() == before


def test_a_model_without_its_run_is_evaluated_without_names(run, run_evaluate, tmp_path, capsys):
    config, _, folder = run
    shutil.copytree(folder / "model", tmp_path / "model")
    capsys.readouterr()
    assert run_evaluate("--model", str(tmp_path / "model"), config.data.test) == 0
    shown = capsys.readouterr()
    assert "without names of the training data (the training data can't be found: --config " in shown.err
    assert "; --train FILE names them" in shown.err
    assert "name in the training data" not in shown.out


def test_training_files_that_have_changed_are_told_and_code_of_the_run_is_not_run(run, run_evaluate, tmp_path, capsys):
    config, _, folder = run
    shutil.copytree(folder / "model", tmp_path / "model")
    settings = (folder / "config.yaml").read_text()
    other = tmp_path / "other.conll"
    other.write_text("Anna B-PER\n\n")
    settings = settings.replace(str(config.data.train), str(other)).replace("tokenizer: words", "tokenizer: os.system")
    assert "os.system" in settings
    (tmp_path / "config.yaml").write_text(settings)
    shutil.copy(folder / "environment.json", tmp_path)
    capsys.readouterr()
    assert run_evaluate("--model", str(tmp_path / "model"), config.data.test) == 0
    assert (
        f"known names are those of the training data in {other}, which has changed since the training\n"
        in capsys.readouterr().err
    )
