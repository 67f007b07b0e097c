"""What only a CUDA device can show: `pytest -m gpu`. One device is enough."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nerloop
from nerloop import demo
from nerloop.model.compat import prepare_model
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.train import train

pytestmark = pytest.mark.gpu

# PyTorch reads it with the first matrix product of the process, whose test may ask for nothing of the kind.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def cuda():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def weights(config) -> dict:
    from safetensors.torch import load_file

    (last,) = Path(config.run.dir, "checkpoints").glob("step-14")
    return load_file(str(last / "model.safetensors"))


def changed(config, folder: str, **train_settings):
    run = replace(config.run, dir=str(Path(config.run.dir).with_name(folder)))
    return replace(config, run=run, train=replace(config.train, **train_settings))


def losses(config) -> list[float]:
    lines = Path(config.run.dir, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]


def test_accumulation_changes_nothing_in_float64(config):
    config = replace(config, model=replace(config.model, dropout=0.0))
    one, four = (
        changed(config, "one", mixed_precision="float64"),
        changed(config, "four", mixed_precision="float64", gradient_accumulation_steps=4),
    )
    train(one)
    train(four)
    a, b = weights(one), weights(four)
    assert len(a) > 20
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.02)])
def test_mixed_precision_follows_float32(config, precision, tolerance):
    config = replace(config, model=replace(config.model, dropout=0.0))
    full, mixed = changed(config, "full", mixed_precision="no"), changed(config, "mixed", mixed_precision=precision)
    train(full)
    train(mixed)
    assert json.loads(Path(mixed.run.dir, "environment.json").read_text())["precision"] == precision
    assert losses(mixed) == pytest.approx(losses(full), rel=tolerance)


def test_fp16_overflows_advance_neither_step_nor_schedule(config, monkeypatch):
    """The first scale is the largest power of two in float32: the gradients of the first steps are infinite in fp16."""
    import torch
    from accelerate.optimizer import AcceleratedOptimizer

    class Scaler(torch.amp.GradScaler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **{**options, "init_scale": 2.0**32})

    skipped, step = [], AcceleratedOptimizer.step

    def counting(self, closure=None):
        step(self, closure)
        skipped.append(self.step_was_skipped)

    monkeypatch.setattr(torch.amp, "GradScaler", Scaler)
    monkeypatch.setattr(AcceleratedOptimizer, "step", counting)
    config = changed(config, "fp16", mixed_precision="fp16")
    results = train(replace(config, run=replace(config.run, log_every=1)))
    assert 1 <= sum(skipped) < 20
    assert len(skipped) == 14 + sum(skipped)
    assert results["steps"] == 14
    logged = [json.loads(line) for line in Path(config.run.dir, "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "lr" in line] == list(range(1, 15))
    assert all(np.isfinite(line["loss"]) for line in logged if "loss" in line)


def test_a_resumed_run_ends_as_the_undisturbed_one(config):
    config = replace(config, train=replace(config.train, deterministic=True, save_every=4))
    whole = changed(config, "whole")
    train(whole)
    resumed = changed(config, "resumed")
    train(replace(resumed, train=replace(resumed.train)))
    first = Path(resumed.run.dir, "checkpoints", "step-12")
    train(replace(resumed, run=replace(resumed.run, resume=str(first))))
    a, b = weights(whole), weights(resumed)
    assert all(bool((a[name] == b[name]).all()) for name in a)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_model_tags_on_the_gpu_as_on_the_cpu(config, precision):
    trained = changed(config, precision, mixed_precision=precision, epochs=10)
    train(trained)
    folder = str(Path(trained.run.dir, "model"))
    sentences = [list(example.tokens) for example in demo.splits()["test"][:50]]
    found = [nerloop.load(folder, device=device).tag(sentences) for device in ("cuda", "cpu")]
    spans = [[[(e["type"], e["start"], e["end"]) for e in entities] for entities in side] for side in found]
    assert sum(map(len, spans[1])) > 20
    agreeing = sum(a == b for a, b in zip(*spans, strict=True))
    assert agreeing == 50 if precision == "no" else agreeing > 45  # bf16 rounds, and kernels add in another order


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_command_finds_on_the_gpu_what_it_finds_on_the_cpu(config, tmp_path, command):
    config = changed(config, "run", epochs=10)
    train(config)
    found = []
    for devices in (os.environ.get("CUDA_VISIBLE_DEVICES", "0"), ""):
        file = tmp_path / f"found{len(found)}"
        output = ["--output" if command == "predict" else "--json", str(file)]
        words = [f"nerloop.{command}", "--model", str(Path(config.run.dir, "model")), *output, str(config.data.test)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": devices}
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found.append(file.read_text() if command == "predict" else json.loads(file.read_text())["scores"])
    assert found[0] == found[1]
    assert " B-" in found[0] if command == "predict" else found[0]["f1"] > 0


# CUDA graphs: `train.cuda_graphs`. The runs are of 20 steps of 8 sentences in bf16, with the model's own dropout.


def steps_of(config, folder: str, *, cuda_graphs: bool, **train_settings):
    settings = {"mixed_precision": "bf16", "max_steps": 20, "save_every": 5, "eval_every": 10, **train_settings}
    config = changed(config, folder, cuda_graphs=cuda_graphs, **settings)
    return replace(config, run=replace(config.run, log_every=1, keep_checkpoints=9))


def tensors(config, step: int = 20) -> dict:
    """Return weights and moments of a checkpoint."""
    from safetensors.torch import load_file

    folder = Path(config.run.dir, "checkpoints", f"step-{step}")
    return {**load_file(str(folder / "model.safetensors")), **load_file(str(folder / "optimizer.safetensors"))}


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    assert len(a) > 60
    assert [name for name in a if not (a[name] == b[name]).all()] == []


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2])
def test_runs_with_and_without_graphs_end_with_the_same_bits(config, capsys, gradient_accumulation_steps):
    settings = {"deterministic": True, "gradient_accumulation_steps": gradient_accumulation_steps}
    on, off = (steps_of(config, f"graphs-{on}", cuda_graphs=on, **settings) for on in (True, False))
    assert train(on)["timing"]["capture_seconds"] > 0
    assert "capture_seconds" not in train(off)["timing"]
    assert "CUDA graphs" not in capsys.readouterr().err
    assert losses(on) == losses(off)
    assert_equal(tensors(on), tensors(off))


def test_another_optimizer_trains_with_graphs(config, capsys):
    """Its update is not recorded."""
    options = {"deterministic": True, "optimizer": "torch.optim.NAdam"}
    on, off = (steps_of(config, f"nadam-{on}", cuda_graphs=on, **options) for on in (True, False))
    assert train(on)["timing"]["capture_seconds"] > 0
    assert "CUDA graphs" not in capsys.readouterr().err
    train(off)
    assert losses(on) == losses(off)


def test_without_deterministic_kernels_graphs_are_used_too(config, capsys):
    on = steps_of(config, "on", cuda_graphs=True)
    assert train(on)["timing"]["capture_seconds"] > 0
    assert "CUDA graphs" not in capsys.readouterr().err
    off = steps_of(config, "off", cuda_graphs=False)
    train(off)
    assert losses(on) == pytest.approx(losses(off), rel=2e-2)


def test_a_run_with_graphs_that_is_resumed_ends_with_the_same_bits(config):
    """Its first steps find no graph, where the undisturbed run replays."""
    whole = steps_of(config, "whole", cuda_graphs=True, deterministic=True)
    train(whole)
    resumed = steps_of(config, "resumed", cuda_graphs=True, deterministic=True)
    train(resumed)
    first = Path(resumed.run.dir, "checkpoints", "step-10")
    train(replace(resumed, run=replace(resumed.run, resume=str(first))))
    assert_equal(tensors(whole), tensors(resumed))


def test_where_recording_fails_training_goes_on_as_without(config, capsys, monkeypatch):
    """The device is asked for a number while it records: what CUDA says to that ends the recording, not the run."""
    import torch

    sound = CrossEntropy.loss

    def asking(self, logits, batch):
        loss = sound(self, logits, batch)
        if torch.cuda.is_current_stream_capturing():
            loss.item()
        return loss

    whole = steps_of(config, "whole", cuda_graphs=True, deterministic=True)
    train(whole)
    monkeypatch.setattr(CrossEntropy, "loss", asking)
    failing = steps_of(config, "failing", cuda_graphs=True, deterministic=True)
    train(failing)
    assert capsys.readouterr().err.count("CUDA graphs don't work here, training goes on without them") == 1
    assert_equal(tensors(whole), tensors(failing))
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.rand(3, device="cuda").isfinite().all()  # the generator draws again


def train_step_of(config, model, *, with_graphs: bool, deterministic: bool = False):
    """Return a TrainStep, its weights and the collator for a model on the device, in bf16."""
    from nerloop.collators.pack import Pack
    from nerloop.config import ModelSettings
    from nerloop.distributed.launch import make_accelerator
    from nerloop.model.load import load_tokenizer
    from nerloop.optim.master_weights import Weights
    from nerloop.optim.optimizer import build_optimizer
    from nerloop.optim.step import TrainStep

    accelerator = make_accelerator("bf16", deterministic=deterministic)
    model.to(accelerator.device)
    collator = Pack(load_tokenizer(ModelSettings(name_or_path=config.model.name_or_path)))
    prepare_model(model, collator)
    weights = Weights.of(model, "bf16")
    prepared, optimizer = accelerator.prepare(weights.model, build_optimizer(weights, 0.01, "bf16"))
    prepared.train()
    return (
        TrainStep(accelerator, weights, prepared, optimizer, 1.0, with_graphs, objective=CrossEntropy(["O"])),
        weights,
        collator,
    )


def features(step: int, lengths=(3, 60, 17, 40, 5, 31)):
    from nerloop.types import Feature

    random = np.random.RandomState(step)
    found = []
    for i, n in enumerate(random.permutation(lengths)):
        labels = random.randint(0, 5, n)
        found.append(Feature(random.randint(5, 90, n), labels, np.arange(n), i, (i,), (int(n),)))
    return found


KINDS = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "distilbert": {},
    "modernbert": {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0,
                   "local_attention": 16, "global_attn_every_n_layers": 2},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_graphs", [True, False])
def test_steps_of_these_encoders_wait_for_nothing(config, make_model, kind, with_graphs, caplog):
    """The first one tries kernels, the second one records: these may wait."""
    import torch

    train_step, _, collator = train_step_of(config, make_model(kind, **KINDS[kind]), with_graphs=with_graphs)
    total = torch.zeros((), device="cuda")
    for step in range(6):
        torch.manual_seed(step)
        torch.cuda.set_sync_debug_mode("error" if step >= 2 else "default")
        try:
            total += train_step.backward(collator(features(step)), 1 / 156, is_last=True)
            norm = train_step.update(step, 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert 0 < float(norm) < 1e6
    assert 0 < float(total) < 1e6
    assert caplog.messages == []
    assert not with_graphs or len(train_step.graphs) == 2


def test_gradients_and_updates_by_graphs_are_those_without_to_the_bit(config, make_model, caplog):
    """Compared where both have their rates in tensors: one records nothing."""
    import torch

    try:
        ends = []
        for is_on in (True, False):
            options = {"with_graphs": True, "deterministic": True}
            train_step, weights, collator = train_step_of(config, make_model("bert"), **options)
            train_step.graphs._is_on = is_on
            figures = []
            for step in range(20):
                torch.manual_seed(step)
                loss = torch.zeros((), device="cuda")
                loss += train_step.backward(collator(features(step)), 1 / 312, is_last=False)
                loss += train_step.backward(collator(features(step + 99)), 1 / 312, is_last=True)
                gradients = [g.clone() for g in weights.gradients]
                figures.append((float(loss), float(train_step.update(step, 1e-3))))
            assert len(train_step.graphs) == (3 if is_on else 0)
            ends.append((figures, gradients, [p.detach().clone() for p in weights.master.parameters()]))
    finally:
        torch.use_deterministic_algorithms(False)
    assert caplog.messages == []
    (figures, *found), (same_figures, *same) = ends
    assert figures == same_figures
    assert all(torch.equal(a, b) for x, y in zip(found, same, strict=True) for a, b in zip(x, y, strict=True))


def test_sentences_side_by_side_have_the_gradient_of_padded_ones_by_graphs_too(config, make_model):
    import torch

    from nerloop.collators.pad import Pad

    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    gradients = []
    for is_padded in (False, True):
        train_step, weights, collator = train_step_of(config, make_model("bert", **options), with_graphs=not is_padded)
        collator = Pad(collator._tokenizer) if is_padded else collator
        for step in range(4):
            train_step.backward(collator(features(step)), 1 / 156, is_last=True)
            gradients.append(torch.cat([p.grad.flatten() for p in weights.master.parameters() if p.grad is not None]))
            for parameter in weights.master.parameters():  # as an update does, but the weights stay
                parameter.grad = None
            train_step._is_first = True
        if not is_padded:
            assert len(train_step.graphs) == 1
    for packed, padded in zip(gradients[:4], gradients[4:], strict=True):
        assert float((packed - padded).norm() / padded.norm()) < 0.05
