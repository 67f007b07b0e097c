"""Confidences and operating points from training to predict, and the way of uncertain sentences back into training."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.config import DataSettings
from nerloop.data import ReadOptions, read_files
from nerloop.errors import ConfigError
from nerloop.evaluation.tagger import load
from nerloop.model.saved import SavedModel
from nerloop.tags import to_spans
from nerloop.train import train


@pytest.fixture(scope="module")
def patched():
    """Let a fit accept the few entities of the tests' files, and measure targets that the tests' models reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nerloop.evaluation.calibration.LEAST_SPANS", 1)
        patch.setattr("nerloop.evaluation.calibration.TARGETS", {"precision": (0.1, 1.0), "recall": (0.01, 1.0)})
        yield


@pytest.fixture
def model(patched, config, learned, train_once) -> tuple[str, dict]:
    """Return the folder of a calibrated model, which a test may change, and the results of its run."""
    # Another log level, so that no run without a fit is taken.
    trained, results = train_once(replace(learned, run=replace(learned.run, log_level="error")))
    shutil.copytree(trained.run.dir, config.run.dir)
    return str(Path(config.run.dir, "model")), results


def test_the_run_says_what_test_delivered(model):
    folder, results = model
    saved = SavedModel.read(folder).calibration
    assert results["validation"]["calibration"] == {"temperature": saved.temperature}
    assert 0.1 <= saved.temperature <= 10
    assert list(saved.points) == ["default", "precision", "f1", "recall"]
    test = results["test"]
    assert set(test) == {"best", "calibration", "operating_points", "targets"}
    best = test["best"]["viterbi"]
    assert test["operating_points"]["default"] == {
        name: pytest.approx(best[name], abs=1e-6) for name in ("precision", "recall", "f1")
    }
    assert saved.test["operating_points"] == test["operating_points"]
    lines = Path(folder, "nerloop.json").read_text().splitlines()
    assert len(lines) < 300  # lists of numbers take one line each
    card, page = Path(folder, "README.md").read_text(), Path(folder).with_name("report.html").read_text()
    assert "Confidences" in card
    rows = [(t, v, of) for t, values in test["targets"].items() for v, of in values.items()]
    assert {(target, value) for target, value, _ in rows} >= {("precision", "0.1"), ("recall", "0.01")}
    for target, value, of in rows:
        delivered = of["delivered"]
        assert f"| --target_{target} {value} | {of['threshold']:g} | {delivered['precision']:.4f} |" in card
        assert f"<tr><td>{target} {value}</td><td class=n>{of['threshold']:g}</td>" in page


def test_predict_repeats_the_confidences_of_the_run(model, config, run_predict, tmp_path):
    folder, _ = model
    for split in ("validation", "test"):
        out, source = tmp_path / f"{split}.jsonl", str(getattr(config.data, split))
        assert run_predict("--model", folder, source, "--output", str(out)) == 0
        assert out.read_bytes() == Path(config.run.dir, f"predictions.{split}.jsonl").read_bytes()
        assert any(json.loads(line)["spans"] for line in out.read_text().splitlines())


def test_a_model_without_calibration_has_temperature_1_and_no_points(model, run_predict, monkeypatch, capsys):
    folder, _ = model
    path = Path(folder, "nerloop.json")
    text = "Anna Smith went to Paris. Bo met Li in York."
    before = load(folder).tag(text)
    values = json.loads(path.read_text())
    values["calibration"]["temperature"] = 3.0
    path.write_text(json.dumps(values))
    hot = load(folder).tag(text)
    del values["calibration"]
    path.write_text(json.dumps(values))
    assert SavedModel.read(folder).calibration.temperature == 1.0
    plain = load(folder).tag(text)
    spans = [[(e["start"], e["end"], e["type"]) for e in found] for found in (before, hot, plain)]
    assert spans[0] == spans[1] == spans[2] != []
    assert [e["confidence"] for e in hot] != [e["confidence"] for e in plain]
    monkeypatch.setattr(sys, "stdin", None)
    capsys.readouterr()
    assert run_predict("--model", folder, __file__, "--format", "text", "--target_precision", "0.5") == 2
    assert "nerloop: error: the model has no thresholds and no operating points" in capsys.readouterr().err
    path.write_text(json.dumps(values | {"calibration": {"temperature": -1}}))
    assert run_predict("--model", folder, __file__) == 2
    assert "nerloop.json: not what nerloop writes" in capsys.readouterr().err


def test_spans_below_a_confidence_are_left_out_and_scored_so(model, config, run_predict, tmp_path):
    folder, _ = model
    source, out, metrics = str(config.data.test), tmp_path / "out.jsonl", tmp_path / "m.json"
    whole = [json.loads(x) for x in Path(config.run.dir, "predictions.test.jsonl").read_text().splitlines()]
    confidences = sorted(span["confidence"] for line in whole for span in line["spans"])
    middle = confidences[len(confidences) // 2]
    flags = ("--min_confidence", str(middle - 1e-6), "--output", str(out), "--metrics", str(metrics))
    assert run_predict("--model", folder, source, *flags) == 0
    found = [json.loads(x) for x in out.read_text().splitlines()]
    kept = [[s for s in line["spans"] if s["confidence"] >= middle] for line in whole]
    assert [line["spans"] for line in found] == kept
    assert 0 < sum(map(len, kept)) < len(confidences)
    assert [[(s["start"], s["end"], s["type"]) for s in line["spans"]] for line in found] == [
        [tuple(span) for span in to_spans(line["tags"])] for line in found
    ]
    assert json.loads(metrics.read_text())["viterbi"]["predicted_spans"] == sum(map(len, kept))


def test_a_dropped_span_is_missed_with_the_probability_that_nothing_is_there(model, config, run_predict, tmp_path):
    folder, _ = model
    whole = [json.loads(x) for x in Path(config.run.dir, "predictions.test.jsonl").read_text().splitlines()]
    out = tmp_path / "out.jsonl"
    flags = ("--min_confidence", "1", "--output", str(out))
    assert run_predict("--model", folder, str(config.data.test), *flags) == 0
    sure = 0
    for before, after in zip(whole, map(json.loads, out.read_text().splitlines()), strict=True):
        confidence = {(s["start"], s["end"]): s["confidence"] for s in before["spans"]}
        for missed in after.get("missed", ()):
            of_span = confidence.get((missed["start"], missed["end"]), 0.0)
            assert missed["confidence"] <= 1 - of_span + 1e-5
            sure += of_span > 0.5
    assert sure > 0


def test_an_evaluation_says_which_entities_it_leaves_out(model, config, run_evaluate, tmp_path):
    folder, _ = model
    found, page = tmp_path / "found.json", tmp_path / "page.html"
    for flags, settings in (((), {}), (("--min_confidence", "0.6"), {"min_confidence": 0.6})):
        outputs = ("--json", str(found), "--html", str(page))
        assert run_evaluate("--model", folder, str(config.data.test), *outputs, *flags) == 0
        assert json.loads(found.read_text())["settings"] == settings
        assert ("test.conll, min_confidence 0.6</small>" in page.read_text()) == bool(settings)


def test_biases_of_an_operating_point_change_the_tags_and_not_the_confidences(model, run_predict, tmp_path, capsys):
    folder, _ = model
    path = Path(folder, "nerloop.json")
    values = json.loads(path.read_text())
    values["calibration"]["operating_points"]["precision"]["biases"] = {"background_to_start": -50.0}
    values["calibration"]["operating_points"]["recall"]["biases"] = {}
    path.write_text(json.dumps(values))
    source, out = tmp_path / "x.txt", tmp_path / "x.jsonl"
    source.write_text("Anna Smith went to Paris.\n")

    def spans(*flags: str) -> list[dict]:
        assert run_predict("--model", folder, str(source), "--output", str(out), *flags) == 0
        return json.loads(out.read_text())["spans"]

    assert spans("--operating_point", "precision") == []
    capsys.readouterr()
    assert spans("--operating_point", "recall") == spans() != []
    assert "operating point recall: on validation nothing was better, so it is the default" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--min_confidence", "2"), "--min_confidence: found 2, expected a number from 0 to 1"),
        (
            ("--min_confidence", "0.5", "--target_recall", "0.5"),
            "--min_confidence and --target_recall are both given; expected one of them",
        ),
        (("--per_type",), "--per_type: expected --target_precision or --target_recall with it"),
        (("--target_recall", "1"), "--target_recall: found 1, but on validation the recall was"),
        (("--uncertain", "0"), "--uncertain: found 0, expected 1 to 100000"),
        (("--output_format", "prodigy"), "--output_format prodigy: expected --uncertain N with it"),
        (
            ("--uncertain", "1", "--output_format", "conll"),
            "--output_format: found conll, expected label_studio or prodigy with --uncertain",
        ),
    ],
)
def test_flags_that_can_not_be_met_are_one_line(model, run_predict, tmp_path, capsys, flags, said):
    source = tmp_path / "x.txt"
    source.write_text("Anna\n")
    capsys.readouterr()
    assert run_predict("--model", model[0], str(source), *flags) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert line.startswith(f"nerloop: error: {said}")


def test_a_target_says_what_it_gave_on_validation(model, run_predict, tmp_path, capsys):
    folder, _ = model
    source = tmp_path / "x.txt"
    source.write_text("Anna\n")
    curve = SavedModel.read(folder).calibration.points["default"].curves["all"]
    at = curve.place_for("precision", 0.6)
    assert at is not None
    assert run_predict("--model", folder, str(source), "--target_precision", "0.6") == 0
    told = f"all types: spans with a confidence of {SavedModel.read(folder).calibration.thresholds[at]:.3f} or more"
    told += f" are kept (on validation: precision {curve.precision(at):.3f}, recall {curve.recall(at):.3f}, "
    assert told in capsys.readouterr().err
    assert run_predict("--model", folder, str(source), "--min_confidence", "0.123") == 0
    err = capsys.readouterr().err
    assert "0.123 or more are kept" in err
    assert "on validation" not in err


@pytest.mark.parametrize(
    "choice",
    [
        {"operating_point": "recall"},
        {"min_confidence": 0.6},
        {"target_precision": 0.7, "operating_point": "precision"},
        {"target_recall": 0.1, "per_type": True},
    ],
)
def test_tag_finds_what_predict_finds_with_the_same_flags(model, run_predict, tmp_path, choice):
    folder, _ = model
    texts = ["Anna Smith went to Paris .", "Bo met Li in York .", "The Quillon Motors plant in Preston ."]
    source, out = tmp_path / "new.txt", tmp_path / "out.jsonl"
    source.write_text("\n".join(texts) + "\n")
    flags = [x for name, value in choice.items() for x in (f"--{name}", *([] if value is True else [str(value)]))]
    assert run_predict("--model", folder, str(source), "--output", str(out), *flags) == 0
    spans = [json.loads(line)["spans"] for line in out.read_text().splitlines()]
    tagger = load(folder)
    before = tagger.tag(texts)
    found = tagger.tag(texts, **choice)
    assert [[(e["text"], e["type"], e["confidence"]) for e in of] for of in found] == [
        [(s["text"], s["type"], s["confidence"]) for s in of] for of in spans
    ]
    assert tagger.tag(texts) == before  # a choice is for one call


def test_tag_leaves_out_entities_below_a_confidence(model):
    folder, _ = model
    tagger = load(folder)
    text = "Anna Smith went to Paris . Bo met Li in York . The Quillon Motors plant in Preston ."
    found = tagger.tag(text)
    confidences = sorted(entity["confidence"] for entity in found)
    assert len(set(confidences)) > 1
    least = (confidences[0] + confidences[1]) / 2
    kept = tagger.tag(text, min_confidence=least)
    assert kept == [entity for entity in found if entity["confidence"] >= least] != found


def test_a_choice_that_the_model_can_not_meet_is_an_error(model):
    folder, _ = model
    with pytest.raises(ConfigError, match="operating point: found 'best', expected one of default, precision, f1"):
        load(folder).tag("Anna", operating_point="best")
    with pytest.raises(ConfigError, match="min_confidence: found 2, expected a number from 0 to 1"):
        load(folder).tag("Anna", min_confidence=2)
    with pytest.raises(ConfigError, match="mixed_precision: found 'fp16', expected auto, no or bf16"):
        load(folder, mixed_precision="fp16")


def test_uncertain_sentences_are_annotated_and_trained_on(model, config, run_predict, tmp_path, capsys):
    """The loop: choose from untagged sentences, annotate (from gold), add the export to the training files, train."""
    folder, _ = model
    pool, _ = read_files([str(config.data.test)], ReadOptions())
    untagged, tasks, export = tmp_path / "pool.conll", tmp_path / "tasks.jsonl", tmp_path / "export.jsonl"
    untagged.write_text("".join("\n".join(e.tokens) + "\n\n" for e in pool if all(e.tokens)), encoding="utf-8")
    flags = ("--format", "conll", "--uncertain", "4", "--output", str(tasks))
    assert run_predict("--model", folder, str(untagged), *flags) == 0
    chosen = [json.loads(line) for line in tasks.read_text(encoding="utf-8").splitlines()]
    uncertainties = [task["meta"]["uncertainty"] for task in chosen]
    assert len(chosen) == 4
    assert all("answer" not in task for task in chosen)
    assert uncertainties == sorted(uncertainties, reverse=True)
    gold = {e.tokens: e.tags for e in pool}
    with export.open("w", encoding="utf-8") as file:
        for task in chosen:
            tokens = task["tokens"]
            spans = to_spans(gold[tuple(t["text"] for t in tokens)])
            ends = [(tokens[s]["start"], tokens[e - 1]["end"], type_) for s, e, type_ in spans]
            annotated = [{"start": a, "end": b, "label": type_} for a, b, type_ in ends]
            file.write(json.dumps(task | {"spans": annotated, "answer": "accept"}) + "\n")
    added, _ = read_files([str(export)], ReadOptions())
    assert [(e.tokens, e.tags) for e in added] == [(e.tokens, gold[e.tokens]) for e in added]
    assert len(added) == 4
    data = DataSettings(train=[str(config.data.train), str(export)], validation=config.data.validation)
    run = replace(config.run, dir=str(tmp_path / "again"), log_level="info")
    capsys.readouterr()
    train(replace(config, data=data, train=replace(config.train, max_steps=1), run=run))
    assert f"train {50 + 4} sentences" in " ".join(capsys.readouterr().err.split())
