"""Figures as text, and predictions as files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nerloop.alignment.all import All
from nerloop.alignment.first import First
from nerloop.config import Config, DataSettings, ModelSettings, Plugin
from nerloop.data import ReadOptions, read_files
from nerloop.data.escapes import escape, unescape
from nerloop.evaluation.model_card import model_card
from nerloop.evaluation.prediction_files import conll_lines, jsonl_lines, writer, writing_predictions
from nerloop.evaluation.predictor import Prediction
from nerloop.evaluation.tables import (
    confusion_rows,
    evaluation_markdown,
    example_line,
    final_report,
    markdown_table,
    metrics_table,
    plain_table,
)
from nerloop.types import Example

FIRST: Any = First  # the card asks for attributes of the class alone
ALL: Any = All

METRICS = {
    "precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "accuracy": 0.9,
    "per_type": {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "PER": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2},
    },
    "tokens": 10, "gold_spans": 3, "predicted_spans": 4,
    "confusion": {"": {"LOC": 1}, "LOC": {"ORG": 1}, "PER": {"PER": 2}},
}  # fmt: skip
EXAMPLES = [
    Example(("Anna", "likes", "New York", "", "\\"), ("B-PER", "O", "B-LOC", "O", "O")),
    Example((), ()),
    Example(("é",), ("O",)),
]
TAGGED = [
    Prediction({"viterbi": ["B-PER", "O", "B-LOC", "I-LOC", "O"]}, np.array([0.5, 1, 0.5, 1, 1])),
    Prediction({"viterbi": []}, np.zeros(0)),
    Prediction({"viterbi": ["O"]}, np.ones(1)),
]


def test_the_table_per_type():
    assert metrics_table(METRICS)[0] == [
        ("LOC", "0.0000", "0.0000", "0.0000", "1"),
        ("PER", "1.0000", "1.0000", "1.0000", "2"),
        ("all", "0.5000", "0.6667", "0.5714", "3"),
    ]


def test_an_evaluator_may_have_no_types():
    assert metrics_table({"precision": 1.0, "recall": 0.5, "f1": 0.75})[0] == [
        ("all", "1.0000", "0.5000", "0.7500", "")
    ]


def test_a_plain_table():
    assert plain_table(*metrics_table(METRICS)) == (
        "type  precision  recall      f1  support\n"
        "LOC      0.0000  0.0000  0.0000        1\n"
        "PER      1.0000  1.0000  1.0000        2\n"
        "all      0.5000  0.6667  0.5714        3"
    )


def test_a_markdown_table():
    assert markdown_table([["a|b", "1"], ["c\\", "2"]], ["type", "f1"]) == (
        "| type | f1 |\n| --- | ---: |\n| a\\|b | 1 |\n| c\\\\ | 2 |"
    )


def test_the_confusion():
    assert confusion_rows(METRICS) == (
        [
            ["LOC", "0", "1", "0", "0"],
            ["ORG", "0", "0", "0", "0"],
            ["PER", "0", "0", "2", "0"],
            ["(no such span)", "1", "0", "0", "-"],
        ],
        ["gold \\ predicted", "LOC", "ORG", "PER", "(no equal borders)"],
    )


def test_the_confusion_of_nothing():
    assert confusion_rows({}) == ([["(no such span)", "-"]], ["gold \\ predicted", "(no equal borders)"])


def test_the_evaluation_in_tensorboard():
    text = evaluation_markdown(METRICS)
    assert text.startswith("| type | precision | recall | f1 | support |\n| --- | ---: | ---: | ---: | ---: |\n| LOC |")
    assert "\n\n| gold \\\\ predicted | LOC | ORG | PER | (no equal borders) |\n" in text


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("Anna", "Anna"), ("", "␛"), ("New York", r"␛New\sYork"), ("\\", "\\"), (r"\e", r"\e"), (r"\ ", r"␛\\\s"),
        ("a\tb\nc\rd", r"␛a\tb\nc\rd"), ("␛", "␛␛"), ("a␛", "a␛"),
        ("a\0b", r"␛a\0b"), ("\ufeffA", r"␛\bA"),
        ("\u00a0", "\u00a0"), ("\u2028", "\u2028"), ("-DOCSTART-", "␛-DOCSTART-"),
    ],
)  # fmt: skip
def test_escape(token, expected):
    assert escape(token) == expected
    assert unescape(expected) == token


@pytest.mark.parametrize("token", ["\\", r"\e", r"C:\temp\new", r"a\sb", "\\\\", "-"])
def test_backslashes_in_files_of_other_tools_stay_as_they_are(token):
    assert unescape(token) == token


def test_different_tokens_look_different():
    tokens = ["", r"\e", "\\", r"\\", " ", r"\s", "s", "\t", r"\t", "\\ ", r"\\s", "\0", r"\0", "\ufeff", r"\b"]
    assert len({escape(token) for token in tokens}) == len(tokens)


def test_conll_lines():
    assert "".join(conll_lines(EXAMPLES, TAGGED, "viterbi")) == (
        "Anna B-PER B-PER\nlikes O O\n␛New\\sYork B-LOC B-LOC\n␛ O I-LOC\n\\ O O\n\n\né O O\n\n"
    )


def test_conll_lines_without_gold_tags():
    assert list(conll_lines([Example(("é",))], TAGGED[2:], "viterbi")) == ["é O\n", "\n"]


def test_what_is_written_can_be_read(tmp_path):
    path = tmp_path / "predictions.conll"
    tokens = ("\ufeffAnna", "\u2028", "\u00a0", "\x85", "\x0b", "a\tb", "", "a\0b")
    lines = conll_lines([Example(tokens, ("O",) * 8)], [Prediction({"v": ["B-X"] * 8}, np.ones(8))], "v")
    path.write_text("".join(lines), encoding="utf-8")
    (read,) = read_files([str(path)], ReadOptions(tag_column="-1"))[0]
    assert read.tokens == tokens
    assert read.tags == ("B-X",) * 8
    (gold,) = read_files([str(path)], ReadOptions(tag_column="1"))[0]
    assert gold.tags == ("O",) * 8


def test_jsonl_lines():
    lines = list(jsonl_lines(EXAMPLES, TAGGED, "viterbi"))
    assert lines[2] == '{"tokens": ["é"], "gold": ["O"], "tags": ["O"], "spans": []}\n'
    assert json.loads(lines[1]) == {"tokens": [], "tags": [], "spans": []}
    assert json.loads(lines[0]) == {
        "tokens": ["Anna", "likes", "New York", "", "\\"],
        "gold": ["B-PER", "O", "B-LOC", "O", "O"],
        "tags": ["B-PER", "O", "B-LOC", "I-LOC", "O"],
        "spans": [
            {"start": 0, "end": 1, "type": "PER", "confidence": 0.5, "text": "Anna"},
            {"start": 2, "end": 4, "type": "LOC", "confidence": 0.75, "text": "New York "},
        ],
    }


def test_predictions_are_written_in_both_forms_as_they_come(tmp_path):
    with writing_predictions(tmp_path / "p.1", "viterbi") as write:
        write(EXAMPLES[:2], TAGGED[:2])
        write(EXAMPLES[2:], TAGGED[2:])
    assert (tmp_path / "p.1.jsonl").read_text(encoding="utf-8") == "".join(jsonl_lines(EXAMPLES, TAGGED, "viterbi"))
    assert (tmp_path / "p.1.conll").read_text(encoding="utf-8") == "".join(conll_lines(EXAMPLES, TAGGED, "viterbi"))


def test_borders_of_documents_stand_in_the_column_form():
    examples = [replace(EXAMPLES[2], document=d) for d in ("", "a", "a", "b")]
    tagged = [TAGGED[2]] * 4
    lines: list[str] = []
    write = writer(lines.extend, "conll", "viterbi")
    write(examples[:2], tagged[:2])
    write(examples[2:], tagged[2:])
    assert "".join(lines) == ("é O O\n\n-DOCSTART- O O\n\né O O\n\né O O\n\n-DOCSTART- O O\n\né O O\n\n")
    first, *_ = conll_lines([replace(examples[1], tags=())], tagged[:1], "viterbi")
    assert first == "-DOCSTART- O\n\n"
    without: list[str] = []
    writer(without.extend, "conll", "viterbi", with_documents=False)(examples, tagged)
    assert "".join(without) == "é O O\n\n" * 4


def test_the_entities_of_one_sentence():
    assert example_line(EXAMPLES[0].tokens, TAGGED[0], "viterbi") == (
        "found in: Anna likes New York  \\\n  PER   Anna  (0.50)\n  LOC   New York   (0.75)"
    )
    assert example_line(("é",), TAGGED[2], "viterbi") == "found in: é\n  nothing"
    assert example_line(("a\n\x1b[2J",), TAGGED[2], "viterbi") == "found in: a\\n\\x1b[2J\n  nothing"


VITERBI = {"viterbi": METRICS}
RESULTS = {
    "validation": {"last": VITERBI, "best": VITERBI, "pipeline": {"simple": 0.25, "first": 0.5, "sentences": 40}},
    "decoding": "viterbi",
    "best_step": 7,
}
CONFIG = Config(
    model=ModelSettings(name_or_path="org/encoder"),
    data=DataSettings(train="news/train.conll"),
    alignment=Plugin("first"),
)


def test_the_final_report(tmp_path):
    text = final_report({**RESULTS, "test": {"best": {"viterbi": METRICS}}}, tmp_path, entities="found in: ...")
    assert text.startswith("test (viterbi, model of step 7)\n\ntype  precision  recall      f1  support\nLOC ")
    assert text.count("gold \\ predicted") == 1
    assert "\n\nvalidation (viterbi, model of step 7)\n\n" in text
    assert (
        "transformers' pipeline on 40 validation sentences, F1 by aggregation strategy: "
        "simple 0.2500, first 0.5000\n\nfound in" in text
    )
    assert text.endswith(
        f"model        {tmp_path}/model\nreport       {tmp_path}/report.html\n"
        f"predict      python -m nerloop.predict --model {tmp_path}/model FILE\n"
        f"TensorBoard  tensorboard --logdir {tmp_path.parent}"
    )


def test_the_final_report_without_held_out_data(tmp_path):
    assert final_report({"decoding": "viterbi", "best_step": 7}, tmp_path).startswith("model        ")


def test_the_final_report_names_tensorboard_only_where_it_was_written(tmp_path):
    assert "TensorBoard" not in final_report(RESULTS, tmp_path, has_tensorboard=False)


def test_the_model_card():
    card = model_card(CONFIG, RESULTS, ("O", "B-PER", "I-PER", "B-CLUB-NAME"), FIRST)
    assert card.startswith(
        "---\nbase_model: org/encoder\nlibrary_name: transformers\npipeline_tag: token-classification\n"
        "tags:\n- named-entity-recognition\n- nerloop\n"
        "model-index:\n- name: encoder-news\n  results:\n  - task:\n      type: token-classification\n"
        "      name: Named entity recognition\n    dataset:\n      name: news\n      type: news\n"
        "      split: validation\n    metrics:\n    - type: f1\n      value: 0.571429\n      name: F1\n"
    )
    assert (
        "\n---\n\n# Named entities: CLUB-NAME, PER\n\n"
        "Fine-tuned with nerloop from `org/encoder` on `news/train.conll`.\n\n"
        "On the validation split, decoded with `viterbi`:\n\n| type | precision |" in card
    )
    assert "| all | 0.5000 | 0.6667 | 0.5714 | 3 |" in card
    assert (
        "F1 of transformers' pipeline on 40 validation sentences: `simple` 0.2500, `first` 0.5000 "
        "(nerloop on the whole split: 0.5714). " in card
    )
    assert "`simple` reads every subword, but only the first one of each token was trained" in card
    assert card.endswith("it cuts text at the model's limit.\n")


def test_the_card_takes_the_test_split_where_there_is_one():
    better = {**METRICS, "f1": 0.75}
    card = model_card(CONFIG, {**RESULTS, "test": {"best": {"viterbi": better}}}, ("O",), FIRST)
    assert "On the test split, decoded with `viterbi`:" in card
    assert "| all | 0.5000 | 0.6667 | 0.7500 | 3 |" in card
    assert "nerloop on the whole split: 0.5714" in card  # beside the pipeline's on the validation split


def test_the_card_of_a_model_that_trains_all_subwords():
    assert "every subword" not in model_card(CONFIG, RESULTS, ("O",), ALL)


def test_the_card_of_a_folder_and_of_the_demo_names_no_hub_model(tmp_path):
    local = Config(model=ModelSettings(name_or_path=str(tmp_path)), data=DataSettings(train="a.conll"))
    bare = {"decoding": "viterbi", "best_step": 7}
    assert "base_model" not in model_card(local, bare, ("O",), ALL)
    card = model_card(Config(), bare, ("O", "B-PER"), ALL)
    assert "base_model" not in card
    assert "from `a small encoder with random weights (nerloop's demo)` on `demo`" in card
    assert "validation sentences" not in card
