"""What one pass over the sentences counts."""

import pickle

import numpy as np
import pytest

from nerloop.inspection.inspection import percentiles
from nerloop.inspection.statistics import NUM_PLACES, Place, Statistics
from nerloop.tags import Scheme
from nerloop.types import Example


def test_sentences_tokens_and_spans(make_part):
    s = make_part("train", "EU/B-ORG rejects/O", "Anna/B-PER Smith/I-PER in/O Rome/B-LOC").statistics
    assert (s.num_sentences, s.num_tokens, s.total_spans) == (2, 6, 3)
    assert s.spans_per_type == {"ORG": 1, "PER": 1, "LOC": 1}
    assert s.num_spans.tolist() == [1, 2]
    assert s.lengths.tolist() == [2, 4]
    assert s.span_lengths == {1: 2, 2: 1}


def test_tags_are_counted_and_borders_are_not(make_part):
    s = make_part("train", "EU/B-ORG rejects/O", "it/O").statistics
    assert s.tags == {"B-ORG": 1, "O": 2}


def test_spans_are_kept_as_hash_type_and_place(make_part):
    s = make_part("train", "x/O Rome/B-LOC", "Rome/B-ORG Rome/B-LOC").statistics
    assert s.first_of_type == {"LOC": Place(0, 1), "ORG": Place(1, 0)}
    assert len(set(s.span_hashes)) == 1
    assert (list(s.span_types), list(s.span_sentences), list(s.span_starts)) == ([0, 1, 0], [0, 1, 1], [1, 0, 1])


def test_pairs_keep_the_first_places_alone(make_part):
    s = make_part("train", *["I/I-PER"] * 30).statistics
    assert s.pairs["", "I-PER"] == 30
    assert s.first_pairs["", "I-PER"] == [Place(i, 0) for i in range(NUM_PLACES)]


def test_a_pair_at_the_end_has_the_place_of_the_last_token(make_part):
    s = make_part("train", "a/O b/B-PER").statistics
    assert s.first_pairs["B-PER", ""] == [Place(0, 1)]


def test_scheme_of_the_part_alone(make_part):
    assert make_part("train", "a/I-PER b/I-PER c/O").statistics.scheme == (Scheme.IOB1, 0)


def test_equal_sentences_have_equal_hashes_and_others_have_not(make_part):
    s = make_part("train", "a/O b/O", "a/O b/B-PER", "a/O c/O", "ab/O").statistics
    assert s.token_hashes[0] == s.token_hashes[1]
    assert len(set(s.token_hashes.tolist())) == 3
    assert s.tag_hashes[0] != s.tag_hashes[1]
    assert s.tag_hashes[0] == s.tag_hashes[2]


def test_hashes_are_the_same_in_every_process(make_part):
    assert make_part("train", "EU/B-ORG rejects/O").statistics.token_hashes.tolist() == [11550047313130698407]


def test_no_words_and_an_empty_one_have_different_hashes():
    words = [(), ("",), ("", ""), ("a b",), ("a", "b"), ("a\0", "b"), ("a", "\0b")]
    s = Statistics.of([Example(w, ("O",) * len(w), "x:1") for w in words])
    assert len(set(s.token_hashes.tolist())) == 7


def test_documents_are_counted_where_they_are_known(read_part):
    assert read_part("train", "-DOCSTART- O\n\na O\n\nb O\n\n-DOCSTART- O\n\nc O\n").statistics.num_documents == 2
    assert read_part("test", "a O\n\nb O\n").statistics.num_documents == 0


def test_empty_sentences_and_tokens():
    s = Statistics.of([Example((), (), "x:1"), Example(("", "a", ""), ("O", "O", "O"), "x:2")])
    assert s.lengths.tolist() == [0, 3]
    assert (s.num_empty_tokens, s.empty_tokens) == (2, [Place(1, 0), Place(1, 2)])


def test_no_sentences():
    s = Statistics.of([])
    assert (s.num_sentences, s.num_tokens, s.total_spans, s.scheme) == (0, 0, 0, (Scheme.IOB2, 0))


def test_more_sentences_than_a_chunk(make_part):
    s = make_part("train", *["a/O b/B-PER"] * 2_500).statistics
    assert (s.num_sentences, s.total_spans, len(s.token_hashes)) == (2_500, 2_500, 2_500)


def test_they_can_be_kept(make_part):
    s = make_part("train", "EU/B-ORG rejects/O").statistics
    again = pickle.loads(pickle.dumps(s))
    assert again.span_hashes == s.span_hashes
    assert np.array_equal(again.token_hashes, s.token_hashes)


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        (range(1, 101), {"50": 50, "90": 90, "95": 95, "99": 99, "100": 100}),
        ([7], {"50": 7, "90": 7, "95": 7, "99": 7, "100": 7}),
        ([], {}),
    ],
)
def test_percentiles_are_lengths_that_occur(lengths, found):
    assert percentiles(np.array(list(lengths))) == found
