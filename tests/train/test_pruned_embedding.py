"""A training whose embedding is narrow leaves what the plain one leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

from nerloop.collators.pad import Pad
from nerloop.config import Config, Plugin
from nerloop.data import read_files
from nerloop.errors import CheckpointError
from nerloop.evaluation.pipeline_score import count_pipeline
from nerloop.evaluators.seqeval import scores
from nerloop.train import train

TABLE = "bert.embeddings.word_embeddings"


def in_folder(config: Config, name: str, **run: Any) -> Config:
    return replace(config, run=replace(config.run, dir=str(Path(str(config.run.dir)).with_name(name)), **run))


def tensors(config: Config, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(str(Path(str(config.run.dir), name, "model.safetensors")))


@pytest.fixture
def exact(config):
    return replace(
        config,
        train=replace(config.train, max_steps=60, eval_every=20, learning_rate=1e-2, weight_decay=0.1,
                      mixed_precision="float64"),
        model=replace(config.model, dropout=0.0),
    )  # fmt: skip


def test_it_ends_with_the_weights_and_figures_of_the_plain_one(exact, monkeypatch):
    results = {"narrow": train(in_folder(exact, "narrow"))}
    monkeypatch.setattr("nerloop.optim.pruned_embedding.MOST_USED", 0.0)
    results["plain"] = train(in_folder(exact, "plain"))
    ours, theirs = (tensors(in_folder(exact, name)) for name in results)
    last = [set(tensors(in_folder(exact, name), "checkpoints/step-60")) for name in results]
    assert last[0] - last[1] == {f"{TABLE}.{name}" for name in ("used", "used_ids", "rest", "decayed")}
    assert list(ours) == list(theirs)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) <= 1e-12
    before = AutoModel.from_pretrained(exact.model.name_or_path).embeddings.word_embeddings.weight.double().detach()
    factors = ours[f"{TABLE}.weight"] / before
    used_ids = tensors(in_folder(exact, "narrow"), "checkpoints/step-60")[f"{TABLE}.used_ids"]
    factors = np.delete(factors.numpy(), used_ids.numpy(), axis=0)  # of what occurs nowhere in training
    assert (len(used_ids), len(factors)) == (598, 1252)
    assert 0.9 < factors.min() <= factors.max() < 0.98
    assert factors.max() - factors.min() < 1e-12
    assert results["narrow"]["validation"]["last"]["viterbi"]["predicted_spans"] > 10
    assert {**results["narrow"], "timing": 0} == {**results["plain"], "timing": 0}


def test_pipeline_is_scored_as_the_saved_model_scores(exact):
    config = replace(exact, train=replace(exact.train, mixed_precision="bf16"))
    results = train(config)
    folder = str(Path(config.run.dir, "model"))
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    examples, _ = read_files([config.data.validation])
    counts = count_pipeline(model, tokenizer, examples)
    expected = {
        strategy: scores(found["correct",], found["gold",], found["predicted",])["f1"]
        for strategy, found in counts.items()
    }
    assert results["validation"]["pipeline"] == {**expected, "sentences": 20}
    assert expected["first"] > 0


class OwnCollator(Pad):
    """One that could put in subwords of its own."""


def test_what_a_collator_of_ones_own_lays_out_may_be_any_subword(config):
    config = replace(config, train=replace(config.train, max_steps=1))
    own = replace(in_folder(config, "own"), collator=Plugin(f"{__name__}.OwnCollator"))
    train(own)
    assert f"{TABLE}.weight" in tensors(own, "checkpoints/step-1")
    train(config)
    assert f"{TABLE}.used" in tensors(config, "checkpoints/step-1")


def test_a_checkpoint_of_a_run_without_is_refused_in_one_line(config, monkeypatch):
    config = replace(config, train=replace(config.train, max_steps=2, save_every=1))
    with monkeypatch.context() as patch:
        patch.setattr("nerloop.optim.pruned_embedding.MOST_USED", 0.0)
        train(config)
    first = str(Path(config.run.dir, "checkpoints", "step-1"))
    with pytest.raises(
        CheckpointError, match=r"step-1/model\.safetensors: does not fit this model: .* another nerloop"
    ):
        train(in_folder(config, "other", resume=first))
