"""Spans are compared as characters of the source: what tokens can't hold is missed. Worked out by hand."""

from __future__ import annotations

import json
import logging

import numpy as np

from nerloop.data import ReadOptions, read_files
from nerloop.evaluation.pipeline_score import character_spans
from nerloop.evaluation.prediction_files import jsonl_lines
from nerloop.evaluation.predictor import Prediction
from nerloop.evaluators import count_examples
from nerloop.evaluators.seqeval import Seqeval

TEXT = "New York-based Anna met Bo."
#       0   4          15   20  24
GOLD = [[0, 8, "LOC"], [15, 19, "PER"], [24, 26, "PER"]]  # "New York" lies within "New York-based"


def read(tmp_path, **more):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": TEXT, "label": GOLD} | more) + "\n")
    return read_files([str(path)], ReadOptions(tokenizer="words1"))[0]  # whose words have hyphens


def metrics(examples, *predicted: str) -> dict:
    return Seqeval().metrics(count_examples(Seqeval(), examples, [tags.split() for tags in predicted]))


def test_predicting_the_widened_span_is_wrong_and_the_gold_one_is_missed(tmp_path):
    examples = read(tmp_path)
    assert examples[0].tokens == ("New", "York-based", "Anna", "met", "Bo", ".")
    assert examples[0].tags == ("B-LOC", "I-LOC", "B-PER", "O", "B-PER", "O")
    # Just what was trained on: LOC is one false positive and one false negative; both PER are right.
    found = metrics(examples, "B-LOC I-LOC B-PER O B-PER O")
    assert (found["precision"], found["recall"], found["f1"]) == (2 / 3, 2 / 3, 2 / 3)
    assert found["per_type"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert (found["gold_spans"], found["predicted_spans"]) == (3, 3)
    assert found["confusion"] == {"": {"LOC": 1}, "LOC": {"": 1}, "PER": {"PER": 2}}
    assert (found["tokens"], found["accuracy"]) == (6, 1.0)


def test_predicting_nothing_there_misses_it_once(tmp_path):
    found = metrics(read(tmp_path), "O O B-PER O O O")
    assert (found["precision"], found["recall"]) == (1.0, 1 / 3)
    assert (found["gold_spans"], found["predicted_spans"]) == (3, 1)


def test_a_span_over_a_sentence_end_is_one_gold_span(tmp_path):
    examples = read(tmp_path, text="Yahoo! Inc. Bo", label=[[0, 11, "ORG"], [12, 14, "PER"]])
    found = metrics(examples, "B-ORG I-ORG", "B-ORG I-ORG B-PER")
    assert (found["gold_spans"], found["predicted_spans"], found["precision"]) == (2, 3, 1 / 3)
    assert found["recall"] == 0.5


def test_counts_add_up_over_sentences(tmp_path):
    examples = read(tmp_path, text="Yahoo! Inc. Bo", label=[[0, 11, "ORG"], [12, 14, "PER"]])
    predicted = [["B-ORG", "I-ORG"], ["O", "O", "B-PER"]]
    parts = [count_examples(Seqeval(), [e], [p]) for e, p in zip(examples, predicted, strict=True)]
    assert parts[0] + parts[1] == count_examples(Seqeval(), examples, predicted)


def test_an_evaluator_of_tags_alone_gets_tags_alone_and_a_warning_says_so(tmp_path, caplog):
    class Plain:
        main_metric, greater_is_better = "f1", True

        def count(self, gold, predicted):
            return Seqeval().count(gold, predicted)

        def metrics(self, counts):
            return Seqeval().metrics(counts)

    examples = read(tmp_path)
    with caplog.at_level(logging.WARNING):
        counts = count_examples(Plain(), examples, [examples[0].tags])
    assert Seqeval().metrics(counts)["f1"] == 1.0
    assert caplog.messages[1:] == [
        "warning: Plain ignores that some gold spans start or end inside a token; it counts them widened to whole "
        "tokens"
    ]


def test_the_pipelines_gold_leaves_the_widened_span_out(tmp_path):
    assert character_spans(read(tmp_path)[0]) == {(15, 19, "PER"), (24, 26, "PER")}


def test_predictions_say_where_in_the_source_they_are(tmp_path):
    (example,) = read(tmp_path)
    tags = ["B-LOC", "I-LOC", "B-PER", "O", "O", "O"]
    (line,) = jsonl_lines([example], [Prediction({"viterbi": tags}, np.full(6, 0.5))], "viterbi")
    record = json.loads(line)
    location = f"{tmp_path}/x.jsonl:1"
    assert (record["location"], record["document"]) == (location, location)
    assert record["offsets"] == [[0, 3], [4, 14], [15, 19], [20, 23], [24, 26], [26, 27]]
    assert record["character_spans"] == [
        {"start": 0, "end": 14, "type": "LOC", "confidence": 0.5, "text": "New York-based"},
        {"start": 15, "end": 19, "type": "PER", "confidence": 0.5, "text": "Anna"},
    ]
    assert record["gold_character_spans"] == [
        {"start": 15, "end": 19, "type": "PER", "text": "Anna"},
        {"start": 24, "end": 26, "type": "PER", "text": "Bo"},
        {"start": 0, "end": 8, "type": "LOC"},
    ]
