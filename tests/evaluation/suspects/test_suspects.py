"""Which labels are suspected, in which order, and how they are shown."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nerloop.data import ReadOptions, read_files
from nerloop.evaluation.suspects.as_html import as_html
from nerloop.evaluation.suspects.as_text import as_text
from nerloop.evaluation.suspects.dynamics import mean_probabilities, weighted
from nerloop.evaluation.suspects.review import tasks
from nerloop.evaluation.suspects.suspects import Doubts, Suspects
from nerloop.run.token_record import TokenRecord
from nerloop.tags import to_spans
from nerloop.types import Example, Span

LABELS = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")


def probabilities(*tokens: dict[str, float]) -> np.ndarray:
    return np.array([[token.get(label, 0.0) for label in LABELS] for token in tokens])


def example(tokens: str, tags: str, line: int = 1) -> Example:
    return Example(tuple(tokens.split()), tuple(tags.split()), f"train.conll:{line}")


def suspects_of(*sentences: tuple[Example, list[Span], np.ndarray], lines: bool = True) -> dict:
    suspects = Suspects("a test", has_line_per_token=lines)
    for one, spans, matrix in sentences:
        suspects.add(one, spans, Doubts(LABELS, matrix))
    return suspects.to_json()


def test_the_odds_are_the_mean_over_the_tokens_whose_types_differ():
    doubts = Doubts(LABELS, probabilities(
        {"B-PER": 0.8, "B-LOC": 0.1, "O": 0.1}, {"I-PER": 0.4, "I-LOC": 0.2, "O": 0.4}, {"B-PER": 0.5, "O": 0.5}
    ))  # fmt: skip
    retyped = doubts.evidence([Span(0, 2, "LOC")], [Span(0, 2, "PER")])
    assert retyped.log_odds == pytest.approx((np.log(0.8 / 0.1) + np.log(0.4 / 0.2)) / 2)
    assert retyped.types.tolist() == [0, -1, 1]  # O, LOC, PER
    moved = doubts.evidence(
        [Span(0, 2, "PER")], [Span(0, 3, "PER")]
    )  # only the third token differs, whatever its prefix
    assert (moved.log_odds, moved.types.tolist()) == (pytest.approx(0), [-1, 0, 1])
    dropped = doubts.evidence([], [Span(0, 1, "PER")])
    assert dropped.log_odds == pytest.approx(np.log(8))
    cut = doubts.evidence([Span(0, 1, "PER"), Span(1, 2, "PER")], [Span(0, 2, "PER")])
    assert (cut.log_odds, cut.types.tolist()) == (0.0, [0, 0, 0])


def test_a_type_that_the_model_never_finds_is_no_evidence():
    """Where it gives persons 0.4 throughout, and 0.6 to nothing, it contradicts none of them more than the others."""
    weak = probabilities({"B-PER": 0.4, "O": 0.6}, {"O": 1.0})
    found = suspects_of(*[(example("Anna ran", "B-PER O", 10 * i), [], weak) for i in range(3)])
    # 0.6 / 0.4 against the usual 0.8 (= (3 * 1 + 0) / 3 of the tokens without a label) / 0.4
    assert [s["confidence"] for s in found["suspects"]] == [pytest.approx(0.375, abs=1e-6)] * 3


def test_suspects_are_ranked_and_say_where_what_and_instead_of_what():
    sure = probabilities({"O": 1.0}, {"B-LOC": 0.98, "O": 0.01, "B-PER": 0.01}, {"I-LOC": 0.9, "O": 0.1})
    unsure = probabilities({"B-PER": 0.55, "B-LOC": 0.45}, {"O": 1.0})
    right = probabilities({"B-PER": 1.0})
    found = suspects_of(
        (example("Anna left", "B-LOC O", 1), [Span(0, 1, "PER")], unsure),
        (example("in New York", "O B-PER I-PER", 4), [Span(1, 3, "LOC")], sure),
        (example("Anna", "B-PER", 8), [Span(0, 1, "PER")], right),
    )
    assert (found["sentences"], found["spans"], found["confirmed"], found["source"]) == (3, 3, 1, "a test")
    first, second = found["suspects"]
    assert first["confidence"] > 0.9 > second["confidence"]
    assert first == {
        "location": "train.conll:5",  # the line of "New"
        "confidence": first["confidence"],
        "kind": "wrong_type",
        "file": [{"start": 1, "end": 3, "type": "PER", "text": "New York"}],
        "model": [{"start": 1, "end": 3, "type": "LOC", "text": "New York"}],
        "sentence": {
            "location": "train.conll:4", "tokens": ["in", "New", "York"],
            "file": [{"start": 1, "end": 3, "type": "PER", "text": "New York"}],
            "model": [{"start": 1, "end": 3, "type": "LOC", "text": "New York"}],
        },
    }  # fmt: skip
    assert as_text(found, 1).splitlines() == [
        "2 labels contradicted by a test, which confirms 33% of 3 spans in 3 sentences; the 1 most suspicious ones. "
        "It confirms so few that most suspects are probably its own errors: train a better model first",
        "",
        "   where          sure   label in the file  the model's",
        f"1  train.conll:5  {first['confidence']:.3f}  PER New York       LOC New York",
    ]


def test_a_model_that_confirms_half_of_the_labels_gets_no_hint():
    right, wrong = probabilities({"B-PER": 1.0}), probabilities({"B-LOC": 1.0})
    found = suspects_of(
        (example("Anna", "B-PER", 1), [Span(0, 1, "PER")], right),
        (example("Bern", "B-PER", 3), [Span(0, 1, "LOC")], wrong),
    )
    assert as_text(found, 1).splitlines()[0] == (
        "1 label contradicted by a test, which confirms 50% of 2 spans in 2 sentences"
    )


def test_without_a_line_for_each_token_the_place_is_that_of_the_sentence():
    sentence = (example("in Rome", "O O", 7), [Span(1, 2, "LOC")], probabilities({"O": 1}, {"B-LOC": 1}))
    assert suspects_of(sentence, lines=False)["suspects"][0]["location"] == "train.conll:7"


def test_the_probabilities_are_the_mean_over_epochs_that_saw_the_token():
    first, second = (TokenRecord.empty(("O", "B-X", "B-Y"), 3) for _ in range(2))
    first.update(np.array([0, 1]), -np.log([0.5, 0.9]), np.log([0.5 / 0.25, 0.9 / 0.1]), np.array([1, 2]))
    second.update(np.array([0]), -np.log([0.1]), np.log([0.1 / 0.7]), np.array([2]))
    mean = mean_probabilities([first, second], [1, 1], slice(0, 3), np.array([0, 0, 1]))
    np.testing.assert_allclose(mean, [[0.3, (0.25 + 0.2) / 2, (0.25 + 0.7) / 2], [0.9, 0, 0.1], [1 / 3] * 3], atol=2e-3)
    heavier = mean_probabilities([first, second], [3, 1], slice(0, 1), np.array([0]))
    np.testing.assert_allclose(heavier[0, 0], (3 * 0.5 + 0.1) / 4, atol=2e-3)


def test_epochs_that_know_the_labels_by_heart_have_little_weight_and_the_first_has_none():
    records = [TokenRecord.empty(("O", "B-X"), 3) for _ in range(3)]
    for record, probability in zip(records, (0.1, 0.5, 0.999), strict=True):
        loss = np.full(2, -np.log(probability))
        record.update(np.array([0, 1]), loss, loss, np.array([1, 1]))
    used, weights = weighted(records, np.array([True, False, True]))
    assert used == records[1:]
    np.testing.assert_allclose(weights, [0.5, 0.001], rtol=0.01)
    assert weighted(records[:1], np.array([True, True, True]))[0] == records[:1]


def test_the_tasks_of_label_studio_have_both_sides_and_can_be_read_back(tmp_path):
    matrix = probabilities({"B-LOC": 0.9, "B-PER": 0.1}, {"O": 1.0}, {"B-LOC": 0.6, "O": 0.4}, {"B-PER": 1.0})
    sentence = example("Rome likes Bern Anna", "B-PER O O B-PER", 3)
    found = suspects_of((sentence, [Span(0, 1, "LOC"), Span(2, 3, "LOC"), Span(3, 4, "PER")], matrix))
    assert len(found["suspects"]) == 2
    path = tmp_path / "tasks.json"
    path.write_text("".join(tasks(found, 1)), encoding="utf-8")
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert task["data"] == {
        "text": "Rome likes Bern Anna", "location": "train.conll:3", "confidence": found["suspects"][0]["confidence"],
        "suspect": "train.conll:3: PER Rome -> LOC Rome?",
    }  # fmt: skip
    regions = [(r["value"]["text"], r["value"]["labels"]) for r in task["predictions"][0]["result"]]
    assert regions == [("Rome", ["LOC"]), ("Anna", ["PER"])]  # Bern is no suspect among the first one
    examples, _ = read_files([str(path)], ReadOptions())
    assert [e.tokens for e in examples] == [sentence.tokens]
    assert to_spans(examples[0].tags) == to_spans(sentence.tags)
    path.write_text("".join(tasks(found, 5)), encoding="utf-8")
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert len(task["predictions"][0]["result"]) == 3


def test_the_page_shows_the_first_ones_in_order_and_is_escaped():
    matrix = probabilities({"O": 0.2, "B-LOC": 0.8})
    found = suspects_of(*[(example("<b>", "O", line), [Span(0, 1, "LOC")], matrix) for line in range(1, 6)])
    html = as_html(found, "<i>", 3)
    assert re.findall(r"<code>(train\.conll:\d)</code>", html) == [f"train.conll:{n}" for n in (1, 2, 3)]
    assert "<b>nothing → LOC <bdi>&lt;b&gt;</bdi></b>" in html
    assert "&lt;b&gt;" in html
    assert "<i>" not in html.replace("<i style", "")
    assert "entity missing? <b>3</b>" in html
    assert "src=" not in html
    empty = as_html(suspects_of((example("a", "O"), [], matrix)), "x", 3)
    assert "0 labels contradicted by a test" in empty
    assert "fieldset>" not in empty
