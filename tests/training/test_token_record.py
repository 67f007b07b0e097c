"""Loss and margin of each token in each epoch, as `run.record_tokens` writes them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from nerloop.config import Config, Plugin
from nerloop.errors import DataError
from nerloop.evaluation.predictor import Split
from nerloop.run.token_record import TokenRecord, TokenRecorder, read_records
from nerloop.train import train
from nerloop.training.session import open_session
from nerloop.training.setup import build_training
from nerloop.types import IGNORE, Feature, MicroBatch, Place

train_module = importlib.import_module("nerloop.train")


def recording(config: Config, name: str = "run", **settings) -> Config:
    run = replace(config.run, dir=str(Path(str(config.run.dir)).with_name(name)), record_tokens=True, score_pipeline=0)
    return replace(config, run=run, train=replace(config.train, **settings))


def records(config: Config, num_tokens: int) -> list[TokenRecord]:
    return read_records(Path(str(config.run.dir)), num_tokens)


def frozen(config: Config, **settings) -> Config:
    """Return settings that leave the weights as they are (but for 1e-12), so that they can be scored beforehand."""
    model = replace(config.model, dropout=0.0)
    return replace(
        recording(config, learning_rate=1e-12, epochs=1, weight_decay=0.0, **settings), model=model,
        data=replace(config.data, validation=None, test=None),
    )  # fmt: skip


def scored(config: Config) -> Iterator[tuple[tuple[str, ...], np.ndarray, np.ndarray]]:
    """Yield the tags of each sentence, and the log-probabilities by label, as evaluation computes them."""
    with open_session(config) as session:
        training = build_training(config, session)
        predictor = training.predictor
        split = Split.of(training.examples, predictor.alignment, predictor.collator)
        scores: dict[int, np.ndarray] = {}
        for group in predictor.scores(training.model, split):
            scores |= group
        for i, example in enumerate(training.examples):
            yield example.tags, scores[i], np.array([training.labels.index(tag) for tag in example.tags])


@pytest.mark.parametrize(
    ("alignment", "collator", "parts", "precision"),
    [
        (Plugin("all"), "pack", 1, "float64"),
        (Plugin("all"), "pad", 4, "no"),
        (Plugin("first", {"max_length": 12, "stride": 4}), "pack", 3, "no"),
        (Plugin("document", {"max_length": 40}), "pad", 2, "no"),
        (Plugin("all"), "pack", None, "bf16"),
    ],
    ids=["one piece", "padded micro-batches", "windows", "documents", "budget, bf16"],
)
def test_each_token_has_the_loss_and_the_margin_of_its_scores(config, tmp_path, alignment, collator, parts, precision):
    text = "-DOCSTART- O\n\n" + Path(str(config.data.train)).read_text(encoding="utf-8")
    (tmp_path / "documents.conll").write_text(text, encoding="utf-8")
    config = replace(frozen(config), alignment=alignment, collator=Plugin(collator))
    config = replace(config, data=replace(config.data, train=str(tmp_path / "documents.conll")))
    divided = {"max_subwords": 100} if parts is None else {"gradient_accumulation_steps": parts}
    config = replace(config, train=replace(config.train, mixed_precision=precision, **divided))
    expected = [
        (-own, own - np.delete(row, label).max(), row)
        for _, rows, labels in scored(config)
        for row, label, own in zip(rows, labels, rows[np.arange(len(labels)), labels], strict=True)
    ]
    train(config)
    (record,) = records(config, len(expected))
    loss, margin, rows = map(np.array, zip(*expected, strict=True))
    tolerance = 0.05 if precision == "bf16" else 0.002
    np.testing.assert_allclose(record.loss, loss, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(record.margin, margin, rtol=tolerance, atol=tolerance)
    of_rival = rows[np.arange(len(rows)), record.rival]
    np.testing.assert_allclose(of_rival, -loss - margin, rtol=tolerance, atol=tolerance)
    assert len(loss) > 500
    assert loss.std() > 0.05


def test_a_resumed_run_has_the_same_record_to_the_byte(config, monkeypatch):
    from nerloop.training import training as setup

    whole = recording(config, "whole", save_every=3)
    train(whole)
    own_seed = setup.dropout_seed  # type: ignore[attr-defined]

    def seed(seed, step, process):
        if step == 11:  # in the second epoch; checkpoints are those of steps 6 and 9, and step 10 and 11 are lost
            raise KeyboardInterrupt
        return own_seed(seed, step, process)

    broken = recording(config, "broken", save_every=3)
    with monkeypatch.context() as patch:
        patch.setattr(setup, "dropout_seed", seed)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    (first, second) = sorted(Path(str(broken.run.dir), "tokens").iterdir())
    assert 0 < np.isnan(TokenRecord.read(second).loss).mean() < 1
    train(replace(broken, run=replace(broken.run, resume="auto")))
    elsewhere = recording(config, "elsewhere", save_every=3)
    checkpoint = str(Path(str(broken.run.dir), "checkpoints", "step-12"))
    train(replace(elsewhere, run=replace(elsewhere.run, resume=checkpoint)))
    for file in (first, second):
        expected = Path(str(whole.run.dir), "tokens", file.name).read_bytes()
        assert not np.isnan(TokenRecord.read(file).loss).any()
        assert file.read_bytes() == expected
        assert Path(str(elsewhere.run.dir), "tokens", file.name).read_bytes() == expected


def test_recording_changes_no_weight(config):
    runs = [recording(config, "with"), replace(recording(config, "without"))]
    runs[1] = replace(runs[1], run=replace(runs[1].run, record_tokens=False))
    for one in runs:
        train(one)
    a, b = (Path(str(one.run.dir), "model", "model.safetensors").read_bytes() for one in runs)
    assert a == b
    assert not Path(str(runs[1].run.dir), "tokens").exists()


def test_sentences_without_labels_are_left_out():
    class Alone:
        device, num_processes, is_main_process = torch.device("cpu"), 1, True

    def feature(example: int, labels: list[int]) -> Feature:
        numbers = np.arange(len(labels))
        return Feature(numbers, np.array(labels), numbers, example, (example,), (len(labels),))

    recorder = TokenRecorder(Alone(), ("O", "B-X"), np.array([2, 3]))
    features = [feature(1, [0, IGNORE, 1]), feature(2, [IGNORE, IGNORE])]  # sentence 2 is an unlabelled one
    batch = MicroBatch({}, torch.zeros(1, 8), (Place(0, 1, 3), Place(0, 4, 2)), features=features)
    assert recorder._cells_of(batch).tolist() == [[1, 3], [2, 4], [0, 1]]
    nothing = MicroBatch({}, torch.zeros(1, 8), (Place(0, 0, 2),), features=features[1:])
    assert recorder._cells_of(nothing).shape == (3, 0)
    recorder.begin(0, Path("unused"))
    recorder.record(torch.zeros(1, 8, 2), nothing)
    assert torch.isnan(recorder._loss).all()


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_two_processes_record_what_one_does(config, tmp_path):
    root = Path(__file__).parents[2]
    config = replace(config, model=replace(config.model, dropout=0.0))
    one = recording(config, "one")
    train(one)
    flags = [
        "--model.name_or_path", str(config.model.name_or_path), "--data.train", str(config.data.train),
        "--model.dropout", "0", "--train.epochs", "2", "--train.batch_size", "8", "--train.learning_rate", "3e-3",
        "--run.dir", str(tmp_path / "two"), "--run.record_tokens", "true", "--train.save_every", "3",
    ]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command = [*launch, str(root / "launch" / "cpu_2_processes.yaml"), "-m", "nerloop.train", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "on 2 process(es)" in done.stderr
    number = len(TokenRecord.read(Path(str(one.run.dir), "tokens", "epoch-1.safetensors")).loss)
    for a, b in zip(records(one, number), read_records(tmp_path / "two", number), strict=True):
        np.testing.assert_allclose(a.loss, b.loss, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(a.margin, b.margin, rtol=2e-3, atol=2e-3)


def test_what_is_no_record_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    with pytest.raises(
        DataError, match=r"has no record of its tokens, expected a run trained with --run.record_tokens"
    ):
        read_records(tmp_path, 3)
    record = TokenRecord.empty(("O", "B-X"), 3)
    record.update(np.array([0, 2]), np.array([0.5, 1]), np.array([2, -1]), np.array([1, 0]))
    record.write(folder / "epoch-10.safetensors")
    TokenRecord.empty(("O", "B-X"), 3).write(folder / "epoch-9.safetensors")
    assert [np.isnan(r.loss).tolist() for r in read_records(tmp_path, 3)] == [[True] * 3, [False, True, False]]
    with pytest.raises(DataError, match=r"epoch-9.safetensors: found 3 tokens, expected the 4 of the training split"):
        read_records(tmp_path, 4)
    bad = folder / "epoch-9.safetensors"
    for content in (b"", b"cbuiltins\neval\n(S'1'\ntR.", bad.read_bytes()[:-4]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"epoch-9.safetensors: not a record of tokens that nerloop wrote"):
            read_records(tmp_path, 3)
    save_file({"loss": np.zeros(3, np.float16)}, str(bad), {"labels": "[]"})
    with pytest.raises(DataError, match="not a record of tokens"):
        read_records(tmp_path, 3)
