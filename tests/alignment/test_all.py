"""Every subword carries a label; a B- goes on as I-, in each scheme."""

from __future__ import annotations

import numpy as np
import pytest

from nerloop.alignment.all import All
from nerloop.alignment.first import First
from nerloop.types import IGNORE, Example

IOB2 = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
BIOES = ("O", "B-LOC", "E-LOC", "I-LOC", "S-LOC")


def labelled(tokenizer, labels, tokens, tags, **options):
    """Return subword and label name of what is labelled."""
    found = []
    for feature in All(tokenizer, labels, **options).split([Example(tuple(tokens), tuple(tags))]):
        names = tokenizer.convert_ids_to_tokens(feature.input_ids.tolist())
        found += [(n, labels[x]) for n, x in zip(names, feature.labels, strict=True) if x != IGNORE]
    return found


@pytest.mark.parametrize(
    ("labels", "tag", "expected"),
    [
        (IOB2, "O", ["O", "O"]),
        (IOB2, "B-LOC", ["B-LOC", "I-LOC"]),
        (IOB2, "I-LOC", ["I-LOC", "I-LOC"]),
        (("O", "I-LOC"), "I-LOC", ["I-LOC", "I-LOC"]),  # IOB1
        (("O", "B-LOC", "I-LOC"), "B-LOC", ["B-LOC", "I-LOC"]),  # IOB1, behind a span of its type
        (("O", "B-LOC"), "B-LOC", ["B-LOC", "B-LOC"]),  # no I-LOC in the data
        (BIOES, "B-LOC", ["B-LOC", "I-LOC"]),
        (BIOES, "I-LOC", ["I-LOC", "I-LOC"]),
        (BIOES, "E-LOC", ["E-LOC", "E-LOC"]),
        (BIOES, "S-LOC", ["S-LOC", "S-LOC"]),
    ],
)
def test_what_the_second_subword_carries(wordpiece, labels, tag, expected):
    assert labelled(wordpiece, labels, ["Brussels"], [tag]) == [("Bru", expected[0]), ("##ssels", expected[1])]


def test_a_type_with_hyphens_goes_on_as_itself(wordpiece):
    """PEERS, defect 8: replacing "B-" by "I-" makes I-CLUI-NAME of B-CLUB-NAME."""
    labels = ("O", "B-CLUB-NAME", "I-CLUB-NAME")
    assert labelled(wordpiece, labels, ["Brussels"], ["B-CLUB-NAME"]) == [
        ("Bru", "B-CLUB-NAME"), ("##ssels", "I-CLUB-NAME"),
    ]  # fmt: skip


def test_a_sentence_with_tokens_of_no_subwords(wordpiece):
    tokens = ["\u200e", "Brussels", "", "is", "Brussels-New"]
    assert labelled(wordpiece, IOB2, tokens, ["O", "B-LOC", "B-PER", "O", "I-LOC"]) == [
        ("Bru", "B-LOC"), ("##ssels", "I-LOC"), ("is", "O"),
        ("Bru", "I-LOC"), ("##ssels", "I-LOC"), ("-", "I-LOC"), ("New", "I-LOC"),
    ]  # fmt: skip


def test_each_subword_is_labelled_in_one_window(wordpiece):
    found = labelled(wordpiece, IOB2, ["Brussels", "is", "Brussels"], ["B-LOC", "O", "B-LOC"], max_length=5, stride=2)
    assert found == [("Bru", "B-LOC"), ("##ssels", "I-LOC"), ("is", "O"), ("Bru", "B-LOC"), ("##ssels", "I-LOC")]


def test_the_first_subword_still_decides(wordpiece):
    sentences = [Example(("Brussels", "", "big"), ("B-LOC", "O", "O")), Example(("New",) * 9), Example(())]
    for ours, theirs in zip(
        All(wordpiece, IOB2, max_length=6).split(sentences),
        First(wordpiece, IOB2, max_length=6).split(sentences),
        strict=True,
    ):
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()


def test_sentences_without_tags_have_no_labels(wordpiece):
    (feature,) = All(wordpiece, IOB2).split([Example(("Brussels",))])
    assert feature.labels.tolist() == [IGNORE] * 4


def test_join_takes_the_first_subword(wordpiece):
    alignment = All(wordpiece, IOB2)
    (feature,) = alignment.split([Example(("Brussels", "is"))])
    scores = np.arange(5)[:, None] * np.ones(5)
    assert alignment.join([feature], [scores])[0].tolist() == [[1] * 5, [3] * 5]
