"""The whole analysis of a few sentences, gold spans inside tokens, and predictions files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nerloop.errors import DataError, PluginError
from nerloop.evaluation.prediction_files import jsonl_lines, missed_spans
from nerloop.evaluation.predictor import Prediction
from nerloop.evaluation.report.analysis import Analysis
from nerloop.evaluation.report.as_text import as_text, errors_by_type_table
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.evaluation.report.predictions import read_predictions
from nerloop.evaluation.report.sentences import ScoredSentence, example_of
from nerloop.evaluators.seqeval import Seqeval
from nerloop.types import Example, Span

EXAMPLES = [
    Example(("Anna", "Li", "saw", "Rome", "."), ("B-PER", "I-PER", "O", "B-LOC", "O"), "x:1"),
    Example(("Bank", "of", "Peru", "grew"), ("B-ORG", "I-ORG", "I-ORG", "O"), "x:6"),
    Example(("It", "rained"), ("O", "O"), "x:11"),
]
TAGS = [["B-PER", "O", "O", "O", "O"], ["B-ORG", "I-ORG", "I-ORG", "O"], ["O", "B-LOC"]]
PROBABILITIES = [[0.75, 0.5, 0.5, 0.875, 0.5], [0.5, 0.75, 1.0, 0.5], [0.5, 0.625]]
TAGGED = [Prediction({"v": t}, np.array(p)) for t, p in zip(TAGS, PROBABILITIES, strict=True)]


def analysed(names: TrainingNames | None = None) -> dict:
    analysis = Analysis(names)
    for example, tagged in zip(EXAMPLES, TAGGED, strict=True):
        analysis.add(example, tagged.spans("v"), missed_spans(example, tagged, "v"))
    evaluator = Seqeval()
    return analysis.to_json(evaluator.metrics(evaluator.count([e.tags for e in EXAMPLES], TAGS)))


def test_the_keys_of_the_result():
    found = analysed()
    assert set(found) == {
        "sentences", "scores", "interval", "partial", "errors", "errors_by_type", "errors_with_other_type", "by",
        "calibration", "mistakes",
    }  # fmt: skip
    assert found["sentences"] == 3
    assert found["scores"]["f1"] == found["partial"]["strict"]["f1"] == pytest.approx(1 / 3)
    assert set(found["interval"]) == {"precision", "recall", "f1", "per_type"}
    assert set(found["interval"]["per_type"]) == {"LOC", "ORG", "PER"}
    assert json.loads(json.dumps(found)) == found


def test_the_errors_and_their_confidence():
    found = analysed()
    assert {kind: n for kind, n in found["errors"].items() if n} == {"missed": 1, "spurious": 1, "too_short": 1}
    by_type = {type_: {kind: n for kind, n in of.items() if n} for type_, of in found["errors_by_type"].items()}
    assert by_type == {"LOC": {"missed": 1, "spurious": 1}, "PER": {"too_short": 1}}
    rows, headings = errors_by_type_table(found)
    assert headings == ("type", "missed", "spurious", "too short", "all")
    assert rows == [("LOC", "1", "1", "0", "2"), ("PER", "0", "0", "1", "1")]
    assert found["mistakes"] == [
        {
            "location": "x:1",
            "tokens": ["Anna", "Li", "saw", "Rome", "."],
            "gold": [{"start": 0, "end": 2, "type": "PER"}, {"start": 3, "end": 4, "type": "LOC"}],
            "predicted": [{"start": 0, "end": 1, "type": "PER", "confidence": 0.75}],
            "errors": [
                {"kind": "too_short", "gold": [0], "predicted": [0], "confidence": 0.75},
                {"kind": "missed", "gold": [1], "predicted": [], "confidence": 0.875},
            ],
        },
        {
            "location": "x:11", "tokens": ["It", "rained"], "gold": [],
            "predicted": [{"start": 1, "end": 2, "type": "LOC", "confidence": 0.625}],
            "errors": [{"kind": "spurious", "gold": [], "predicted": [0], "confidence": 0.625}],
        },
    ]  # fmt: skip


def test_without_an_error_there_is_no_table_of_them_by_type():
    analysis = Analysis()
    analysis.add(EXAMPLES[0], [{"start": 0, "end": 2, "type": "PER", "confidence": 0.9},
                               {"start": 3, "end": 4, "type": "LOC", "confidence": 0.9}])  # fmt: skip
    evaluator = Seqeval()
    found = analysis.to_json(evaluator.metrics(evaluator.count([EXAMPLES[0].tags], [EXAMPLES[0].tags])))
    assert found["errors_by_type"] == {}
    assert "\ntype  all" not in as_text(found)


def test_the_errors_of_many_types_end_with_the_rest():
    kinds = {"missed": 1, "spurious": 0}
    found = {"errors": {"missed": 33, "spurious": 0}, "errors_by_type": {f"T{i:02}": kinds for i in range(33)}}
    rows, headings = errors_by_type_table(found)
    assert headings == ("type", "missed", "all")
    assert (len(rows), rows[0], rows[-1]) == (31, ("T00", "1", "1"), ("3 more", "3", "3"))


def test_breakdowns_with_and_without_the_training_data():
    assert analysed()["by"]["surface"] is None
    assert analysed()["by"]["type_frequency"] is None
    by = analysed(TrainingNames.of([Example(("Rome", "Bank", "of", "Peru"), ("B-LOC", "B-LOC", "I-LOC", "I-LOC"))]))[
        "by"
    ]
    recalls = {name: {b: (of["correct"], of["gold"]) for b, of in found.items()} for name, found in by.items()}
    assert recalls == {
        "surface": {"same_type": (0, 1), "other_type": (1, 1), "unseen": (0, 1)},
        "entity_length": {"1": (0, 1), "2": (0, 1), "3": (1, 1)},
        "sentence_length": {"1-10": (1, 3)},
        "type_frequency": {"0": (1, 2), "1-9": (0, 1)},
    }
    assert by["entity_length"]["1"]["predicted"] == 2
    assert all(of["gold"] for of in [sum_of(found) for found in by.values()])


def sum_of(found: dict) -> dict[str, int]:
    """Return the totals of a breakdown, which are those of all spans."""
    total = {name: sum(of[name] for of in found.values()) for name in ("gold", "predicted", "correct")}
    assert total == {"gold": 3, "predicted": 3, "correct": 1}
    return total


def test_the_calibration_takes_confidences_before_calibration_where_there_are_some():
    analysis = Analysis()
    analysis.add(EXAMPLES[0], [{"start": 0, "end": 2, "type": "PER", "confidence": 1.0, "uncalibrated": 0.6}])
    found = analysis.to_json({})["calibration"]
    assert found["ece"] == 0.0
    assert found["ece_uncalibrated"] == pytest.approx(0.4)


IN_TEXT = Example(
    ("York-based", "Li"), ("B-LOC", "B-PER"), "t:1", "t", ((4, 14), (15, 17)),
    missed=(Span(4, 8, "LOC"),), widened=(Span(0, 1, "LOC"),),
)  # fmt: skip


def test_a_gold_span_inside_a_token_cuts_it():
    sentence = ScoredSentence.of(IN_TEXT, [{"start": 0, "end": 1, "type": "LOC", "confidence": 0.5}])
    assert list(sentence.tokens) == ["York", "-based", "Li"]
    assert sentence.gold == [Span(0, 1, "LOC"), Span(2, 3, "PER")]
    assert sentence.predicted == [Span(0, 2, "LOC")]
    assert sentence.num_tokens == 2
    assert sentence.text(sentence.gold[0]) == "York"


def test_a_predictions_file_gives_what_the_sentences_gave(tmp_path):
    examples = [*EXAMPLES, IN_TEXT]
    tagged = [*TAGGED, Prediction({"v": ["B-LOC", "B-PER"]}, np.array([0.5, 0.5]))]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(jsonl_lines(examples, tagged, "v")))
    assert example_of(json.loads(path.read_text().splitlines()[-1]), "").missed == IN_TEXT.missed
    analysis, metrics = read_predictions(str(path), None)
    found = analysis.to_json(metrics)
    assert found["scores"]["f1"] == found["partial"]["strict"]["f1"] == pytest.approx(2 * 2 / (5 + 5))
    assert {kind: n for kind, n in found["errors"].items() if n} == {
        "missed": 1, "spurious": 1, "too_short": 1, "too_long": 1
    }  # fmt: skip
    assert found["mistakes"][0]["location"] == f"{path}:1"
    assert found["mistakes"][-1]["location"] == "t:1"
    assert found["mistakes"][0]["errors"] == analysed()["mistakes"][0]["errors"]


GOOD = {"tokens": ["a"], "gold": ["B-X"], "tags": ["O"], "spans": []}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({k: v for k, v in GOOD.items() if k != "gold"}, "found no gold tags, expected predictions for annotated"),
        ({**GOOD, "gold": []}, "not a prediction that nerloop wrote: 'tokens, gold and tags differ in number'"),
        ({**GOOD, "gold": ["X"]}, "not a prediction that nerloop wrote: \"'X' is not a tag"),
        ({**GOOD, "spans": [{"start": 0, "end": 5, "type": "X", "confidence": 1}]}, "not a prediction that"),
        ({**GOOD, "spans": [{"start": -1, "end": 1, "type": "X", "confidence": 1}]}, "not a prediction that"),
        ({**GOOD, "spans": [{"start": 0, "end": 1, "type": "X"}]}, "not a prediction that nerloop wrote: \"no 'con"),
        ({**GOOD, "spans": 3}, "not a prediction that"),
        ({k: v for k, v in GOOD.items() if k != "spans"}, "not a prediction that nerloop wrote: \"no 'spans'\""),
        ([1], "not a prediction that"),
    ],
)  # fmt: skip
def test_a_bad_predictions_file_is_one_line(tmp_path, record, problem):
    path = tmp_path / "p.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(record)}\n")
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}:2: {re.escape(problem)}"):
        read_predictions(str(path), None)


def test_an_own_evaluator_is_named_where_it_fails_on_a_sound_predictions_file(tmp_path):
    class Failing(Seqeval):
        def count(self, gold, predicted):
            raise KeyError("X")

    path = tmp_path / "p.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n")
    with pytest.raises(PluginError, match=r"^evaluator \S+Failing: count: KeyError: 'X'$"):
        read_predictions(str(path), None, Failing())


def test_an_empty_predictions_file_is_one_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match="found no sentence"):
        read_predictions(str(path), None)


def test_the_text_has_every_table():
    text = as_text(analysed(TrainingNames.of(EXAMPLES)))
    assert "LOC      0.0000  0.0000  0.0000  0.0000 to 0.6576        1\n" in text
    assert "partial      0.5000  0.5000  0.5000        1          0        1       1         1\n" in text
    assert "\nspurious         1  33.3%           0\n" in text
    assert "\nwith this type                      3  0.3333" in text
    assert "\n\nexpected calibration error 0.3750" in text
