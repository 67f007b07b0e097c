import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nerloop.config import Config, Plugin
from nerloop.errors import TrainingError
from nerloop.optim.schedule import learning_rate
from nerloop.run.checkpoint import steps_in
from nerloop.train import train
from nerloop.training.session import open_session
from nerloop.training.setup import build_training


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(str(folder / "model.safetensors"))


def run_folder(config: Config) -> Path:
    assert config.run.dir is not None
    return Path(config.run.dir)


def with_train(config: Config, folder: str = "", **changes: Any) -> Config:
    run = replace(config.run, dir=str(run_folder(config).with_name(folder))) if folder else config.run
    return replace(config, train=replace(config.train, **changes), run=run)


def lines_of(config: Config) -> list[dict]:
    return [json.loads(line) for line in (run_folder(config) / "metrics.jsonl").read_text().splitlines()]


def test_train_leaves_what_the_design_promises(config, train_once):
    config, results = train_once(config)
    folder = run_folder(config)
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith("events.out.tfevents")) == [
        "checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "model",
        "predictions.test.conll", "predictions.test.jsonl",
        "predictions.validation.conll", "predictions.validation.jsonl",
        "report.html", "results.json", "status.json",
    ]  # fmt: skip
    assert len(list(folder.glob("events.out.tfevents*"))) == 1
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert steps_in(folder / "checkpoints") == [7, 14]
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "nerloop.json"} <= {
        p.name for p in (folder / "model").iterdir()
    }


def test_results_have_the_promised_shape(config, train_once):
    _, results = train_once(config)
    assert set(results) == {"validation", "test", "decoding", "alignment", "steps", "best_step", "timing"}
    assert set(results["validation"]) == {"last", "best", "pipeline"}
    assert set(results["validation"]["pipeline"]) == {"simple", "first", "sentences"}
    assert set(results["test"]) == {"best"}
    promised = {"precision", "recall", "f1", "accuracy", "per_type", "tokens", "gold_spans", "predicted_spans"}
    for metrics, tokens, gold_spans in (
        (results["validation"]["last"], 443, 85),
        (results["validation"]["best"], 443, 85),
        (results["test"]["best"], 320, 61),
    ):
        assert list(metrics) == ["viterbi", "argmax"]
        for decoded in metrics.values():
            assert promised <= set(decoded)
            assert (decoded["tokens"], decoded["gold_spans"]) == (tokens, gold_spans)
            assert 0 <= decoded["f1"] <= 1
    assert (results["decoding"], results["alignment"], results["steps"]) == ("viterbi", "all", 14)
    assert {"train_seconds", "samples_per_second", "subwords_per_second", "first_step_seconds"} == set(
        results["timing"]
    )


def test_metrics_lines_hold_the_schedule_and_finite_figures(config, train_once):
    config, _ = train_once(config)
    lines = lines_of(config)
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [5, 10, 14]
    for line in logged:
        assert line["lr"] == learning_rate(
            line["step"] - 1, num_steps=14, peak=3e-3, warmup_ratio=0.06, schedule="linear"
        )
        assert math.isfinite(line["loss"])
        assert line["grad_norm"] > 0
        assert {"samples_per_second", "subwords_per_second", "padding_share", "memory_gib"} == set(line["timing"])
    assert [line["step"] for line in lines if line.get("split") == "validation"] == [7, 14]


def test_evaluation_on_the_written_predictions_equals_the_results(learned, train_once):
    from seqeval.metrics import f1_score

    config, results = train_once(learned)
    gold: list[list[str]] = [[]]
    predicted: list[list[str]] = [[]]
    for line in run_folder(config).joinpath("predictions.validation.conll").read_text(encoding="utf-8").splitlines():
        if line:
            gold[-1].append(line.split(" ")[-2])
            predicted[-1].append(line.split(" ")[-1])
        else:
            gold.append([])
            predicted.append([])
    assert sum(map(len, gold)) == results["validation"]["best"]["viterbi"]["tokens"]
    assert 0 < float(f1_score(gold[:-1], predicted[:-1])) == results["validation"]["best"]["viterbi"]["f1"]


@pytest.mark.parametrize(
    "changes",
    [{"gradient_accumulation_steps": 2}, {"gradient_accumulation_steps": 8}, {"max_subwords": 64}, {"collator": "pad"}],
    ids=["2x4", "8x1", "by subwords", "padded"],
)
def test_the_layout_of_the_batch_changes_nothing(config, train_once, changes):
    exact = replace(with_train(config, mixed_precision="float64"), model=replace(config.model, dropout=0.0))
    other = with_train(exact, "other", **{k: v for k, v in changes.items() if k != "collator"})
    other = replace(other, collator=Plugin(changes.get("collator", "pack")))
    (exact, expected), found = train_once(exact), train(other)
    a, b = (weights(run_folder(c) / "checkpoints" / "step-14") for c in (exact, other))
    assert len(a) > 20
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9
    assert {**expected, "timing": 0} == {**found, "timing": 0}


def test_dropout_is_seeded_so_that_a_rerun_gives_the_same_bytes(config, train_once):
    first, _ = train_once(config)
    train(config)
    a, b = (run_folder(c) / "model" / "model.safetensors" for c in (first, config))
    assert a != b
    assert a.read_bytes() == b.read_bytes()


def test_another_seed_gives_other_weights(config, train_once):
    first, _ = train_once(config)
    train(with_train(config, seed=43))
    a, b = (run_folder(c) / "model" / "model.safetensors" for c in (first, config))
    assert a.read_bytes() != b.read_bytes()


def test_rows_have_the_widths_of_the_type_that_computes(config):
    widths = {}
    for precision in ("no", "bf16"):
        with open_session(with_train(config, mixed_precision=precision)) as session:
            training = build_training(with_train(config, mixed_precision=precision), session)
            pieces = [training.collate(indices) for indices in training.plan[0].micro_batches[0]]
        widths[precision] = [piece.labels.shape[1] for piece in pieces]
    assert all(width % 32 for width in widths["no"])
    assert [width + -width % 32 for width in widths["no"]] == widths["bf16"]


def test_bf16_trains(config):
    results = train(with_train(config, mixed_precision="bf16"))
    assert results["steps"] == 14
    assert json.loads(run_folder(config).joinpath("environment.json").read_text())["precision"] == "bf16"
    assert str(next(iter(weights(run_folder(config).joinpath("model")).values())).dtype) == "torch.float32"


def test_max_steps_wins_over_epochs(config):
    assert train(with_train(config, max_steps=3))["steps"] == 3


def test_early_stopping_stops_and_keeps_the_best(config):
    results = train(with_train(config, epochs=50, eval_every=1, learning_rate=1e-9, early_stopping_patience=3))
    assert (results["steps"], results["best_step"]) == (4, 1)  # the first is the best, ties keep it


def test_the_saved_model_is_the_best_and_not_the_last(config):
    results = train(with_train(config, learning_rate=1e-9, epochs=3))
    folder = run_folder(config)
    assert results["best_step"] == 7
    saved, last = weights(folder / "model"), weights(folder / "checkpoints" / "step-21")
    assert any((saved[name] != last[name]).any() for name in saved)


def test_without_validation_the_last_weights_are_saved(config):
    results = train(replace(config, data=replace(config.data, validation=None)))
    assert "validation" not in results
    assert results["best_step"] == 14
    assert set(results["test"]["best"]) == {"viterbi", "argmax"}


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_its_sentences(config, monkeypatch):
    from nerloop.objectives.cross_entropy import CrossEntropy

    calls, sound = [], CrossEntropy.loss

    def loss(self, logits, batch):
        calls.append(1)
        return sound(self, logits, batch) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(CrossEntropy, "loss", loss)
    with pytest.raises(
        TrainingError, match=r"^step 3: the gradient is not finite; its sentences \(8 at most\): .*train\.conll:\d+"
    ):
        train(config)
    status = json.loads(run_folder(config).joinpath("status.json").read_text())
    assert status["state"] == "failed"
    assert "step 3" in status["error"]
    assert steps_in(run_folder(config).joinpath("checkpoints")) == []


def test_the_pipeline_of_transformers_loads_the_model_and_scores_as_reported(learned, train_once):
    from transformers import pipeline

    from nerloop.data import read_files
    from nerloop.evaluation.pipeline_score import character_spans
    from nerloop.evaluators.seqeval import scores

    config, results = train_once(learned)
    examples, _ = read_files([str(config.data.validation)])
    for strategy in ("simple", "first"):
        predictor = pipeline(
            "token-classification", str(run_folder(config).joinpath("model")), aggregation_strategy=strategy
        )
        correct = gold = predicted = 0
        for example in examples:
            found = {(e["start"], e["end"], e["entity_group"]) for e in predictor(" ".join(example.tokens))}
            expected = character_spans(example)
            correct, gold, predicted = correct + len(found & expected), gold + len(expected), predicted + len(found)
        assert 0 < scores(correct, gold, predicted)["f1"] == results["validation"]["pipeline"][strategy]


def test_an_outside_plugin_by_dotted_path_with_an_option_trains(config, tmp_path, monkeypatch):
    (tmp_path / "a_tests_alignment.py").write_text(
        "from nerloop.alignment.first import First\n\n\n"
        "class Short(First):\n"
        "    def __init__(self, tokenizer, labels, *, words: int = 5):\n"
        "        super().__init__(tokenizer, labels)\n"
        "        self.words = words\n\n"
        "    def split(self, examples):\n"
        "        assert self.words == 7\n"
        "        return super().split(examples)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    results = train(replace(config, alignment=Plugin("a_tests_alignment.Short", {"words": 7})))
    assert results["alignment"] == "a_tests_alignment.Short"


def test_tensorboard_has_the_curves_and_the_tables(config, train_once):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, results = train_once(config)
    events = EventAccumulator(config.run.dir)
    events.Reload()
    assert {"train/loss", "train/lr", "train/grad_norm", "validation/f1", "train_speed/samples_per_second",
            "train_speed/subwords_per_second", "train_speed/padding_share", "train_speed/memory_gib",
            "validation_f1_per_type/PER"} <= set(events.Tags()["scalars"])  # fmt: skip
    assert [e.step for e in events.Scalars("train/loss")] == [5, 10, 14]
    assert events.Scalars("validation/f1")[-1].value == pytest.approx(results["validation"]["last"]["viterbi"]["f1"])
    (table, *_) = events.Tensors("validation/text_summary")
    assert b"| type | precision | recall | f1 | support |" in table.tensor_proto.string_val[0]
    assert b"gold" in table.tensor_proto.string_val[0]


def test_in_fp16_an_update_that_overflows_is_seen_as_skipped():
    """A fused optimizer under a scaler would look as if it had stepped."""
    import torch
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from nerloop.optim.master_weights import Weights
    from nerloop.optim.optimizer import build_optimizer

    Accelerator(cpu=True)
    layer = torch.nn.Linear(2, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weights = Weights(layer, layer)
    inner = build_optimizer(weights, 0.01, "fp16")
    optimizer = AcceleratedOptimizer(inner, device_placement=False, scaler=scaler)
    scaler.scale(layer(torch.ones(1, 2)).sum() * float("inf")).backward()
    optimizer.step()
    assert optimizer.step_was_skipped
    assert scaler.get_scale() == 512.0
    assert sorted(group["weight_decay"] for group in inner.param_groups) == [0.0, 0.01]
    assert build_optimizer(weights, 0.01, "no").defaults["fused"]
