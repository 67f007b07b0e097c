"""`python -m nerloop.evaluate --suspects` on a run, a model with files, and a predictions file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nerloop.config import Config
from nerloop.train import train


@pytest.fixture
def run_suspects(run_evaluate):
    return partial(run_evaluate, "--suspects")


@pytest.fixture
def run(learned, train_once) -> Config:
    """Return the settings of a finished run that recorded its tokens, and whose model finds some entities."""
    return train_once(replace(learned, run=replace(learned.run, record_tokens=True)))[0]


def write_damaged(path: Path) -> set[str]:
    """Write 240 sentences in which some names recur, with four wrong labels; return the places of these."""
    lines: list[str] = []
    for i in range(240):
        person, place = ("Anna", "Peter", "Maria", "Paul")[i % 4], ("Rome", "Oslo", "Paris")[i % 3]
        lines += [f"{person} B-PER", "went O", "to O", f"{place} B-LOC", "yesterday O", ""]
    changed = {240: "Anna B-LOC", 735: "Paris O", 902: "to B-LOC", 1014: "Peter O"}
    for at, line in changed.items():
        assert lines[at].split()[0] == line.split()[0], (lines[at], line)
        lines[at] = line
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {f"{path}:{at + 1}" for at in changed}


def test_labels_that_were_changed_come_first(config, tmp_path, run_suspects, capsys):
    damaged = tmp_path / "damaged.conll"
    changed = write_damaged(damaged)
    config = replace(
        config,
        data=replace(config.data, train=str(damaged), validation=None, test=None),
        train=replace(config.train, epochs=4, batch_size=12),
        run=replace(config.run, record_tokens=True),
    )
    train(config)
    out = tmp_path / "out.json"
    assert run_suspects("10", "--run", str(config.run.dir), "--json", str(out)) == 0
    found = json.loads(out.read_text())
    assert found["source"] == f"the training of {config.run.dir}, epochs 2 to 4"
    assert {s["location"] for s in found["suspects"][:4]} == changed
    assert {s["kind"] for s in found["suspects"][:4]} == {"wrong_type", "spurious", "missed"}
    shown = capsys.readouterr().out
    assert all(place in shown for place in changed)
    damaged.write_text(damaged.read_text(encoding="utf-8").replace("Anna B-LOC", "Anna B-PER"), encoding="utf-8")
    assert run_suspects("--run", str(config.run.dir)) == 2
    assert "damaged.conll: not the data that" in capsys.readouterr().err


def test_a_model_and_its_predictions_suspect_the_same_labels(run, tmp_path, run_suspects):
    folder = Path(str(run.run.dir))
    outs = [tmp_path / "model.json", tmp_path / "file.json", tmp_path / "alone.json"]
    predictions = str(folder / "predictions.test.jsonl")
    html, tasks = str(tmp_path / "page.html"), str(tmp_path / "tasks.json")
    flags = ("--html", html, "--label_studio", tasks, "--json", str(outs[0]))
    assert run_suspects("5", *flags, "--model", str(folder / "model"), str(run.data.test)) == 0
    for out, files in zip(outs[1:], ([str(run.data.test)], []), strict=True):
        assert run_suspects("--predictions", predictions, *files, "--json", str(out)) == 0
    by_model, by_file, alone = (json.loads(out.read_text())["suspects"] for out in outs)
    keys = [sorted((s["location"], s["kind"], str(s["model"])) for s in found) for found in (by_model, by_file)]
    assert len(keys[0]) > 5
    assert keys[0] == keys[1]
    assert [s["model"] for s in alone] == [s["model"] for s in by_file]
    assert alone[0]["location"].startswith(f"{predictions}:")
    for found in (by_model, by_file, alone):
        sure = [s["confidence"] for s in found]
        assert sure == sorted(sure, reverse=True)
        assert 0 <= sure[-1] < sure[0] <= 1
    assert Path(html).read_text(encoding="utf-8").count("<article") == 5
    assert 1 <= len(json.loads(Path(tasks).read_text())) <= 5


def test_files_that_the_model_was_trained_on_are_named(run, run_suspects, capsys):
    model = str(Path(str(run.run.dir), "model"))
    for file, is_known in ((str(run.data.train), True), (str(run.data.test), False)):
        assert run_suspects("--model", model, file) == 0
        warned = f"the model was trained on {file} and may repeat its errors" in capsys.readouterr().err
        assert warned == is_known


def test_what_does_not_fit_is_refused_in_one_line(run, tmp_path, run_suspects, run_evaluate, capsys):
    folder = Path(str(run.run.dir))
    cases: list[tuple[list[str], str]] = [
        ([], "--suspects: expected one of --run DIR"),
        (["0", "--run", "x"], "--suspects: found 0, expected 1 or more"),
        (["--model", str(folder / "model")], "--suspects: expected one of --run DIR"),
        (["--run", str(tmp_path)], f"--run {tmp_path}: found no config.yaml, expected the folder of a run"),
        (["--run", str(folder / "model")], f"expected the folder of a run, such as {folder}"),
        (["--model", str(run.data.test), str(folder)], "found a file, expected the folder of a model"),
        (["--run", str(folder), "--predictions", "x"], "--suspects: expected one of"),
        (["--run", str(folder), "--min_confidence", "0.5"], "--min_confidence: found with --suspects"),
        (["--run", str(folder), "--operating_point", "recall"], "--operating_point: found with --suspects"),
        (["--predictions", str(folder / "predictions.test.jsonl"), str(run.data.validation)], "found no prediction in"),
        (["--run", str(folder), str(run.data.test)], "not the data that"),
        (["--predictions", str(run.data.test)], "not JSON"),
    ]
    for arguments, expected in cases:
        assert run_suspects(*arguments) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("nerloop: error: ")
        assert expected in line
    without = shutil.copytree(folder, tmp_path / "without", ignore=shutil.ignore_patterns("tokens"))
    assert run_suspects("--run", str(without)) == 2
    assert "trained with --run.record_tokens true" in capsys.readouterr().err
    text = (without / "config.yaml").read_text().replace("tokenizer: words", "tokenizer: my.code")
    (without / "config.yaml").write_text(text)
    assert run_suspects("--run", str(without)) == 2
    assert "--tokenizer: not given, but the run used 'my.code', which is code" in capsys.readouterr().err
    assert run_evaluate("--run", str(folder)) == 2
    assert "--run: found without --suspects" in capsys.readouterr().err


def test_a_model_with_an_own_evaluator_suspects_without_it(run, run_evaluate, run_suspects, tmp_path, capsys):
    model = Path(shutil.copytree(Path(str(run.run.dir), "model"), tmp_path / "model"))
    values = json.loads((model / "nerloop.json").read_text())
    values["evaluator"]["name"] = "my_own.Evaluator"  # a module that does not exist
    (model / "nerloop.json").write_text(json.dumps(values))
    assert run_suspects("--model", str(model), str(run.data.test)) == 0
    assert run_evaluate("--model", str(model), str(run.data.test)) == 2
    assert "evaluator is 'my_own.Evaluator', which is not nerloop's code" in capsys.readouterr().err
