"""Sentences of a document share windows; each is labelled and decided once, and no document meets another."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.alignment.all import All
from nerloop.alignment.document import Document, describe_lone_sentences
from nerloop.alignment.first import First
from nerloop.alignment.subwords import subwords_of
from nerloop.batching.plan import BatchUnits, Plan
from nerloop.errors import ConfigError
from nerloop.types import IGNORE, Example

LABELS = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
PLAIN = {"all": All, "first": First}


def sentences(*texts: str, document: str = "d") -> list[Example]:
    """Return untagged sentences of one document."""
    return [Example(tuple(text.split()), document=document) for text in texts]


def in_windows(tokenizer, examples, **options):
    """Return the subwords of each window as text, and the sentences in it."""
    features = list(Document(tokenizer, LABELS, **options).split(examples))
    return [(" ".join(tokenizer.convert_ids_to_tokens(f.input_ids.tolist())), f.examples) for f in features]


def test_sentences_share_a_window_up_to_max_length(wordpiece):
    examples = sentences("Anna lives in Brussels .", "is big", "New York", "in")
    assert in_windows(wordpiece, examples, max_length=10) == [
        ("[CLS] Anna lives in Bru ##ssels . is big [SEP]", (0, 1)),
        ("[CLS] New York in [SEP]", (2, 3)),
    ]


def test_a_window_may_be_full_to_the_last_subword(wordpiece):
    examples = sentences("New York", "is big", "in")
    assert in_windows(wordpiece, examples, max_length=7) == [("[CLS] New York is big in [SEP]", (0, 1, 2))]
    assert in_windows(wordpiece, examples, max_length=6) == [
        ("[CLS] New York is big [SEP]", (0, 1)), ("[CLS] in [SEP]", (2,)),
    ]  # fmt: skip


def test_documents_do_not_meet(wordpiece):
    examples = sentences("New", "York", document="a") + sentences("is", document="b") + sentences("big", document="a")
    assert in_windows(wordpiece, examples) == [
        ("[CLS] New York [SEP]", (0, 1)), ("[CLS] is [SEP]", (2,)), ("[CLS] big [SEP]", (3,)),
    ]  # fmt: skip


def test_sentences_of_no_known_document_stand_alone(wordpiece):
    examples = sentences("New", "York", document="") + sentences("is", "big")
    assert in_windows(wordpiece, examples) == [
        ("[CLS] New [SEP]", (0,)), ("[CLS] York [SEP]", (1,)), ("[CLS] is big [SEP]", (2, 3)),
    ]  # fmt: skip


def test_a_sentence_longer_than_the_window_has_windows_of_its_own(wordpiece):
    examples = sentences("New", "is big in York Anna", "in", "York")
    assert in_windows(wordpiece, examples, max_length=6, stride=2) == [
        ("[CLS] New [SEP]", (0,)),
        ("[CLS] is big in York [SEP]", (1,)), ("[CLS] big in York Anna [SEP]", (1,)),
        ("[CLS] in York [SEP]", (2, 3)),
    ]  # fmt: skip


def test_labels_and_tokens_of_a_window(wordpiece):
    examples = [
        Example(("in", "Brussels"), ("O", "B-LOC"), document="d"),
        Example((), (), document="d"),
        Example(("\u200e", "Brussels"), ("O", "B-LOC"), document="d"),
        Example(("Anna",), document="d"),
    ]
    (feature,) = Document(wordpiece, LABELS).split(examples)
    #                         [CLS]   in Bru ##ssels Bru ##ssels Anna [SEP]
    assert feature.labels.tolist() == [IGNORE, 0, 1, 3, 1, 3, IGNORE, IGNORE]
    assert feature.tokens.tolist() == [-1, 0, 1, -1, 3, -1, 4, -1]
    assert (feature.examples, feature.num_tokens, feature.atom) == ((0, 1, 2, 3), (2, 0, 2, 1), 0)
    (feature,) = Document(wordpiece, LABELS, label_subwords="first").split(examples)
    assert feature.labels.tolist() == [IGNORE, 0, 1, IGNORE, 1, IGNORE, IGNORE, IGNORE]


def test_join_gives_each_sentence_its_own_scores(wordpiece):
    alignment = Document(wordpiece, LABELS)
    examples = [*sentences("in Brussels", "\u200e big"), Example((), document="d")]
    (feature,) = alignment.split(examples)
    scores = np.arange(len(feature))[:, None] * np.ones(5)
    joined = alignment.join([feature], [scores])
    assert {i: rows[:, 0].tolist() for i, rows in joined.items()} == {0: [1, 2], 1: [0, 4], 2: []}


def test_windows_hold_256_subwords_by_default_or_what_the_model_takes(wordpiece):
    assert Document(wordpiece, LABELS).max_length == 256
    wordpiece.model_max_length = 40
    assert Document(wordpiece, LABELS).max_length == 40


def test_no_example_gives_no_feature(wordpiece):
    assert list(Document(wordpiece, LABELS).split([])) == []
    assert Document(wordpiece, LABELS).join([], []) == {}


def test_bytes_have_the_special_tokens_of_their_kind(byte_level):
    assert in_windows(byte_level, sentences("New", "New")) == [("<s> ĠNew ĠNew </s>", (0, 1))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_subwords": "last"}, "alignment.label_subwords: found 'last', expected all or first"),
        ({"max_length": 2}, "alignment.max_length: found 2, expected more than 2"),
        ({"max_length": 6, "stride": 4}, "alignment.stride: found 4, expected 0 to 3"),
    ],
)
def test_options_that_cannot_be(wordpiece, options, message):
    with pytest.raises(ConfigError, match=message):
        Document(wordpiece, LABELS, **options)


TOKENS = ("Brussels", "New", "", "\u200e", "x.y-z", "[SEP]", "in")
sentence = st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(LABELS)), max_size=9)
split = st.lists(st.tuples(sentence, st.sampled_from(("a", "b", "")), st.booleans()), max_size=25)


def made(found) -> list[Example]:
    return [Example(tuple(t for t, _ in s), tuple(g for _, g in s) * has_tags, "", d) for s, d, has_tags in found]


@given(split, st.integers(3, 40), st.sampled_from(("all", "first")))
def test_any_split_comes_out_as_by_sentences(wordpiece_session, found, max_length, label_subwords):
    examples = made(found)
    windows = list(
        Document(wordpiece_session, LABELS, label_subwords=label_subwords, max_length=max_length).split(examples)
    )
    plain = list(PLAIN[label_subwords](wordpiece_session, LABELS, max_length=max_length).split(examples))
    assert list(dict.fromkeys(i for f in windows for i in f.examples)) == list(range(len(examples)))  # in order
    assert all(len(f) <= max_length for f in windows)
    assert all(len({examples[i].document for i in f.examples}) == 1 for f in windows)
    assert all(examples[f.examples[0]].document for f in windows if len(f.examples) > 1)
    # What is in the windows is what is in the sentences, without the special tokens, which stand at the ends.
    for name in ("input_ids", "labels"):
        ours, theirs = ([getattr(f, name)[1:-1] for f in of] for of in (windows, plain))
        assert np.concatenate([[], *ours]).tolist() == np.concatenate([[], *theirs]).tolist()
    decided = [
        (i, token)
        for f in windows
        for i, start, n in zip(f.examples, itertools.accumulate(f.num_tokens, initial=0), f.num_tokens, strict=False)
        for token in f.tokens[(f.tokens >= start) & (f.tokens < start + n)] - start
    ]
    assert decided == [(f.examples[0], token) for f in plain for token in f.tokens[f.tokens >= 0]]
    assert sum(map(len, windows)) <= sum(map(len, plain))
    # A window ends only where the next sentence does not fit.
    of_long = {a.atom for a, b in itertools.pairwise(windows) if a.atom == b.atom}
    for a, b in itertools.pairwise(windows):
        last, following = examples[a.examples[-1]], examples[b.examples[0]]
        if last.document == following.document != "" and not {a.atom, b.atom} & of_long:
            ((ids, _),) = subwords_of(wordpiece_session, [following.tokens])
            assert len(a) + len(ids) > max_length


@given(split, st.integers(3, 40))
def test_a_window_of_one_sentence_equals_the_alignment_by_sentences(wordpiece_session, found, max_length):
    plain = All(wordpiece_session, LABELS, max_length=max_length)
    ours = Document(wordpiece_session, LABELS, max_length=max_length)
    examples = [replace(e, document="") for e in made(found)]
    for a, b in zip(ours.split(examples), plain.split(examples), strict=True):
        for name in ("input_ids", "labels", "tokens"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert (a.atom, a.examples, a.num_tokens) == (b.atom, b.examples, b.num_tokens)


@pytest.fixture(scope="module")
def wordpiece_session(wordpiece_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(wordpiece_folder))


def test_a_step_takes_windows_until_it_holds_batch_size_sentences(wordpiece):
    examples = sentences(*["New York"] * 40)
    features = list(Document(wordpiece, LABELS, max_length=8).split(examples))  # three sentences a window
    plan = Plan(BatchUnits.of(features), batch_size=4, seed=1)
    assert [f.num_tokens for f in features] == [(2, 2, 2)] * 13 + [(2,)]
    assert plan.num_steps(1) == 7
    assert {plan[i].num_sentences for i in range(7)} == {6, 4}
    assert sum(plan[i].num_labelled for i in range(7)) == 0


def test_describe_lone_sentences():
    assert describe_lone_sentences(0, 2, "the input") == ""
    assert describe_lone_sentences(0, 0, "the input") == ""
    assert describe_lone_sentences(1, 1, "the input") == (
        "no documents are known in the input, so each sentence gets a window of its own: documents come with "
        "-DOCSTART- lines or document ids"
    )
    assert describe_lone_sentences(1, 3, "the train split") == (
        "1 of 3 sentences of the train split belong to no known document and get windows of their own"
    )
