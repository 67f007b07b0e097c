"""Viterbi against brute force over all legal sequences, and argmax."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.decoding.argmax import Argmax
from nerloop.decoding.lattice import BUCKET
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import PluginError
from nerloop.tags import Scheme, is_legal, split_tag

IOB1, IOB2, IOE1, IOE2, BIOES = Scheme.IOB1, Scheme.IOB2, Scheme.IOE1, Scheme.IOE2, Scheme.BIOES
LABELS = {
    IOB1: ("O", "B-X", "B-Y", "I-X", "I-Y"),
    IOB2: ("O", "B-X", "B-Y", "I-X", "I-Y"),
    IOE1: ("O", "E-X", "E-Y", "I-X", "I-Y"),
    IOE2: ("O", "E-X", "E-Y", "I-X", "I-Y"),
    BIOES: ("O", "B-X", "E-X", "I-X", "S-X", "S-Y"),
}
LOW = -1000.0


def is_legal_sequence(tags: list[str], scheme: Scheme) -> bool:
    parts = [("O", ""), *map(split_tag, tags), ("O", "")]
    return all(is_legal(before, after, scheme) for before, after in itertools.pairwise(parts))


def legal_sequences(labels: tuple[str, ...], num_tokens: int, scheme: Scheme) -> list[tuple[int, ...]]:
    found = itertools.product(range(len(labels)), repeat=num_tokens)
    return [ids for ids in found if is_legal_sequence([labels[i] for i in ids], scheme)]


def brute_force(
    scores: np.ndarray, labels: tuple[str, ...], scheme: Scheme, learned: Mapping[str, np.ndarray] | None = None
) -> list[int]:
    """Return the best legal sequence; of equals, the one with the lowest last id, then the lowest one before it..."""

    def score(ids: tuple[int, ...]) -> float:
        total = sum(scores[t, i] for t, i in enumerate(ids))
        if learned:
            total += learned["start"][ids[0]] + learned["end"][ids[-1]]
            total += sum(learned["transitions"][a, b] for a, b in itertools.pairwise(ids))
        return float(total)

    best = min(legal_sequences(labels, len(scores), scheme), key=lambda ids: (-score(ids), ids[::-1]))
    return list(best)


def decode(rows: Sequence[Sequence[float]], labels: tuple[str, ...], scheme: Scheme) -> list[str]:
    (ids,) = Viterbi(labels, scheme).decode([np.array(rows, dtype=np.float64)])
    return [labels[i] for i in ids]


@pytest.mark.parametrize(
    ("scheme", "counts"),
    [
        (IOB1, [3, 11, 41, 153]),
        (IOB2, [3, 11, 41, 153]),
        (IOE1, [3, 11, 41, 153]),
        (IOE2, [3, 11, 41, 153]),
        (BIOES, [3, 10, 34, 116]),
    ],
)
def test_brute_force_looks_at_every_legal_sequence(scheme, counts):
    assert [len(legal_sequences(LABELS[scheme], n, scheme)) for n in (1, 2, 3, 4)] == counts


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 4, 5])
def test_viterbi_equals_brute_force_on_random_scores(scheme, num_tokens):
    labels = LABELS[scheme]
    random = np.random.RandomState(num_tokens)
    scores = [np.log(random.dirichlet(np.full(len(labels), 0.3), size=num_tokens) + 1e-9) for _ in range(25)]
    found = [ids.tolist() for ids in Viterbi(labels, scheme).decode(scores)]
    assert found == [brute_force(s, labels, scheme) for s in scores]


def random_learned(num_labels: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.RandomState(seed)
    shapes = {"transitions": (num_labels, num_labels), "start": (num_labels,), "end": (num_labels,)}
    return {name: random.normal(scale=3, size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 4, 5])
def test_viterbi_with_learned_scores_equals_brute_force(scheme, num_tokens):
    labels = LABELS[scheme]
    random, learned = np.random.RandomState(num_tokens), random_learned(len(labels), num_tokens)
    scores = [np.log(random.dirichlet(np.full(len(labels), 0.3), size=num_tokens) + 1e-9) for _ in range(25)]
    viterbi = Viterbi(labels, scheme)
    without = [ids.tolist() for ids in viterbi.decode(scores)]
    viterbi.learn(random_learned(len(labels), 99))  # the last scores that it has learned count, not the sum of all
    viterbi.learn(learned)
    found = [ids.tolist() for ids in viterbi.decode(scores)]
    assert found == [brute_force(s, labels, scheme, learned) for s in scores]
    assert found != without


def test_viterbi_does_not_learn_scores_of_other_labels():
    learned = random_learned(4, 0)
    with pytest.raises(PluginError) as caught:
        Viterbi(LABELS[IOB2], IOB2).learn(learned)
    assert str(caught.value) == "decoding viterbi: learned transitions: found shape (4, 4), expected (5, 5) scores"
    with pytest.raises(PluginError) as caught:
        Viterbi(LABELS[IOB2], IOB2).learn({"end": np.full(5, np.nan)})
    assert str(caught.value) == (
        "decoding viterbi: learned end: found numbers that are not finite, expected (5,) scores"
    )


@pytest.mark.parametrize("scheme", list(Scheme))
@given(data=st.data())
def test_viterbi_breaks_ties_as_brute_force_does(scheme, data):
    labels = LABELS[scheme]
    num_tokens = data.draw(st.integers(1, 4))
    row = st.lists(st.integers(-1, 0), min_size=len(labels), max_size=len(labels))
    scores = np.array(data.draw(st.lists(row, min_size=num_tokens, max_size=num_tokens)), dtype=np.float64)
    assert Viterbi(labels, scheme).decode([scores])[0].tolist() == brute_force(scores, labels, scheme)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_viterbi_never_gives_an_illegal_sequence(scheme):
    labels = LABELS[scheme]
    random = np.random.RandomState(0)
    scores = [random.normal(scale=10, size=(random.randint(1, 40), len(labels))) for _ in range(200)]
    found = Viterbi(labels, scheme).decode(scores)
    assert len(found) == 200
    assert [ids for ids in found if not is_legal_sequence([labels[i] for i in ids], scheme)] == []


@pytest.mark.parametrize("scheme", list(Scheme))
def test_viterbi_keeps_a_legal_argmax(scheme):
    labels = LABELS[scheme]
    sequences = legal_sequences(labels, 4, scheme)
    scores = [np.log(np.where(np.eye(len(labels))[list(ids)] > 0, 0.9, 0.02)) for ids in sequences]
    assert [tuple(ids.tolist()) for ids in Viterbi(labels, scheme).decode(scores)] == sequences


def test_viterbi_iob2_start_border_forbids_inside():
    assert decode([[-3, -2, LOW, 0, LOW]], LABELS[IOB2], IOB2) == ["B-X"]


def test_viterbi_reaches_the_end_of_a_span_where_no_tag_opens_one():
    """IOE2 has no B-: what opens a span is any I- or E-."""
    rows = [[-9, -9, -9, 0, -9], [-9, 0, -9, -9, -9], [0, -9, -9, -9, -9], [-9, -9, 0, -9, -9]]
    assert decode(rows, LABELS[IOE2], IOE2) == ["I-X", "E-X", "O", "E-Y"]


def test_viterbi_ioe2_inside_needs_its_own_type_behind():
    # I-X is best for the last token alone, but nothing closes it.
    assert decode([[LOW, -2, -9, 0, -9]], LABELS[IOE2], IOE2) == ["E-X"]


def test_viterbi_ioe1_end_needs_a_span_of_its_own_type_behind():
    assert decode([[-9, 0, -9, -2, -9]], LABELS[IOE1], IOE1) == ["I-X"]
    assert decode([[-9, 0, -9, -2, -9], [-9, -9, -9, 0, -9]], LABELS[IOE1], IOE1) == ["E-X", "I-X"]


def test_viterbi_iob2_inside_needs_its_own_type_before():
    # I-Y is best for the second token alone, but nothing of type Y is open.
    assert decode([[-9, 0, -5, -9, -9], [-3, -9, -2, -9, 0]], LABELS[IOB2], IOB2) == ["B-X", "B-Y"]


def test_viterbi_iob2_opens_a_span_for_a_strong_inside():
    assert decode([[0, -1, LOW, -9, -9], [-5, -9, -9, 0, -9]], LABELS[IOB2], IOB2) == ["B-X", "I-X"]


def test_viterbi_iob1_begin_needs_a_span_of_its_type_before():
    assert decode([[-9, 0, -9, -2, -9]], LABELS[IOB1], IOB1) == ["I-X"]
    assert decode([[-9, -9, -9, 0, -9], [-9, 0, -9, -2, -9]], LABELS[IOB1], IOB1) == ["I-X", "B-X"]


def test_viterbi_bioes_end_border_forbids_an_open_span():
    #        O   B-X E-X I-X S-X S-Y
    rows = [[-9, 0, -9, -9, -3, -9]]
    assert decode(rows, LABELS[BIOES], BIOES) == ["S-X"]


def test_viterbi_bioes_closes_what_it_opens():
    rows = [[-9, 0, -9, -9, -9, -9], [-9, -9, -2, 0, -9, -9]]
    assert decode(rows, LABELS[BIOES], BIOES) == ["B-X", "E-X"]


def test_viterbi_avoids_labels_that_can_never_be_closed():
    # The data had no E-X: a B-X can't be part of any legal sequence.
    assert decode([[-5, 0], [-5, 0]], ("O", "B-X"), BIOES) == ["O", "O"]


def test_viterbi_of_equal_scores_is_the_lowest_ids():
    (ids,) = Viterbi(LABELS[IOB2], IOB2).decode([np.zeros((4, 5))])
    assert ids.tolist() == [0, 0, 0, 0]


def test_viterbi_breaks_a_tie_at_the_last_token_first():
    # B-X I-X and B-Y O score 1 each: the last token's lower id wins, though the first token's is higher.
    assert decode([[LOW, 0, 1, LOW, LOW], [0, LOW, LOW, 1, LOW]], LABELS[IOB2], IOB2) == ["B-Y", "O"]


def test_viterbi_of_nothing_is_nothing():
    assert Viterbi(LABELS[IOB2], IOB2).decode([]) == []


@pytest.mark.parametrize("decoding", [Viterbi, Argmax])
def test_decode_of_an_empty_sentence_is_empty(decoding):
    found = decoding(LABELS[IOB2], IOB2).decode([np.zeros((0, 5)), np.zeros((2, 5)), np.zeros((0, 5))])
    assert [ids.tolist() for ids in found] == [[], [0, 0], []]


@pytest.mark.parametrize("scheme", list(Scheme))
def test_viterbi_of_many_sentences_equals_one_by_one(scheme):
    random = np.random.RandomState(1)
    lengths = random.randint(0, 12, size=2 * BUCKET + 17)
    scores = [random.normal(size=(n, len(LABELS[scheme]))).astype(np.float32) for n in lengths]
    viterbi = Viterbi(LABELS[scheme], scheme)
    together = [ids.tolist() for ids in viterbi.decode(scores)]
    assert together == [viterbi.decode([s])[0].tolist() for s in scores]
    assert [len(ids) for ids in together] == lengths.tolist()


def test_viterbi_leaves_the_scores_as_they_are():
    scores = np.arange(10.0).reshape(2, 5)
    Viterbi(LABELS[IOB2], IOB2).decode([scores])
    assert scores.tolist() == np.arange(10.0).reshape(2, 5).tolist()


def test_argmax_takes_the_best_label_legal_or_not():
    (ids,) = Argmax(LABELS[IOB2], IOB2).decode(
        [np.array([[-1, -2, -2, 0, -2], [0, 0, -1, -1, -1], [-2, -2, -1, -1, -3]])]
    )
    assert ids.tolist() == [3, 0, 2]
