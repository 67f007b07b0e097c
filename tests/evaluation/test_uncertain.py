"""The sentences most worth annotating, and their way through annotation tools and back."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nerloop.data import ReadOptions, read_files
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import DataError, PluginError
from nerloop.evaluation.predictor import Prediction
from nerloop.evaluation.uncertain import TASKS, Uncertain, task_texts
from nerloop.tags import Scheme
from nerloop.types import Example

LABELS = ("O", "B-PER", "I-PER")


def uncertain(number: int, decoding: Any = None) -> Uncertain:
    decodings = {"viterbi": decoding or Viterbi(LABELS, Scheme.IOB2)}
    predictor: Any = SimpleNamespace(main_decoding="viterbi", decodings=decodings, temperature=1.0, labels=LABELS)
    return Uncertain(predictor, number)


def predicted(text: str, *sure: float, offsets=(), location: str = "") -> tuple[Example, Prediction]:
    """Return a sentence whose first token is B-PER and whose others are O, each with its probability."""
    tokens = tuple(text.split(" "))
    rows = [[1 - p - 1e-9, p, 1e-9] if i == 0 else [p, 1 - p - 1e-9, 1e-9] for i, p in enumerate(sure)]
    tags = ["B-PER", *["O"] * (len(tokens) - 1)]
    prediction = Prediction({"viterbi": tags}, np.array(sure), {"viterbi": np.array(sure[:1])}, scores=np.log(rows))
    return Example(tokens, (), location, "", offsets), prediction


def chosen(number: int, *sentences: tuple[Example, Prediction]) -> list[str]:
    found = uncertain(number)
    for example, prediction in sentences:
        found.look_at([example], [prediction])
    return [" ".join(c.example.tokens) for c in found.chosen()]


def test_the_least_sure_per_token_come_first():
    sentences = [predicted("Bo ran", 0.9, 0.9), predicted("Li sat down again", *[0.8] * 4), predicted("Mo", 0.7)]
    assert chosen(3, *sentences) == ["Mo", "Li sat down again", "Bo ran"]
    assert chosen(1, *sentences) == ["Mo"]
    assert chosen(9, *sentences, (Example(()), Prediction({"viterbi": []}, np.zeros(0), scores=np.zeros((0, 3))))) == [
        "Mo", "Li sat down again", "Bo ran"
    ]  # fmt: skip


def test_near_repetitions_are_taken_last():
    sentences = [predicted("Bo ran home", *[0.6] * 3), predicted("bo ran Home", *[0.61] * 3), predicted("Li", 0.9)]
    assert chosen(2, *sentences) == ["Bo ran home", "Li"]
    assert chosen(3, *sentences) == ["Bo ran home", "Li", "bo ran Home"]


def test_uncertainty_is_minus_the_log_probability_per_token():
    found = uncertain(1)
    example, prediction = predicted("Bo ran", 0.5, 0.5)
    found.look_at([example], [prediction])
    # Legal: O O, O B, B O, B B (0.25 each); sequences with I-PER have next to nothing.
    assert found.chosen()[0].uncertainty == pytest.approx(-np.log(0.25) / 2, abs=1e-6)


def test_memory_has_a_bound():
    found = uncertain(2)
    for i in range(100):
        example, prediction = predicted(f"w{i}", 0.5 + i / 250)
        found.look_at([example], [prediction])
    assert len(found._kept) == 20
    assert [c.example.tokens for c in found.chosen()] == [("w0",), ("w1",)]


def test_a_decoding_must_know_probabilities():
    with pytest.raises(PluginError, match="does not tell how likely its tags are; use viterbi"):
        uncertain(1, SimpleNamespace(decode=None))


@pytest.mark.parametrize("form", ["label_studio", "prodigy"])
def test_tasks_that_nobody_answered_are_not_gold(form, tmp_path):
    found = uncertain(2)
    for example, prediction in (predicted("Anna came", 0.6, 0.9), predicted("x-ray , so", *[0.7] * 3)):
        found.look_at([example], [prediction])
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(TASKS[form](task_texts(found.chosen(), "viterbi", form))))
    with pytest.raises(DataError, match=r"found no sentence \(2 records that nobody annotated are left out\)"):
        read_files([str(path)])
    assert len(read_files([str(path)], ReadOptions(with_tags=False))[0]) == 2


@pytest.mark.parametrize("form", ["label_studio", "prodigy"])
def test_annotated_tasks_are_read_back(form, tmp_path):
    """An annotator accepts the first task as it is, and removes the only span of the second."""
    found = uncertain(2)
    for one in (
        predicted("Anna Smith 's", 0.6, 0.9, 0.9, location="a.conll:1"),
        predicted("x-ray , so", *[0.7] * 3, offsets=((30, 35), (35, 36), (38, 40))),
    ):
        found.look_at([one[0]], [one[1]])
    lines = list(TASKS[form](task_texts(found.chosen(), "viterbi", form)))
    if form == "label_studio":
        tasks = json.loads("".join(lines))
        assert [t["data"]["text"] for t in tasks] == ["x-ray,  so", "Anna Smith 's"]
        assert tasks[1]["meta"]["location"] == "a.conll:1"
        assert tasks[1]["predictions"][0]["result"][0]["score"] == 0.6
        for task, keep in zip(tasks, [0, 1], strict=True):
            regions = task.pop("predictions")[0]["result"][:keep]
            task["annotations"] = [{"result": [{k: v for k, v in r.items() if k != "score"} for r in regions]}]
        path = tmp_path / "export.json"
        path.write_text(json.dumps(tasks))
        options = ReadOptions(tokenizer="whitespace")
    else:
        tasks = [json.loads(line) for line in lines]
        assert [t["text"] for t in tasks] == ["x-ray,  so", "Anna Smith 's"]
        assert tasks[1]["spans"] == [
            {"start": 0, "end": 4, "label": "PER", "token_start": 0, "token_end": 0, "score": 0.6}
        ]
        tasks[0]["spans"] = []
        path = tmp_path / "export.jsonl"
        path.write_text("".join(json.dumps(t | {"answer": "accept"}) + "\n" for t in tasks))
        options = ReadOptions()
    examples, _ = read_files([str(path)], options)
    expected = [("x-ray", ",", "so"), ("Anna", "Smith", "'s")]
    assert [e.tokens for e in examples] == (expected if form == "prodigy" else [("x-ray,", "so"), expected[1]])
    assert [set(e.tags) for e in examples] == [{"O"}, {"B-PER", "O"}]
