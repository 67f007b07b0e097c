"""A table worked out by hand from conlleval's rules: the rules once more in code, seqeval and our evaluator agree.

cases.jsonl has a case a line. Its "spans" are conlleval's counts by type, [gold, predicted, correct]; "tokens" are
[all, with the right tag]. Where seqeval counts otherwise, "seqeval" says how and "why" why; ours are seqeval's. The
table was held against conlleval.pl of 2004-01-26 itself when it was written.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import get_entities

from nerloop.data import read_files
from nerloop.evaluators.seqeval import Seqeval, divide, scores
from nerloop.tags import PREFIXES_OF, to_spans

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()]
NAMES = [case["case"] for case in CASES]

# Prefix before, prefix: where a chunk starts, and where the one before it ends. Both do where the type changes, too.
STARTS = {"OB", "OI", "OE", "BB", "IB", "EI", "EE"}
ENDS = {"BO", "IO", "EO", "BB", "IB", "EI", "EE"}

Sentences = list[list[str]]


def conlleval(gold: Sentences, found: Sentences) -> tuple[list[int], dict[str, list[int]]]:
    """Return the counts of tokens, and those of spans by type, as conlleval has them: over all sentences in one go."""
    sides = [chunks([tag for tags in side for tag in [*tags, "O"]]) for side in (gold, found)]
    both = sides[0] & sides[1]
    counts = [Counter(type_ for _, _, type_ in chunks) for chunks in (*sides, both)]
    pairs = [pair for tags in zip(gold, found, strict=True) for pair in zip(*tags, strict=True)]
    tokens = [len(pairs), sum(split(a) == split(b) for a, b in pairs)]
    return tokens, {type_: [c[type_] for c in counts] for type_ in sorted(counts[0] | counts[1])}


def chunks(tags: list[str]) -> set[tuple[int, int, str]]:
    """Return the chunks of all tags of a file, each sentence with an O behind it."""
    found: set[tuple[int, int, str]] = set()
    start, before, type_before = -1, "O", ""
    for i, tag in enumerate(tags):
        prefix, type_ = split(tag)
        is_other = type_ != type_before
        if before + prefix in ENDS or (before != "O" and is_other):
            found.add((start, i, type_before))
        if before + prefix in STARTS or (prefix != "O" and is_other):
            start = i
        before, type_before = prefix, type_
    return found


def split(tag: str) -> tuple[str, str]:
    """Return prefix and type; the type 0 is none, since Perl takes it for false."""
    prefix, _, type_ = tag.partition("-")
    return prefix, "" if type_ == "0" else type_


def seqeval(gold: Sentences, found: Sentences) -> dict[str, list[int]]:
    """Return the counts of spans by type as seqeval has them."""
    sides = [{(i, *span) for i, tags in enumerate(side) for span in get_entities(tags)} for side in (gold, found)]
    counts = [Counter(type_ for _, type_, _, _ in spans) for spans in (*sides, sides[0] & sides[1])]
    return {type_: [c[type_] for c in counts] for type_ in sorted(counts[0] | counts[1])}


def ours(gold: Sentences, found: Sentences) -> dict[str, list[int]]:
    """Return the counts of spans by type of our evaluator."""
    counts = Seqeval().count(gold, found)
    types = sorted({key[1] for key in counts if key[0] in ("gold", "predicted")})
    return {t: [counts[side, t] for side in ("gold", "predicted", "correct")] for t in types}


def tags_of(case: dict) -> tuple[Sentences, Sentences]:
    gold, found = ([sentence.split() for sentence in case[side]] for side in ("gold", "found"))
    return gold, found


def test_the_table_has_many_cases_of_each_kind():
    assert len(CASES) == 64
    assert len(set(NAMES)) == 64
    tags = {tag for case in CASES for side in tags_of(case) for sentence in side for tag in sentence}
    assert {tag[0] for tag in tags} == set("OBIES")
    assert sum("seqeval" in case for case in CASES) == 8
    assert {case.keys() - {"seqeval", "why"} == {"case", "gold", "found", "spans", "tokens"} for case in CASES} == {
        True
    }


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_conllevals_rules_give_the_counts_of_the_table(case):
    assert conlleval(*tags_of(case)) == (case["tokens"], case["spans"])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_seqeval_gives_the_counts_of_the_table(case):
    gold, found = tags_of(case)
    assert seqeval(gold, found) == case.get("seqeval", case["spans"])
    num_tokens, num_right = case["tokens"]
    if num_tokens:
        assert accuracy_score(gold, found) == num_right / num_tokens


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_ours_are_the_counts_of_the_table(case):
    gold, found = tags_of(case)
    expected = case.get("seqeval", case["spans"])
    counts = Seqeval().count(gold, found)
    assert ours(gold, found) == expected
    assert [counts["tokens",], counts["correct_tokens",]] == case["tokens"]
    metrics = Seqeval().metrics(counts)
    total = [sum(numbers) for numbers in zip(*expected.values(), strict=True)] or [0, 0, 0]
    assert {name: metrics[name] for name in ("precision", "recall", "f1")} == scores(total[2], total[0], total[1])
    assert metrics["accuracy"] == divide(case["tokens"][1], case["tokens"][0])
    assert (metrics["tokens"], metrics["gold_spans"], metrics["predicted_spans"]) == (case["tokens"][0], *total[:2])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_spans_that_we_write_are_those_of_the_table(case):
    """What stands under "spans" in predictions files comes from nerloop.tags, not from seqeval."""
    for number, side in enumerate(tags_of(case)):
        found = Counter(span.type for tags in side for span in to_spans(tags))
        assert found == Counter({t: n[number] for t, n in case.get("seqeval", case["spans"]).items() if n[number]})


def test_conlleval_and_ours_agree_but_where_the_table_says():
    """On any tags: they differ only where a span meets a B- behind E-, or S-, of its own type."""
    rng = random.Random(0)
    num_equal = num_odd = 0
    for _ in range(3000):
        prefixes = rng.choice(["IOB", "IOE", "BIOES"])
        alphabet = ["O", *(f"{prefix}-{type_}" for prefix in prefixes if prefix != "O" for type_ in ("X", "Y-Y"))]
        gold, found = ([rng.choices(alphabet, k=n) for n in (5, 0, 1, 8)] for _ in range(2))
        meetings = [pair for side in (gold, found) for tags in side for pair in itertools.pairwise(tags)]
        if any(a[1:] == b[1:] and (a[0] + b[0] == "EB" or "S" in a[0] + b[0]) for a, b in meetings):
            num_odd += 1
            continue
        num_equal += 1
        assert ours(gold, found) == conlleval(gold, found)[1]
    assert (num_equal, num_odd) == (2001, 999)


@pytest.mark.parametrize(
    ("tag", "read"), [("L-PER", "E-PER"), ("U-PER", "S-PER"), ("M-PER", "I-PER"), ("W-PER", "S-PER")]
)
def test_tags_of_bilou_and_bmes_are_read_as_bioes_before_they_are_counted(tag, read, tmp_path):
    """To conlleval and seqeval L- and U- would be tags like any others, which merge what they should part."""
    assert "L" not in "".join(PREFIXES_OF.values())
    path = tmp_path / "bilou.conll"
    path.write_text(f"Anna B-PER\nSmith {tag}\n")
    assert read_files([str(path)])[0][0].tags == ("B-PER", read)
