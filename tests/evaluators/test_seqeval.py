"""Our figures are seqeval's to the last digit, from counts that add up."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

from nerloop.evaluators.seqeval import NOTHING, Seqeval, divide, scores

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O"], [], ["B-ORG", "O", "B-PER"]]
FOUND = [["B-PER", "I-PER", "O", "B-ORG"], ["B-LOC"], [], ["B-ORG", "O", "O"]]


def metrics(gold, predicted):
    evaluator = Seqeval()
    return evaluator.metrics(evaluator.count(gold, predicted))


def random_tags(seed: int, tags: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Return gold and predicted tags of 30 sentences; about two in three agree."""
    random = np.random.RandomState(seed)
    gold = [[str(t) for t in random.choice(tags, size=random.randint(0, 12))] for _ in range(30)]
    found = [[t if random.rand() < 0.7 else str(random.choice(tags)) for t in sentence] for sentence in gold]
    return gold, found


CASES = {
    "IOB2": random_tags(1, ["O", "O", "B-PER", "I-PER", "I-PER", "B-LOC", "I-LOC"]),
    "BIOES": random_tags(2, ["O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC"]),
    "many types": random_tags(3, ["O", *(f"{p}-{t}" for p in "BI" for t in "ABCDEFG")]),
    "odd types": random_tags(4, ["O", "B-(none)", "I-(none)", "B-A-B", "I-A-B", "B-_", "B-é x"]),
    "hand-made": (GOLD, FOUND),
    "nothing predicted": (GOLD, [["O"] * len(s) for s in GOLD]),
    "everything wrong": ([["B-PER", "O"]], [["O", "B-PER"]]),
    "perfect": (GOLD, GOLD),
    "one type predicted only": ([["B-PER", "O"]], [["B-PER", "B-LOC"]]),
    "illegal tags": ([["I-PER", "I-LOC", "I-LOC"]], [["I-PER", "I-PER", "B-LOC"]]),
}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_our_figures_are_seqevals(name):
    gold, found = CASES[name]
    ours = metrics(gold, found)
    assert ours["precision"] == precision_score(gold, found)
    assert ours["recall"] == recall_score(gold, found)
    assert ours["f1"] == f1_score(gold, found)
    assert ours["accuracy"] == accuracy_score(gold, found)
    report = classification_report(gold, found, output_dict=True)
    assert sorted(ours["per_type"]) == sorted(report.keys() - {"micro avg", "macro avg", "weighted avg"})
    for type_, figures in ours["per_type"].items():
        theirs = report[type_]
        assert figures == {
            "precision": theirs["precision"], "recall": theirs["recall"], "f1": theirs["f1-score"],
            "support": theirs["support"],
        }  # fmt: skip
    assert ours["gold_spans"] == report["micro avg"]["support"]


def test_a_hand_made_case_in_figures():
    assert metrics(GOLD, FOUND) == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "accuracy": 5 / 8,
        "per_type": {
            "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
            "ORG": {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1},
            "PER": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2},
        },
        "tokens": 8,
        "gold_spans": 4,
        "predicted_spans": 4,
        "confusion": {"": {"LOC": 1}, "LOC": {"ORG": 1}, "ORG": {"ORG": 1}, "PER": {"": 1, "PER": 1}},
    }


def test_the_counts_of_a_hand_made_case():
    assert Seqeval().count([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "B-ORG"]]) == {
        ("tokens",): 4, ("correct_tokens",): 3,
        ("gold", "PER"): 1, ("gold", "LOC"): 1, ("predicted", "PER"): 1, ("predicted", "ORG"): 1,
        ("correct", "PER"): 1, ("confusion", "PER", "PER"): 1, ("confusion", "LOC", "ORG"): 1,
    }  # fmt: skip


def test_counts_hold_no_zeros():
    for gold, found in CASES.values():
        assert all(n > 0 for n in Seqeval().count(gold, found).values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_counts_add_up_over_any_division(name):
    gold, found = CASES[name]
    evaluator = Seqeval()
    whole = evaluator.count(gold, found)
    for num_parts in (2, 3, 7):
        total: Counter = Counter()
        for part in range(num_parts):
            total.update(evaluator.count(gold[part::num_parts], found[part::num_parts]))
        assert total == whole
        assert evaluator.metrics(total) == evaluator.metrics(whole)


def test_the_confusion_counts_spans_of_equal_borders():
    gold = [["B-PER", "I-PER", "O", "B-LOC", "O"]]
    found = [["B-PER", "O", "O", "B-ORG", "B-PER"]]  # the first is too short: it is no confusion of types
    assert metrics(gold, found)["confusion"] == {
        NOTHING: {"PER": 2}, "LOC": {"ORG": 1}, "PER": {NOTHING: 1},
    }  # fmt: skip


def test_the_confusion_holds_all_gold_and_predicted_spans():
    for gold, found in CASES.values():
        ours = metrics(gold, found)
        table = ours["confusion"]
        assert sum(n for t, row in table.items() if t != NOTHING for n in row.values()) == ours["gold_spans"]
        assert sum(n for row in table.values() for t, n in row.items() if t != NOTHING) == ours["predicted_spans"]


def test_a_type_named_none_is_not_mistaken_for_no_span():
    ours = metrics([["B-(none)", "O"]], [["O", "B-(none)"]])
    assert ours["confusion"] == {NOTHING: {"(none)": 1}, "(none)": {NOTHING: 1}}
    assert ours["per_type"] == {"(none)": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}}


def test_a_type_is_all_behind_the_first_hyphen():
    ours = metrics([["B-CLUB-NAME", "I-CLUB-NAME"]], [["B-CLUB-NAME", "I-CLUB-NAME"]])
    assert (list(ours["per_type"]), ours["f1"]) == (["CLUB-NAME"], 1.0)


def test_nothing_at_all_gives_zeros():
    zeros = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.0, "per_type": {}, "tokens": 0,
             "gold_spans": 0, "predicted_spans": 0, "confusion": {}}  # fmt: skip
    assert metrics([], []) == zeros
    assert Seqeval().metrics(Counter()) == zeros


def test_the_metrics_are_plain():
    ours = metrics(*CASES["many types"])
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


def test_sentences_of_unequal_lengths_are_our_bug():
    with pytest.raises(ValueError, match="zip"):
        Seqeval().count([["O", "O"]], [["O"]])
    with pytest.raises(ValueError, match="zip"):
        Seqeval().count([["O"], ["O"]], [["O"]])


def test_scores():
    assert scores(0, 0, 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert scores(1, 2, 4) == {"precision": 0.25, "recall": 0.5, "f1": 1 / 3}
    assert (divide(1, 4), divide(1, 0), divide(0, 0)) == (0.25, 0.0, 0.0)
