"""A training, then seqeval alone on what it wrote: its predictions files give the figures of results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
from nerloop.data import read_files
from nerloop.data.escapes import escape
from nerloop.tags import Scheme, to_spans
from nerloop.train import train


def rewrite(path: str, folder: Path, scheme: Scheme) -> str:
    """Return the path of the same sentences, their spans written as a scheme has it."""
    examples, _ = read_files([path])
    lines = []
    for example in examples:
        tags = ["O"] * len(example.tags)
        for start, end, type_ in to_spans(example.tags):
            for i in range(start, end):
                is_first, is_last = i == start, i == end - 1
                prefix = {
                    Scheme.IOB2: "B" if is_first else "I",
                    Scheme.IOE2: "E" if is_last else "I",
                    Scheme.BIOES: "S" if is_first and is_last else "B" if is_first else "E" if is_last else "I",
                }[scheme]
                tags[i] = f"{prefix}-{type_}"
        lines += [f"{escape(token)} {tag}" for token, tag in zip(example.tokens, tags, strict=True)] + [""]
    (folder / Path(path).name).write_text("\n".join(lines), encoding="utf-8")
    return str(folder / Path(path).name)


@pytest.fixture(scope="module", params=[Scheme.IOB2, Scheme.IOE2, Scheme.BIOES])
def run(request, tiny_model, files, tmp_path_factory) -> Path:
    """Return the folder of a training that finds some entities, some of them wrong."""
    folder = tmp_path_factory.mktemp(request.param)
    data: dict[str, Any] = {split: rewrite(path, folder, request.param) for split, path in files.items()}
    train(
        Config(
            model=ModelSettings(name_or_path=tiny_model, dropout=0.0),
            data=DataSettings(**data),
            train=TrainSettings(epochs=20, batch_size=8, learning_rate=5e-3, eval_every=1000, save_every=1000),
            run=RunSettings(dir=str(folder / "run"), log_level="warning"),
        )
    )
    assert json.loads((folder / "run" / "model" / "nerloop.json").read_text())["scheme"] == request.param
    return folder / "run"


def read_conll(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return gold and predicted tags of a file: the last two columns."""
    blocks = path.read_text(encoding="utf-8").removesuffix("\n\n").split("\n\n")
    rows = [[line.split(" ") for line in block.split("\n")] for block in blocks]
    assert {len(row) for sentence in rows for row in sentence} == {3}
    return [[row[1] for row in sentence] for sentence in rows], [[row[2] for row in sentence] for sentence in rows]


def read_jsonl(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [record["gold"] for record in records], [record["tags"] for record in records]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("read", [read_conll, read_jsonl])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_seqeval_on_the_written_predictions_gives_the_results_to_the_last_digit(run, split, read):
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    ours = results[split]["best"][results["decoding"]]
    gold, found = read(run / f"predictions.{split}.{read.__name__.removeprefix('read_')}")
    report = classification_report(gold, found, output_dict=True)
    assert 0 < ours["f1"] < 1
    assert {name: ours[name] for name in ("precision", "recall", "f1", "accuracy", "gold_spans", "tokens")} == {
        "precision": precision_score(gold, found),
        "recall": recall_score(gold, found),
        "f1": f1_score(gold, found),
        "accuracy": accuracy_score(gold, found),
        "gold_spans": report["micro avg"]["support"],
        "tokens": sum(map(len, gold)),
    }
    assert ours["per_type"] == {
        name: {"f1" if n == "f1-score" else n: value for n, value in figures.items()}
        for name, figures in report.items()
        if not name.endswith(" avg")
    }


def test_both_files_of_a_split_hold_the_same_tags(run):
    for split in ("validation", "test"):
        conll, jsonl = read_conll(run / f"predictions.{split}.conll"), read_jsonl(run / f"predictions.{split}.jsonl")
        assert conll == jsonl
        assert len(conll[0]) == 20


def test_the_spans_in_the_file_are_those_that_are_counted(run):
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for split in ("validation", "test"):
        lines = (run / f"predictions.{split}.jsonl").read_text(encoding="utf-8").splitlines()
        spans = [span for line in lines for span in json.loads(line)["spans"]]
        assert len(spans) == results[split]["best"][results["decoding"]]["predicted_spans"] > 0
