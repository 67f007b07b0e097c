"""Objectives, evaluators and adaptations of one's own, from training to the saved model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import nerloop
from nerloop.config import Config, Plugin
from nerloop.contracts import check_adaptation, check_evaluator, check_objective
from nerloop.model.adaptation import Freeze, Full
from nerloop.objectives.crf import Crf
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.objectives.distill import Distill
from nerloop.train import train

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))


def in_folder(config: Config, name: str, **train_settings) -> Config:
    run = replace(config.run, dir=str(Path(config.run.dir or "").with_name(name)), score_pipeline=0)
    return replace(config, run=run, train=replace(config.train, **train_settings))


def weights(config: Config) -> dict[str, torch.Tensor]:
    return load_file(Path(config.run.dir or "", "model", "model.safetensors"))


def lines(config: Config) -> list[dict]:
    path = Path(config.run.dir or "", "metrics.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "build",
    [
        CrossEntropy,
        Crf,
        lambda labels: CrossEntropy(labels, class_weights={"O": 0.1}),
        lambda labels: Distill(labels, teacher="a"),
        lambda labels: Distill(labels, teacher=["a", "b"], temperature=3.0, weight=0.25),
    ],
)
def test_built_in_objectives_pass_the_contract(build):
    check_objective(build, LABELS)


def test_outside_plugins_pass_the_contracts(make_model):
    from outside_plugins import Focal, Halved, Mistakes, Pairs

    check_objective(Focal, LABELS)
    check_objective(Pairs, LABELS)
    check_evaluator(Mistakes)
    for adaptation in (Halved, Full, Freeze):
        check_adaptation(adaptation, make_model("bert"))


def test_a_focal_loss_of_fifteen_lines_trains(config):
    config = replace(in_folder(config, "focal"), objective=Plugin("outside_plugins.Focal", {"gamma": 1.5}))
    results = train(config)
    losses = [line["loss"] for line in lines(config) if "loss" in line]
    assert results["steps"] == 14
    assert 0 < losses[-1] < losses[0]
    assert nerloop.load(Path(config.run.dir or "", "model")).labels[0] == "O"


@pytest.mark.parametrize(
    "objective",
    [Plugin("cross_entropy", {"class_weights": {"O": 0.2}}), Plugin("outside_plugins.Pairs"), Plugin("crf")],
)
def test_the_gradient_does_not_depend_on_how_the_batch_is_divided(config, objective):
    found = {}
    for parts in (1, 4):
        exact = in_folder(config, f"parts-{parts}", gradient_accumulation_steps=parts, mixed_precision="float64")
        exact = replace(exact, objective=objective, model=replace(exact.model, dropout=0.0))
        train(exact)
        found[parts] = weights(exact)
    assert found[1].keys() == found[4].keys()
    assert max(float((found[1][name] - found[4][name]).abs().max()) for name in found[1]) < 1e-9


@pytest.mark.parametrize("name", ["outside_plugins.Pairs", "crf"])
def test_an_objective_with_parameters_is_trained_saved_resumed_and_decodes(config, name):
    config = replace(config, objective=Plugin(name))
    whole, parted = in_folder(config, "whole"), in_folder(config, "parted", save_every=5)
    train(whole)
    train(parted)
    checkpoint = Path(parted.run.dir or "", "checkpoints", "step-10")
    kept = load_file(checkpoint / "model.safetensors")["nerloop_objective.transitions"]
    assert float(kept.abs().max()) > 0.01  # its learning rate is a hundred times the model's
    assert "exp_avg:nerloop_objective.transitions" in load_file(checkpoint / "optimizer.safetensors")

    again = in_folder(config, "again")
    train(replace(again, run=replace(again.run, resume=str(checkpoint)), train=parted.train))
    saved = [json.loads(Path(c.run.dir or "", "model", "nerloop.json").read_text()) for c in (whole, again)]
    assert saved[0]["learned"] == saved[1]["learned"]
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(again)[name]), name
    assert not any("nerloop_objective" in name for name in weights(whole))

    tagger = nerloop.load(Path(whole.run.dir or "", "model"))
    viterbi: Any = tagger._predictor.decodings["viterbi"]
    legal = np.isfinite(viterbi._lattice.transitions)
    assert np.array_equal(viterbi._lattice.transitions[legal], np.array(saved[0]["learned"]["transitions"])[legal])


def test_an_evaluator_without_f1_trains_to_the_end(config):
    config = replace(in_folder(config, "mistakes"), evaluator=Plugin("outside_plugins.Mistakes"))
    results = train(config)
    rates = {line["step"]: line["error_rate"] for line in lines(config) if "split" in line}
    assert results["validation"]["best"]["viterbi"] == {"error_rate": min(rates.values())}
    assert rates[results["best_step"]] == min(rates.values())
    assert "# Named entities" in Path(config.run.dir or "", "model", "README.md").read_text()
    assert f"error_rate  {min(rates.values()):.4f}" in results.report(config)
    assert "/model --evaluator outside_plugins.Mistakes FILE\n" in results.report(config)


def test_frozen_layers_keep_their_weights(config):
    frozen = in_folder(replace(config, adaptation=Plugin("freeze", {"num_layers": 1})), "frozen")
    train(frozen)
    before = load_file(Path(config.model.name_or_path, "model.safetensors"))
    after = weights(frozen)
    changed = {n for n in before if f"bert.{n}" in after and not torch.equal(before[n], after[f"bert.{n}"])}
    assert any(name.startswith("encoder.layer.1.") for name in changed)
    assert not any(name.startswith(("embeddings.", "encoder.layer.0.")) for name in changed)


def test_more_frozen_layers_than_there_are_is_an_error(config):
    from nerloop.errors import ModelError

    config = replace(config, adaptation=Plugin("freeze", {"num_layers": 3}))
    with pytest.raises(ModelError, match=r"^adaptation.num_layers: found 3, but the model has 2 layers$"):
        train(config)


def test_a_decoding_that_cannot_use_what_was_learned_is_named(config, caplog, capsys):
    line = "warning: decoding argmax does not use what the objective learned: transitions, start, end\n"
    config = replace(in_folder(config, "crf", max_steps=2), objective=Plugin("crf"))
    train(config)
    model = Path(config.run.dir or "", "model")
    nerloop.load(model)
    assert line not in caplog.text + capsys.readouterr().err
    nerloop.load(model, plugins={"decoding": "argmax"})
    assert caplog.text.count(line) == 1
    capsys.readouterr()
    train(replace(in_folder(config, "argmax", max_steps=2), decoding=Plugin("argmax")))
    assert capsys.readouterr().err.count(line) == 1


def test_class_weights_do_not_go_with_a_crf(config):
    from nerloop.errors import PluginError

    config = replace(config, objective=Plugin("crf", {"class_weights": {"O": 0.2}}))
    with pytest.raises(PluginError, match=r"^objective crf: .*'class_weights'; its options: learning_rate_factor$"):
        train(config)


def test_an_objective_that_uses_targets_where_there_are_none_is_rejected():
    from nerloop.errors import PluginError

    class Uniform(Distill):
        def loss(self, logits, batch):
            return super().loss(logits, replace(batch, targets=batch.targets + 1e-3))

    with pytest.raises(PluginError, match=r"^objective .*: loss: .* expected a sum"):
        check_objective(lambda labels: Uniform(labels, teacher="a"), LABELS)


@pytest.mark.parametrize("build", ["mean", "unlabelled", "half", "idle", "dropped", "weight"])
def test_broken_objectives_are_rejected(build):
    from nerloop.errors import PluginError

    class Broken(torch.nn.Module):
        def __init__(self, labels):
            super().__init__()
            self.own = torch.nn.Parameter(torch.ones(1))
            self.weight = (lambda labels: 1.0) if build == "weight" else None

        def loss(self, logits, batch):
            labels = batch.labels.flatten() if build != "unlabelled" else batch.labels.flatten().clamp(min=0)
            logits = logits if build == "half" else logits.float()
            how = "mean" if build == "mean" else "sum"
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction=how)
            if build == "dropped" and not (labels >= 0).any():
                return loss
            return loss if build == "idle" else loss * self.own.sum().to(loss.dtype)

    expected = {
        "mean": "loss: .* expected a sum",
        "unlabelled": "loss: .* expected",
        "half": "loss: found torch.bfloat16 for logits in bf16, expected float32 or better",
        "idle": "loss: its parameter own gets no gradient",
        "dropped": "loss: its parameter own gets no gradient where no subword has a label",
        "weight": "weight: .* don't add up to 1.0, that of all",
    }[build]
    with pytest.raises(PluginError, match=rf"^objective .*Broken: {expected}"):
        check_objective(Broken, LABELS)
