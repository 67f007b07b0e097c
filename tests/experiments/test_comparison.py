"""Comparing finished runs: what the report says, and the runs that it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from nerloop import compare as command
from nerloop.config import Config, TrainSettings
from nerloop.errors import ConfigError
from nerloop.evaluators.seqeval import Seqeval
from nerloop.experiments import comparison
from nerloop.experiments.as_html import as_html
from nerloop.experiments.as_text import as_text, verdict
from nerloop.experiments.finished import FinishedRun, counts_of, read_finished
from nerloop.experiments.seeds import parse_seeds

GOLD = [["B-PER", "I-PER", "O"], ["O", "B-LOC"], ["B-ORG", "O"], ["O", "O"]] * 5


def write_run(folder: Path, seed: int, wrong: set[int], *, learning_rate: float = 1e-3, **environment) -> Path:
    """Write what a run leaves that tags every sentence right, except the first token of those in `wrong`."""
    folder.mkdir(parents=True)
    tags = [["B-MISC", *gold[1:]] if i in wrong else gold for i, gold in enumerate(GOLD)]
    config = Config(train=TrainSettings(seed=seed, learning_rate=learning_rate))
    (folder / "config.yaml").write_text(yaml.safe_dump({"train": asdict(config.train)}))
    evaluator = Seqeval()
    scored = {"best": {"viterbi": evaluator.metrics(evaluator.count(GOLD, tags))}}
    files = {
        "status.json": {"state": "done"},
        "environment.json": {"fingerprints": {"test": "1"}, "labels": ["O"], "versions": {"nerloop": "1"}}
        | environment,
        "results.json": {"test": scored, "decoding": "viterbi", "timing": {"train_seconds": 2.0 + seed}},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    (folder / "metrics.jsonl").write_text('{"step": 1, "timing": {"memory_gib": 1.5}}\n')
    lines = [json.dumps({"tokens": ["x"] * len(g), "gold": g, "tags": t}) for g, t in zip(GOLD, tags, strict=True)]
    (folder / "predictions.test.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    """Write three runs of a worse configuration and three of a better one."""
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a-{seed}", seed, {0, 4, 8, seed})
        write_run(tmp_path / f"b-{seed}", seed, {seed}, learning_rate=2e-3)
    return tmp_path


def compared(folder: Path, *patterns: str):
    return comparison.compare(command.find_runs([str(folder / pattern) for pattern in patterns]))


def test_two_configurations_are_compared(runs):
    found = compared(runs, "a-*", "b-*")
    worse, better = found["configurations"]
    assert worse["seeds"] == better["seeds"] == [1, 2, 3]
    f1 = [FinishedRun(runs / f"b-{seed}").scores("test")["f1"] for seed in (1, 2, 3)]
    assert better["splits"]["test"]["f1"]["values"] == f1
    assert better["splits"]["test"]["f1"]["mean"] == pytest.approx(np.mean(f1))
    assert better["cost"]["train_seconds"]["values"] == [3.0, 4.0, 5.0]
    assert better["cost"]["memory_gib"]["mean"] == 1.5
    assert found["differing_settings"] == {"train.learning_rate": [1e-3, 2e-3]}
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"], pair["split"], pair["metric"], pair["seeds"]) == (
        str(runs / "a-*"), str(runs / "b-*"), "test", "f1", 3
    )  # fmt: skip
    assert pair["difference"] == pytest.approx(
        better["splits"]["test"]["f1"]["mean"] - worse["splits"]["test"]["f1"]["mean"]
    )
    assert pair["difference"] > 0.1
    assert pair["interval"][0] < pair["difference"] < pair["interval"][1]
    assert json.loads(json.dumps(found)) == found  # plain values


def test_the_pipelines_score_is_a_further_decoding_if_all_runs_have_it(runs):
    def add(folder: str, f1: float) -> None:
        path = runs / folder / "results.json"
        results = json.loads(path.read_text())
        path.write_text(
            json.dumps(results | {"validation": {"pipeline": {"simple": f1, "first": 0.5, "sentences": 9}}})
        )

    for seed, f1 in ((1, 0.25), (2, 0.5), (3, 0.75)):
        add(f"a-{seed}", f1)
    add("b-1", 0.5)
    found = compared(runs, "a-*", "b-*")
    worse, better = found["configurations"]
    assert list(worse["decodings"]) == ["viterbi", *(f"pipeline {of}, 9 sentences" for of in ("simple", "first"))]
    assert worse["decodings"]["pipeline simple, 9 sentences"]["validation"]["f1"]["values"] == [0.25, 0.5, 0.75]
    assert list(better["decodings"]) == ["viterbi"]
    assert re.search(r"a-\* +validation +pipeline simple, 9 sentences +3 +50\.0 ± 25\.0", as_text(found))


def test_the_text_says_how_sure_it_is(runs):
    text = as_text(compared(runs, "a-*", "b-*"))
    assert re.search(r"train.learning_rate +0.001 +0.002\n", text)
    assert "points of f1, 95% interval" in text
    lone = as_text(compared(runs, "a-1", "b-1"))
    assert "of these two models; other seeds may differ" in lone


def test_a_pair_is_put_into_words():
    pair = {
        "a": "x", "b": "y", "split": "test", "metric": "f1", "difference": 0.0123, "interval": [0.004, 0.02],
        "bootstrap_interval": [0.005, 0.019], "p_value": 0.004, "p_value_holm": 0.008, "test": "randomization",
        "greater_is_better": True, "seeds": 10, "seeds_for_half_a_point": 24,
    }  # fmt: skip
    assert verdict(pair) == (
        "test: y - x = +1.23 points of f1, 95% interval +0.40 to +2.00 (bootstrap +0.50 to +1.90), p 0.004 by "
        "approximate randomization, 0.008 after Holm's correction, 10 seeds: y is better; 24 seeds would detect half "
        "a point in 4 of 5 cases"
    )
    assert "no difference shown" in verdict(pair | {"p_value_holm": 0.2})
    assert "with so few sentences, no number of seeds would detect half a point" in verdict(
        pair | {"seeds_for_half_a_point": None}
    )
    assert ": x is better; 24" in verdict(pair | {"greater_is_better": False})
    alike = pair | {"difference": 0.0, "interval": [0.0, 0.0], "p_value": 1.0, "p_value_holm": 1.0, "test": "none"}
    assert verdict(alike) == "test: y - x = +0.00 points of f1, the same with every seed"


def test_the_page_is_self_contained_and_escaped(runs):
    found = compared(runs, "a-*", "b-*")
    found["configurations"][0]["name"] = found["pairs"][0]["a"] = "<script>"
    page = as_html(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<circle") == 6 + 1


def test_spans_of_texts_are_counted_in_characters():
    gold = [{"start": 0, "end": 4, "type": "PER"}, {"start": 9, "end": 12, "type": "LOC"}]
    predicted = [{"start": 0, "end": 4, "type": "PER"}, {"start": 8, "end": 12, "type": "LOC"}]
    assert counts_of({"gold_character_spans": gold, "character_spans": predicted}) == (1, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprints": {"test": "2"}}, "was trained on other data than"),
        ({"labels": ["O", "B-X"]}, "was trained on other labels than"),
        ({"versions": {"nerloop": "2"}}, "is of nerloop 2,"),
    ],
)
def test_runs_of_other_data_or_versions_are_refused(runs, change, message):
    write_run(runs / "c-1", 1, {1}, **change)
    with pytest.raises(ConfigError, match=message):
        compared(runs, "a-*", "c-*")


def test_a_plugin_and_its_options_have_the_names_that_flags_have(runs):
    values = {"objective": {"class_path": "crf", "init_args": {"learning_rate_factor": 3.0}}}
    for name in ("b-1", "b-2"):
        with (runs / name / "config.yaml").open("a") as file:
            file.write(yaml.safe_dump(values))
    found = comparison.compare(command.find_runs([str(runs / "a-*"), str(runs / "b-[12]")]))["differing_settings"]
    assert found == {
        "objective": ["cross_entropy", "crf"], "objective.learning_rate_factor": [None, 3.0],
        "train.learning_rate": [1e-3, 2e-3],
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"differs from .* in objective, objective\.learning_rate_factor, expected"):
        compared(runs, "b-*")


def test_runs_that_do_not_belong_together_are_refused(runs):
    write_run(runs / "c-1", 1, {1})
    write_run(runs / "c-2", 1, {1})
    with pytest.raises(ConfigError, match="found seed 1 again"):
        compared(runs, "a-*", "c-*")
    with pytest.raises(ConfigError, match=r"differs from .* in train\.learning_rate, expected runs of one config"):
        compared(runs, "[ab]-[12]")
    (runs / "c-1" / "status.json").write_text('{"state": "interrupted"}')
    with pytest.raises(ConfigError, match=r"c-1: found no finished run"):
        read_finished([runs / "c-1"])
    with pytest.raises(ConfigError, match="found no folder"):
        command.find_runs([str(runs / "nope-*")])


def test_predictions_that_do_not_fit_the_results_are_refused(runs):
    path = runs / "b-2" / "predictions.test.jsonl"
    path.write_text(path.read_text().replace("B-LOC", "B-PER", 1))
    with pytest.raises(ConfigError, match=r"b-2: its predictions of test don't give the F1 in results\.json"):
        compared(runs, "a-*", "b-*")


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("1..3") == [1, 2, 3]
    assert parse_seeds("7, 1..2 9") == [7, 1, 2, 9]


@pytest.mark.parametrize("text", ["", "..", "3..1", "1,1", "a", "-1", "1..100000"])
def test_an_empty_or_wrong_list_of_seeds_is_refused(text):
    with pytest.raises(ConfigError, match="--seeds: found"):
        parse_seeds(text)
