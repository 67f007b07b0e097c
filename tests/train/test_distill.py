"""Distillation from the settings to the saved model: what is learned, and that the invariants of a training hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nerloop
from nerloop.config import Config, ModelSettings, Plugin
from nerloop.data import read_files
from nerloop.data.arrow_cache import Cache
from nerloop.errors import ConfigError, DataError, NerloopError, PluginError
from nerloop.evaluation.predictor import Split
from nerloop.training.session import open_session
from nerloop.training.setup import build_training
from nerloop.training.teachers import Teacher
from nerloop.types import IGNORE, Example

LONG = "Anna Smith flew from Oslo to Paris and met Bob Jones of Acme , " * 8


@pytest.fixture
def teacher(learned: Config, train_once) -> str:
    """Return the folder of a model that finds some entities."""
    config, _ = train_once(learned)
    return str(Path(config.run.dir, "model"))


@pytest.fixture
def unlabelled(tmp_path: Path) -> str:
    path = tmp_path / "more.txt"
    path.write_text(f"Carol lives in Bergen .\n{LONG}\nWho is Dave Miller ?\n\nNobody knows .\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def student(config: Config, teacher: str, unlabelled: str) -> Config:
    options = {"teacher": teacher, "temperature": 2.0}
    data, run = replace(config.data, unlabelled=unlabelled), replace(config.run, score_pipeline=0)
    return replace(config, data=data, run=run, objective=Plugin("distill", options))


def in_folder(config: Config, name: str, **run: Any) -> Config:
    return replace(config, run=replace(config.run, dir=str(Path(config.run.dir or "").with_name(name)), **run))


def gradients(config: Config, **train: Any) -> dict[str, torch.Tensor]:
    """Return the gradient of the first step, without dropout, in float64."""
    settings = replace(config.train, mixed_precision="float64", max_grad_norm=0.0, batch_size=30, **train)
    config = replace(config, train=settings, model=replace(config.model, dropout=0.0))
    with open_session(config) as session:
        training = build_training(config, session)
        batch = training.plan[0]
        assert any(training.features[i].examples[0] >= 50 for i in batch.features), "no unlabelled sentence in it"
        micro_batches = batch.micro_batches[0]
        assert len(micro_batches) == training.config.train.gradient_accumulation_steps
        for i, indices in enumerate(micro_batches):
            micro_batch = training.collate(indices)
            training.step.backward(micro_batch, 1 / training.weight_of(batch), is_last=i + 1 == len(micro_batches))
        return {n: p.grad.clone() for n, p in training.weights.master.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("alignment", ["all", "first", "document"])
def test_the_gradient_does_not_depend_on_how_the_batch_is_divided_or_laid_out(student, alignment):
    student = replace(student, alignment=Plugin(alignment))
    whole = gradients(student)
    assert len(whole) > 30
    for config, parts in ((student, 3), (replace(student, collator=Plugin("pad")), 5)):
        parted = gradients(config, gradient_accumulation_steps=parts)
        for name, gradient in whole.items():
            if not name.endswith("attention.self.key.bias"):  # its true gradient is zero
                assert float((gradient - parted[name]).norm() / gradient.norm()) < 1e-12, name


def test_every_subword_with_a_label_or_a_target_counts_one_and_the_steps_hold_all_sentences(student):
    with open_session(student) as session:
        training = build_training(student, session)
        steps = [training.plan[i] for i in range(training.plan.num_steps(1))]
        assert sum(step.num_sentences for step in steps) == 54 == len(training.examples)
        for step in steps:
            features = [training.features[i] for i in step.features]
            counted = sum(int(np.count_nonzero((f.labels != IGNORE) | np.any(f.targets, axis=1))) for f in features)
            assert training.weight_of(step) == counted
        assert training.examples[50].tokens == ("Carol", "lives", "in", "Bergen", ".")
        assert [len(split.examples) for split in training.splits.values()] == [20, 20]
        # Its subwords are among those whose embeddings are trained.
        used = {i for f in training.features for i in f.input_ids.tolist()}
        (table,) = [m for m in training.weights.master.modules() if type(m).__name__ == "PrunedEmbedding"]
        assert used <= set(table.used_ids.tolist())
        assert not training.collate([]).targets


def test_a_student_of_soft_targets_alone_approaches_its_teacher(student, teacher):
    options = {"teacher": teacher, "weight": 1.0}
    model = replace(student.model, dropout=0.0)
    student = replace(student, objective=Plugin("distill", options), model=model)
    student = replace(student, train=replace(student.train, epochs=12, learning_rate=1e-2, eval_every=1000))
    results = nerloop.train(student)
    lines = [json.loads(line) for line in Path(student.run.dir or "", "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.1 * losses[0]
    examples, _ = read_files([str(student.data.train)])
    ours, theirs = (np.concatenate(of_tokens(str(f), examples)) for f in (results.folder / "model", teacher))
    by_chance = np.mean(theirs.argmax(1) == 0)  # how often it agrees with one that finds nothing
    assert by_chance < 0.9
    assert np.mean(ours.argmax(1) != theirs.argmax(1)) < 0.4 * (1 - by_chance)
    assert results["distillation"] == {"teachers": 1, "unlabelled_sentences": 4}
    assert results["timing"]["teacher_seconds"] > 0
    line = "learned from the labels and 4 unlabelled sentences, with the probabilities of 1 teacher"
    assert line in results.report(student)
    assert f"It {line}." in (results.folder / "model" / "README.md").read_text()


def of_tokens(folder: str, examples: Sequence[Example]) -> list[np.ndarray]:
    """Return the log-probabilities that a loaded model gives each token's tags."""
    tagger = nerloop.load(folder)
    predictor = tagger._predictor
    split = Split.of(examples, predictor.alignment, predictor.collator)
    found = {i: rows for group in predictor.scores(tagger._model, split) for i, rows in group.items()}
    return [found[i] for i in range(len(examples))]


def test_a_teacher_says_what_the_loaded_model_says_of_every_token_of_a_long_sentence(teacher):
    examples = [Example(tuple(LONG.split())), Example(()), Example(("Oslo", "\u200e"))]
    assert len(examples[0].tokens) > 100
    labels = nerloop.load(teacher).labels
    mine = list(Teacher.of(teacher, labels, Cache.temporary()).probabilities(examples, torch.device("cpu")))
    theirs = of_tokens(teacher, examples)
    assert [len(rows) for rows in mine] == [len(e.tokens) for e in examples]
    assert np.allclose(mine[0], np.exp(theirs[0]), atol=1e-6)
    assert np.allclose(mine[0].sum(1), 1)


def test_labels_in_another_order_are_matched_by_name(teacher, tmp_path):
    labels = list(nerloop.load(teacher).labels)
    order = [*range(1, len(labels)), 0]  # another order of the head's rows, under other ids
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    weights = load_file(other / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][order].contiguous()
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {str(i): labels[old] for i, old in enumerate(order)}
    config["label2id"] = {labels[old]: i for i, old in enumerate(order)}
    (other / "config.json").write_text(json.dumps(config))
    examples = [Example(("Anna", "Smith", "lives", "in", "Oslo"))]
    mine, its = (
        next(Teacher.of(str(folder), labels, Cache.temporary()).probabilities(examples, torch.device("cpu")))
        for folder in (teacher, other)
    )
    assert list(nerloop.load(other).labels) != labels
    assert np.allclose(mine, its, atol=1e-6)
    assert mine.std() > 0.01


def test_a_teacher_may_have_another_tokenizer_and_alignment(student, teacher, wordpiece_folder, tmp_path, make_model):
    labels = nerloop.load(teacher).labels
    encoder = tmp_path / "encoder"
    make_model("bert", labels).bert.save_pretrained(encoder)
    for file in wordpiece_folder.iterdir():
        shutil.copy(file, encoder)
    student = replace(student, model=ModelSettings(name_or_path=str(encoder)), alignment=Plugin("first"))
    student = replace(student, train=replace(student.train, max_steps=2))
    with open_session(student) as session:
        training = build_training(student, session)
        for i in (0, 50):
            (feature,) = [f for f in training.features if f.examples == (i,)]
            assert feature.targets is not None
            rows = feature.targets[feature.tokens >= 0]
            assert len(rows) == len(training.examples[i].tokens)
            said = of_tokens(teacher, [training.examples[i]])[0]
            assert np.allclose(rows, np.exp(said), atol=1e-6)


def test_a_resumed_run_ends_byte_for_byte_as_the_undisturbed_one(student, interrupted):
    student = replace(student, train=replace(student.train, save_every=4, eval_every=3))
    whole = nerloop.train(in_folder(student, "whole"))
    broken = in_folder(student, "broken")
    interrupted(broken, at_step=9)
    resumed = nerloop.train(in_folder(student, "broken", resume="auto"))
    assert (whole["steps"], {**whole, "timing": 0}) == (14, {**resumed, "timing": 0})
    for name in ("model/model.safetensors", "predictions.test.conll", "checkpoints/step-14/optimizer.safetensors"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name


@pytest.mark.parametrize("changed", ["teacher", "unlabelled"])
def test_a_run_is_not_resumed_with_another_teacher_or_other_text(student, teacher, interrupted, tmp_path, changed):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher, copy)
    student = replace(student, objective=Plugin("distill", {"teacher": str(copy)}))
    interrupted(student, at_step=9)
    if changed == "teacher":
        weights = load_file(copy / "model.safetensors")
        weights["classifier.bias"] += 1
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
    else:
        with open(student.data.unlabelled, "a", encoding="utf-8") as file:
            file.write("Oslo .\n")
    with pytest.raises(ConfigError, match=f"^run.resume: the {changed} data are not those that .* was started with"):
        nerloop.train(replace(student, run=replace(student.run, resume="auto")))


def test_tags_of_unlabelled_files_are_ignored(student, files, tmp_path):
    strange = tmp_path / "strange.conll"
    strange.write_text(Path(files["test"]).read_text().replace("LOC", "NEW"), encoding="utf-8")
    student = replace(student, data=replace(student.data, unlabelled=[str(strange), student.data.unlabelled]))
    with open_session(student) as session:
        training = build_training(student, session)
        assert len(training.examples) == 50 + 20 + 4
        assert not any("NEW" in label for label in training.labels)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("no teacher", ConfigError, "objective.teacher: found None, expected the folder of a saved model, such as "
         "runs/x/model, or a list of several"),
        ("no folder", NerloopError, "objective.teacher nowhere: no such folder"),
        ("no model", NerloopError, "objective.teacher {tmp}: {tmp}/nerloop.json: can't be read; expected a model "
         "folder that nerloop saved"),
        ("labels", ConfigError, "objective.teacher {teacher}: found labels without B-NEW and with B-LOC, expected "
         "those of the data: O, B-MISC, B-NEW, B-ORG, B-PER, I-LOC, I-MISC, I-ORG, I-PER"),
        ("no use", ConfigError, "data.unlabelled: set, but objective crf learns from labels alone; expected one with a "
         "teacher, such as distill"),
        ("empty", DataError, "{empty}: found no sentence, expected at least one. Is this the right file?"),
        ("alignment", PluginError, "alignment outside_plugins.Plain: has no method spread, which objective distill "
         "needs; expected one such as all"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_one_line_before_training(
    student, teacher, tmp_path, case, error, message, monkeypatch
):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
    data, objective = student.data, student.objective
    empty = tmp_path / "empty.txt"
    if case in ("no teacher", "no folder", "no model"):
        found: dict[str, Any] = {"no folder": {"teacher": "nowhere"}, "no model": {"teacher": [str(tmp_path)]}}
        objective = Plugin("distill", found.get(case, {}))
    elif case == "labels":
        for split in ("train", "validation", "test"):
            path = tmp_path / f"{split}.conll"
            path.write_text(Path(getattr(data, split)).read_text().replace("B-LOC", "B-NEW"), encoding="utf-8")
            data = replace(data, **{split: str(path)})
    elif case == "no use":
        objective = Plugin("crf")
    elif case == "empty":
        empty.write_text("\n\n", encoding="utf-8")
        data = replace(data, unlabelled=str(empty))
    else:
        student = replace(student, alignment=Plugin("outside_plugins.Plain"))
    with pytest.raises(error) as caught:
        nerloop.train(replace(student, data=data, objective=objective))
    assert str(caught.value) == message.format(tmp=tmp_path, teacher=teacher, empty=empty)
    assert not Path(student.run.dir or "").exists()
