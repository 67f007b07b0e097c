"""The first subword of each token carries its label and decides for it."""

from __future__ import annotations

import numpy as np
import pytest

from nerloop.alignment.first import First
from nerloop.errors import ConfigError
from nerloop.types import IGNORE as NO
from nerloop.types import Example

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
OUT, PER, I_PER, LOC, I_LOC = range(5)


def example(*lines: str) -> Example:
    """Return a sentence of tokens with tags, such as "Brussels B-LOC"."""
    tokens, tags = zip(*(line.rsplit(" ", 1) for line in lines), strict=True)
    return Example(tokens, tags)


def rows(tokenizer, feature):
    """Return subword, label and decided token, a tuple a subword."""
    subwords = tokenizer.convert_ids_to_tokens(feature.input_ids.tolist())
    return list(zip(subwords, feature.labels.tolist(), feature.tokens.tolist(), strict=True))


def test_first_labels_only_the_first_subword(wordpiece):
    (feature,) = First(wordpiece, LABELS).split([example("Brussels B-LOC", "is O", "big O", ". O")])
    assert rows(wordpiece, feature) == [
        ("[CLS]", NO, -1), ("Bru", LOC, 0), ("##ssels", NO, -1), ("is", OUT, 1), ("big", OUT, 2), (".", OUT, 3),
        ("[SEP]", NO, -1),
    ]  # fmt: skip
    assert (feature.atom, feature.examples, feature.num_tokens, len(feature)) == (0, (0,), (4,), 7)
    assert {a.dtype for a in (feature.input_ids, feature.labels, feature.tokens)} == {np.dtype(np.int64)}


def test_first_of_bytes(byte_level):
    (feature,) = First(byte_level, LABELS).split([example("New B-LOC", "é I-LOC")])
    assert rows(byte_level, feature) == [
        ("<s>", NO, -1), ("ĠNew", LOC, 0), ("Ġ", I_LOC, 1), ("Ã", NO, -1), ("©", NO, -1), ("</s>", NO, -1),
    ]  # fmt: skip


def test_two_tokens_that_look_like_one_stay_two(wordpiece):
    (feature,) = First(wordpiece, LABELS).split([example("New B-LOC", "New B-LOC")])
    assert rows(wordpiece, feature)[1:-1] == [("New", LOC, 0), ("New", LOC, 1)]


def test_sentences_without_tags_have_no_labels_but_all_that_decides(wordpiece):
    (feature,) = First(wordpiece, LABELS).split([Example(("Brussels", "is"))])
    assert feature.labels.tolist() == [NO] * 5
    assert feature.tokens.tolist() == [-1, 0, -1, 1, -1]


def test_tokens_without_subwords_take_part_all_the_same(wordpiece):
    """PEERS, defect 7: of these five tokens, the usual recipe keeps two."""
    alignment = First(wordpiece, LABELS)
    (feature,) = alignment.split([example("\u200e O", "Anna B-PER", " I-PER", "\ufffd O", "big O")])
    assert rows(wordpiece, feature) == [
        ("[CLS]", NO, -1), ("Anna", PER, 1), ("big", OUT, 4), ("[SEP]", NO, -1),
    ]  # fmt: skip
    assert feature.num_tokens == (5,)
    joined = alignment.join([feature], [np.array([[0.0] * 5, [-1, -2, -3, -4, -5], [-5, -4, -3, -2, -1], [0] * 5])])
    assert joined[0].tolist() == [[0] * 5, [-1, -2, -3, -4, -5], [0] * 5, [0] * 5, [-5, -4, -3, -2, -1]]


def test_an_empty_sentence_is_one_feature_of_special_tokens(wordpiece):
    features = First(wordpiece, LABELS).split([Example(()), Example(("\u200b", ""), ("O", "O"))])
    assert [rows(wordpiece, f) for f in features] == [[("[CLS]", NO, -1), ("[SEP]", NO, -1)]] * 2
    assert [f.num_tokens for f in features] == [(0,), (2,)]


def test_nothing_of_a_long_sentence_is_lost(wordpiece):
    """PEERS, defect 6: the usual recipe cuts at max_length, in the gold tags as well."""
    sentence = Example(("big",) * 10, tuple(LABELS[i % 5] for i in range(10)))
    features = First(wordpiece, LABELS, max_length=8, stride=2).split([sentence])
    assert [len(f) for f in features] == [8, 8]
    assert [f.tokens.tolist() for f in features] == [
        [-1, 0, 1, 2, 3, 4, -1, -1], [-1, -1, 5, 6, 7, 8, 9, -1],
    ]  # fmt: skip
    assert [f.labels.tolist() for f in features] == [[NO, 0, 1, 2, 3, 4, NO, NO], [NO, NO, 0, 1, 2, 3, 4, NO]]
    assert [(f.atom, f.examples, f.num_tokens) for f in features] == [(0, (0,), (10,))] * 2


def test_windows_of_a_long_sentence_join_to_the_scores_of_all_its_tokens(wordpiece):
    alignment = First(wordpiece, LABELS, max_length=8, stride=2)
    features = alignment.split([Example(("is",)), Example(("big",) * 10), Example(("in",) * 2)])
    scores = [np.repeat(f.tokens[:, None] * 1.0 + 100 * f.atom, 5, axis=1) for f in features]
    joined = alignment.join(features[::-1], scores[::-1])
    assert {i: rows[:, 0].tolist() for i, rows in sorted(joined.items())} == {
        0: [0], 1: [100 + t for t in range(10)], 2: [200, 201],
    }  # fmt: skip


def test_a_token_longer_than_a_window_is_decided_once(wordpiece):
    features = First(wordpiece, LABELS, max_length=6, stride=1).split([example("a.a.a.a.a. B-LOC", "big O")])
    assert [f.tokens.tolist() for f in features] == [
        [-1, 0, -1, -1, -1, -1], [-1, -1, -1, -1, -1, -1], [-1, -1, -1, -1, -1, -1], [-1, -1, -1, -1, 1, -1],
    ]  # fmt: skip
    assert [f.labels[f.labels != NO].tolist() for f in features] == [[LOC], [], [], [OUT]]


def test_atoms_and_examples_count_on(wordpiece):
    sentences = [Example(("is",)), Example(("big",) * 5), Example(())]
    features = First(wordpiece, LABELS, max_length=5, stride=0).split(sentences)
    assert [(f.atom, f.examples, f.num_tokens) for f in features] == [
        (0, (0,), (1,)), (1, (1,), (5,)), (1, (1,), (5,)), (2, (2,), (0,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "expected"), [(24, (24, 5)), (512, (512, 127)), (4096, (512, 127)), (10**30, (512, 127))]
)
def test_a_window_is_the_models_limit_and_at_most_512(wordpiece, limit, expected):
    wordpiece.model_max_length = limit
    alignment = First(wordpiece, LABELS)
    assert (alignment.max_length, alignment.stride) == expected


def test_a_model_may_be_asked_for_more_than_512(wordpiece):
    wordpiece.model_max_length = 4096
    (feature,) = First(wordpiece, LABELS, max_length=2000).split([Example(("big",) * 1998)])
    assert len(feature) == 2000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 513}, r"alignment.max_length: found 513, expected more than 2 \(special tokens\) and at most "
                              r"512 \(the model's limit\)"),
        ({"max_length": 2}, r"alignment.max_length: found 2, expected more than 2 \(special tokens\)"),
        ({"max_length": -1}, r"alignment.max_length: found -1, expected more than 2"),
        ({"stride": -1}, r"alignment.stride: found -1, expected 0 to 509: a window of 512 subwords holds 510 besides"),
        ({"max_length": 10, "stride": 8}, r"alignment.stride: found 8, expected 0 to 7: a window of 10 subwords holds"),
    ],
)  # fmt: skip
def test_options_that_can_not_be(wordpiece, options, message):
    with pytest.raises(ConfigError, match=message):
        First(wordpiece, LABELS, **options)


def test_the_smallest_window_there_is(wordpiece):
    features = First(wordpiece, LABELS, max_length=3).split([example("Brussels B-LOC", "big O")])
    assert [rows(wordpiece, f)[1] for f in features] == [("Bru", LOC, 0), ("##ssels", NO, -1), ("big", OUT, 1)]
