"""Each finding: severity, place, what is said."""

import pytest

from nerloop.inspection.finding import Severity, count_of, enumerate_some, percent
from nerloop.inspection.findings import find_all, unreadable
from nerloop.inspection.inspection import Inspection
from nerloop.inspection.parts import Part
from nerloop.inspection.statistics import Statistics
from nerloop.types import Example

PEOPLE = [f"Anna/B-PER Smith{i}/I-PER came/O" for i in range(10)]
"""Sentences of a training split in which nothing is odd."""


@pytest.fixture
def found():
    """Return a function that returns the findings of one kind: (severity, where, message, count, details)."""

    def find(kind, *parts):
        return [
            (str(f.severity), f.where, f.message, f.count, [tuple(d) for d in f.details])
            for f in find_all(parts)
            if f.kind == kind
        ]

    return find


def test_nothing_is_found_where_nothing_is_odd(make_part):
    assert find_all([make_part("train", *PEOPLE), make_part("test", "Eve/B-PER Li/I-PER left/O")]) == []


def test_no_parts_no_findings():
    assert find_all([]) == []


def test_illegal_transitions_name_the_line_of_the_token(found, read_part):
    part = read_part("train", "a B-PER\nb I-PER\n\nc O\nd I-PER\n\ne B-LOC\nf I-PER\n\ng B-PER\n\nh B-LOC\n")
    ((severity, where, message, count, details),) = found("illegal_transition", part)
    assert (severity, where, count) == ("warning", f"{part.path}:5", 2)
    assert message == ("2 tags of the training split violate IOB2: I-PER after B-LOC (1), I-PER after O (1)")
    assert details == [(f"{part.path}:5", "'d': I-PER after O"), (f"{part.path}:8", "'f': I-PER after B-LOC")]


def test_an_open_span_at_the_end_of_a_sentence(found, make_part):
    part = make_part("train", *["a/B-PER b/E-PER"] * 9, "c/O d/B-PER")
    ((_, where, message, _, details),) = found("illegal_transition", part)
    assert where == "train.jsonl:10"
    assert message.endswith("violates BIOES: B-PER at the end of a sentence (1)")
    assert details == [("train.jsonl:10", "'d' (token 2): B-PER at the end of a sentence")]


def test_a_file_in_another_scheme(found, make_part):
    train = make_part("train", *PEOPLE, "a/B-PER b/B-PER")
    dev = make_part("validation", "a/I-PER b/I-PER", "c/I-PER", "d/I-PER")
    assert [f[:3] for f in found("mixed_schemes", train, dev)] == [
        ("warning", "validation.jsonl", "tags are IOB1 here, and IOB2 in all files together")
    ]


def test_leak(found, make_part):
    train = make_part("train", "the/O cat/O saw/O Anna/B-PER ./O", "1/O ./O")
    test = make_part("test", "2/O ./O", "1/O ./O", "the/O cat/O saw/O Anna/B-PER ./O")
    assert found("leak", train, test) == [
        (
            "warning",
            "test.jsonl:3",
            "2 sentences of the test split (66.7%) are in the training split too, 1 of at least 5 tokens",
            2,
            [
                ("test.jsonl:3", "the cat saw Anna . (also train.jsonl:1)"),
                ("test.jsonl:2", "1 . (also train.jsonl:2)"),
            ],
        )
    ]


def test_short_sentences_that_leak_are_no_warning(found, make_part):
    ((severity, *_),) = found("leak", make_part("train", "Rome/B-LOC"), make_part("test", "Rome/B-LOC"))
    assert severity == "info"


def test_leaks_between_any_two_splits(found, make_part):
    parts = [make_part(split, "a/O b/O c/O d/O Rome/B-LOC") for split in ("train", "validation", "test")]
    assert [f[1:3] for f in found("leak", *parts)] == [
        ("validation.jsonl:1", "1 sentence of the validation split (100.0%) is in the training split too, "
         "1 of at least 5 tokens"),
        ("test.jsonl:1", "1 sentence of the test split (100.0%) is in the training split too, "
         "1 of at least 5 tokens"),
        ("test.jsonl:1", "1 sentence of the test split (100.0%) is in the validation split too, "
         "1 of at least 5 tokens"),
    ]  # fmt: skip


def test_duplicates_within_a_split_over_its_files(found, make_part):
    first, second = make_part("train", "a/O b/B-PER"), make_part("train", "a/O b/B-PER", "c/O")
    second.path = "more.jsonl"
    ((severity, where, message, count, details),) = found("duplicate", first, second)
    assert (severity, where, count) == ("info", "train.jsonl:1", 1)
    assert message == "1 sentence of the training split (33.3%) repeats an earlier one, 0 of at least 5 tokens"
    assert details == [("train.jsonl:1", "a b (also train.jsonl:1)")]


def test_empty_sentences_are_no_duplicates(found):
    examples = [Example((), (), f"x:{i}") for i in range(3)]
    assert found("duplicate", Part("train", "x", examples, Statistics.of(examples))) == []


def test_the_same_sentence_with_other_tags(found, make_part):
    train = make_part("train", "in/O Paris/B-LOC", "x/O")
    test = make_part("test", "x/O", "in/O Paris/B-PER")
    assert found("contradiction", train, test) == [
        (
            "warning",
            "test.jsonl:2",
            "1 sentence occurs with different tags",
            1,
            [("test.jsonl:2", "'Paris' is B-PER, but B-LOC at train.jsonl:1: in Paris")],
        )
    ]


def test_one_text_of_several_types_rarest_first(found, make_part):
    part = make_part("train", *["Rome/B-LOC"] * 9, "Rome/B-ORG", "Jordan/B-PER", "Jordan/B-LOC", "Li/B-PER")
    assert found("conflicting_types", part) == [
        (
            "info",
            "train.jsonl:10",
            "2 texts of spans have more than one type, such as 'Rome': LOC 9, ORG 1 (here ORG)",
            2,
            [
                ("train.jsonl:10", "'Rome': LOC 9, ORG 1 (here ORG)"),
                ("train.jsonl:11", "'Jordan': LOC 1, PER 1 (here PER)"),
            ],
        )
    ]


def test_a_text_of_several_types_in_several_files(found, make_part):
    parts = make_part("train", "a/O New/B-ORG York/I-ORG"), make_part("test", "b/O", "New/B-LOC York/I-LOC")
    assert found("conflicting_types", *parts) == [
        (
            "info",
            "train.jsonl:1",
            "1 text of spans has more than one type, such as 'New York': LOC 1, ORG 1 (here ORG)",
            1,
            [("train.jsonl:1", "'New York': LOC 1, ORG 1 (here ORG)")],
        )
    ]


def test_conflicts_as_counted_by_hand(found, make_part):
    import random
    from collections import Counter, defaultdict

    choose = random.Random(0)
    names, types = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", ("PER", "LOC", "ORG")
    rows = [[f"{choose.choice(names)}/B-{choose.choice(types)}" for _ in range(3)] for _ in range(40)]
    parts = make_part("train", *map(" ".join, rows[:20])), make_part("test", *map(" ".join, rows[20:]))
    counts = defaultdict(Counter)
    for name, _, tag in (token.rpartition("/") for row in rows for token in row):
        counts[name][tag[2:]] += 1
    ((*_, count, details),) = found("conflicting_types", *parts)
    assert count == sum(len(counter) > 1 for counter in counts.values())
    for _, text in details:
        listed = dict(entry.rsplit(" ", 1) for entry in text.partition(": ")[2].partition(" (")[0].split(", "))
        assert {type_: int(n) for type_, n in listed.items()} == counts[text[1]]


def test_labels_unseen_in_train(found, make_part):
    train, test = make_part("train", *PEOPLE), make_part("test", "x/O Rome/B-LOC", "Oslo/B-LOC I/B-X")
    assert found("unseen_label", train, test) == [
        (
            "warning",
            "test.jsonl:1",
            "the test split has tags that the training split does not have: B-LOC (2), B-X (1)",
            3,
            [("test.jsonl:1", "'Rome' (token 2): B-LOC"), ("test.jsonl:2", "'I' (token 2): B-X")],
        )
    ]


def test_without_a_training_split_nothing_is_unseen(found, make_part):
    assert found("unseen_label", make_part("test", "Rome/B-LOC")) == []


def test_rare_types(found, make_part):
    ((severity, where, message, count, details),) = found("rare_type", make_part("train", *PEOPLE, "a/O Rome/B-LOC"))
    assert (severity, where, count) == ("info", "train.jsonl:11", 1)
    assert message == "the training split has fewer than 10 spans of LOC (1)"
    assert details == [("train.jsonl:11", "LOC: 'Rome' (token 2)")]


def test_a_training_split_without_entities_is_an_error(found, make_part):
    assert [f[:3] for f in found("no_entities", make_part("train", "a/O"))] == [
        ("error", "train.jsonl", "found no entity in the training split, expected some; is data.tag_column right?")
    ]


def test_another_split_without_entities_is_a_warning(found, make_part):
    assert [f[:3] for f in found("no_entities", make_part("train", *PEOPLE), make_part("test", "a/O"))] == [
        ("warning", "test.jsonl", "the test split has no entity")
    ]


def test_a_split_has_entities_if_one_of_its_files_has(found, make_part):
    assert found("no_entities", make_part("train", *PEOPLE), make_part("train", "a/O")) == []


def test_sentences_of_no_token_and_of_one(found):
    examples = [Example((), (), "x:1"), Example(("Rome",), ("B-LOC",), "x:2"), Example(("a", "b"), ("O", "O"), "x:3")]
    part = Part("test", "x", examples, Statistics.of(examples))
    assert found("empty_sentence", part) == [
        (
            "info",
            "x:1",
            "1 sentence without a token in the test split (33.3% of its sentences)",
            1,
            [("x:1", "(empty)")],
        )
    ]
    assert found("one_token_sentence", part) == [
        ("info", "x:2", "1 sentence of one token in the test split (33.3% of its sentences)", 1, [("x:2", "Rome")])
    ]


def test_tokens_without_a_character(found):
    examples = [Example(("a", ""), ("B-PER", "O"), "x:1")]
    assert found("empty_token", Part("train", "x", examples, Statistics.of(examples))) == [
        ("warning", "x:1", "1 token without a character in the training split", 1, [("x:1", "'' (token 2) in: a ")])
    ]


def test_errors_come_first(make_part):
    findings = Inspection.of([make_part("train", *PEOPLE, "x/O")], unreadable("b.conll", ["b.conll: no such file"]))
    assert [str(f.severity) for f in findings.findings] == ["error", "info"]
    assert findings.has_errors
    assert findings.count(Severity.INFO) == 1


@pytest.mark.parametrize(
    ("path", "message", "where", "rest"),
    [
        ("a.conll", "a.conll:7: found X", "a.conll:7", "found X"),
        ("a.conll", "a.conll: no such file", "a.conll", "no such file"),
        ("a.conll", "data.format: found 'x'", "a.conll", "data.format: found 'x'"),
        ("a\n.conll", "a\\n.conll:3: found X", "a\\n.conll:3", "found X"),
        ("a.json", "a.json:3 (record 2): found X", "a.json:3 (record 2)", "found X"),
        ("b", "b/a.ann:3: found X", "b/a.ann:3", "found X"),
        ("a:1.conll", "a:1.conll:3: found X", "a:1.conll:3", "found X"),
    ],
)
def test_the_place_of_what_can_not_be_read(path, message, where, rest):
    (finding,) = unreadable(path, [message])
    assert (finding.where, finding.message) == (where, rest)


def test_the_last_of_several_errors_says_that_the_file_is_not_inspected():
    first, last = unreadable("a", ["a:1: bad", "a:3: worse"])
    assert first.action == "stops before training"
    assert last.action == "stops before training; the file is not inspected"


def test_a_finding_is_one_line_whatever_the_data_hold(make_part):
    part = make_part("train", *PEOPLE)
    part.path = "a\nb"
    test = make_part("test", "x/O")
    test.path = "c\u202ed"
    assert [f.line for f in find_all([part, test]) if f.kind == "no_entities"] == [
        "c\\u202ed: the test split has no entity"
    ]


def test_figures_in_words():
    assert (count_of(1, "tag"), count_of(1200, "tag")) == ("1 tag", "1,200 tags")
    assert (percent(1, 8), percent(1, 10_000), percent(0, 0)) == ("12.5%", "< 0.1%", "0.0%")
    assert enumerate_some(list("ABCDEFG")) == "A, B, C, D, E and 2 more"
