"""Probabilities of spans and sequences against brute force over all sequences, in every scheme."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nerloop.decoding.argmax import Argmax
from nerloop.decoding.lattice import BUCKET
from nerloop.decoding.viterbi import BIASES, Viterbi
from nerloop.tags import Scheme, is_legal, split_tag, to_spans
from nerloop.types import Span

LABELS = {
    Scheme.IOB1: ("O", "B-X", "B-Y", "I-X", "I-Y"),
    Scheme.IOB2: ("O", "B-X", "B-Y", "I-X", "I-Y"),
    Scheme.IOE1: ("O", "E-X", "E-Y", "I-X", "I-Y"),
    Scheme.IOE2: ("O", "E-X", "E-Y", "I-X", "I-Y"),
    Scheme.BIOES: ("O", "B-X", "E-X", "I-X", "S-X", "S-Y"),
}


def sequences(labels: tuple[str, ...], num_tokens: int, scheme: Scheme | None) -> list[tuple[int, ...]]:
    """Return all label sequences, or the legal ones of a scheme."""

    def is_possible(ids: tuple[int, ...]) -> bool:
        parts = [("O", ""), *(split_tag(labels[i]) for i in ids), ("O", "")]
        return scheme is None or all(is_legal(a, b, scheme) for a, b in itertools.pairwise(parts))

    return [ids for ids in itertools.product(range(len(labels)), repeat=num_tokens) if is_possible(ids)]


def brute_force(scores, labels, scheme, learned, temperature):
    """Return the log-probability of every sequence, and the probability of every span that occurs in one."""
    logs = {}
    for ids in sequences(labels, len(scores), scheme):
        total = sum(scores[t, i] for t, i in enumerate(ids))
        if learned:
            total += learned["start"][ids[0]] + learned["end"][ids[-1]]
            total += sum(learned["transitions"][a, b] for a, b in itertools.pairwise(ids))
        logs[ids] = float(total) / temperature
    greatest = max(logs.values())
    whole = greatest + math.log(math.fsum(math.exp(x - greatest) for x in logs.values()))
    spans: dict[Span, float] = {}
    for ids, x in logs.items():
        for span in to_spans([labels[i] for i in ids]):
            spans[span] = spans.get(span, 0.0) + math.exp(x - whole)
    return {ids: x - whole for ids, x in logs.items()}, spans


def random_learned(num_labels: int) -> dict[str, np.ndarray]:
    random = np.random.RandomState(num_labels)
    shapes = {"transitions": (num_labels, num_labels), "start": (num_labels,), "end": (num_labels,)}
    return {name: random.normal(scale=2, size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("with_learned", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("scheme", [*Scheme, None])
def test_probabilities_equal_brute_force(scheme, temperature, with_learned):
    labels = LABELS[scheme or Scheme.IOB2]
    decoding = Viterbi(labels, scheme) if scheme else Argmax(labels, Scheme.IOB2)
    learned = random_learned(len(labels)) if with_learned and scheme else None
    if learned and scheme:
        decoding.learn(learned)
    random = np.random.RandomState(0)
    scores = [np.log(random.dirichlet(np.full(len(labels), 0.3), size=n) + 1e-9) for n in (1, 2, 3, 4, 3)]
    expected = [brute_force(s, labels, scheme, learned, temperature) for s in scores]
    spans = [list(of_spans) for _, of_spans in expected]
    assert sum(map(len, spans)) > 20
    found = decoding.span_probabilities(scores, spans, temperature)
    for probabilities, (_, of_spans) in zip(found, expected, strict=True):
        assert probabilities == pytest.approx(list(of_spans.values()), rel=1e-9, abs=1e-300)
    for s, (logs, _) in zip(scores, expected, strict=True):
        paths = [np.array(ids) for ids in logs]
        assert decoding.sequence_logs([s] * len(paths), paths, temperature) == pytest.approx(
            list(logs.values()), abs=1e-9
        )


@pytest.mark.parametrize("scheme", list(Scheme))
def test_many_sentences_at_once_equal_one_by_one(scheme):
    labels = LABELS[scheme]
    random = np.random.RandomState(1)
    viterbi = Viterbi(labels, scheme)
    scores = [random.normal(scale=3, size=(n, len(labels))) for n in random.randint(0, 12, size=BUCKET + 30)]
    paths = viterbi.decode(scores)
    spans = [to_spans([labels[i] for i in path]) for path in paths]
    assert any(len(s) == 0 for s in spans)
    found = viterbi.span_probabilities(scores, spans)
    assert [len(p) for p in found] == [len(s) for s in spans]
    for s, of_sentence, p in zip(scores, spans, found, strict=True):
        assert p == pytest.approx(viterbi.span_probabilities([s], [of_sentence])[0], rel=1e-12)
    logs = viterbi.sequence_logs(scores, paths)
    assert logs == pytest.approx([viterbi.sequence_logs([s], [p])[0] for s, p in zip(scores, paths)], abs=1e-12)
    assert {x for s, x in zip(scores, logs) if not len(s)} == {0.0}


def test_a_literal():
    """P(B-X) = 0.6 at a lone token; at two tokens, B-X O and B-X I-X share the weight of the legal sequences."""
    viterbi = Viterbi(("O", "B-X", "I-X"), Scheme.IOB2)
    one, two = np.log([[0.3, 0.6, 0.1]]), np.log([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    (of_one,), (of_two) = (viterbi.span_probabilities([s], [[Span(0, 1, "X")]])[0] for s in (one, two))
    assert of_one == pytest.approx(0.6 / 0.9)
    # Legal: O O, O B, B O, B B, B I with weights 4, 2, 2, 1, 1. In the 3rd and 4th the first token is a span.
    assert of_two == pytest.approx([3 / 10])


def test_a_span_that_no_legal_sequence_has_is_impossible():
    viterbi = Viterbi(("O", "B-X", "B-Y", "E-X", "I-X", "S-X"), Scheme.BIOES)
    scores = [np.zeros((3, 6))]
    assert viterbi.span_probabilities(scores, [[Span(0, 1, "Y"), Span(0, 2, "X")]])[0].tolist() == [
        0.0, pytest.approx(viterbi.span_probabilities(scores, [[Span(1, 3, "X")]])[0][0])
    ]  # fmt: skip
    assert viterbi.sequence_logs(scores, [np.array([1, 0, 0])]).tolist() == [-np.inf]


def test_scores_far_apart_lose_no_sequence():
    """The model is sure of an illegal sequence. What is legal is less likely by e^2000, yet shares all probability."""
    viterbi = Viterbi(("O", "B-X", "E-X"), Scheme.BIOES)
    scores = np.array([[0.0, -2000.0, 0.0], [-3000.0, -3000.0, 0.0], [-1000.0, -1000.0, 0.0]])
    (found,) = viterbi.span_probabilities([scores], [[Span(0, 2, "X"), Span(1, 3, "X")]])
    _, spans = brute_force(scores, ("O", "B-X", "E-X"), Scheme.BIOES, None, 1.0)
    assert found == pytest.approx([spans[Span(0, 2, "X")], spans[Span(1, 3, "X")]], rel=1e-12)
    assert found.sum() == pytest.approx(1.0)


def test_a_long_sentence_is_exact():
    """The sentence consists of pieces that a certain O separates, so each piece has the probability it has alone."""
    labels = LABELS[Scheme.IOB2]
    random = np.random.RandomState(2)
    pieces = [np.log(random.dirichlet(np.ones(5), size=4)) for _ in range(800)]
    certain = np.array([[0.0, *[-np.inf] * 4]])
    viterbi = Viterbi(labels, Scheme.IOB2)
    spans = [Span(1, 3, "X")] * 800
    alone = np.concatenate(viterbi.span_probabilities(pieces, [[span] for span in spans]))
    whole = np.concatenate([x for piece in pieces for x in (piece, certain)])
    moved = [Span(5 * i + s, 5 * i + e, t) for i, (s, e, t) in enumerate(spans)]
    (found,) = viterbi.span_probabilities([whole], [moved])
    assert found == pytest.approx(alone, rel=1e-8)
    assert len(set(found.round(6))) > 400


@pytest.mark.parametrize("scheme", list(Scheme))
def test_the_marginals_of_spans_add_up_to_the_expected_number_of_tagged_tokens(scheme):
    """Each token is in one span or in none, so the probabilities of all spans around a token are at most 1."""
    labels = LABELS[scheme]
    scores = [np.random.RandomState(3).normal(scale=2, size=(6, len(labels)))]
    every = [Span(s, e, t) for s in range(6) for e in range(s + 1, 7) for t in ("X", "Y")]
    (found,) = Viterbi(labels, scheme).span_probabilities(scores, [every])
    around = [sum(p for span, p in zip(every, found) if span.start <= t < span.end) for t in range(6)]
    assert all(0 < p <= 1 + 1e-12 for p in around)


def test_temperature_moves_towards_even_and_changes_no_order():
    viterbi = Viterbi(LABELS[Scheme.IOB2], Scheme.IOB2)
    scores = [np.log([[0.05, 0.9, 0.03, 0.01, 0.01], [0.9, 0.05, 0.03, 0.01, 0.01]])]
    span = [[Span(0, 1, "X")]]
    hot, plain, cold = (viterbi.span_probabilities(scores, span, t)[0][0] for t in (4.0, 1.0, 0.5))
    assert 0.1 < hot < plain < cold < 1
    learned = random_learned(5)
    viterbi.learn(learned)
    paths = [np.array(ids) for ids in sequences(LABELS[Scheme.IOB2], 3, Scheme.IOB2)]
    many = [np.random.RandomState(4).normal(size=(3, 5))] * len(paths)
    orders = [np.argsort(viterbi.sequence_logs(many, paths, t), kind="stable").tolist() for t in (0.3, 1.0, 5.0)]
    assert orders[0] == orders[1] == orders[2]
    assert orders[1][-1] == [p.tolist() for p in paths].index(viterbi.decode(many[:1])[0].tolist())


def biased_score(ids: tuple[int, ...], labels: tuple[str, ...], scores: np.ndarray, values: dict[str, float]) -> float:
    """Return the score of a sequence, each transition with the bias of its kind."""
    parts = [("O", ""), *(split_tag(labels[i]) for i in ids), ("O", "")]
    starts = {span.start for span in to_spans([labels[i] for i in ids])}
    total = sum(scores[t, i] for t, i in enumerate(ids))
    for t, (before, after) in enumerate(itertools.pairwise(parts)):
        if before[0] == "O":
            kind = "background_stay" if after[0] == "O" else "background_to_start"
        elif after[0] == "O":
            kind = "end_to_background"
        elif t in starts:
            kind = "end_to_start"
        else:
            kind = "inside_to_end" if after[0] == "E" else "inside_to_continue"
        total += values[kind]
    return float(total)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_biases_count_each_transition_of_a_kind(scheme):
    labels = LABELS[scheme]
    random = np.random.RandomState(5)
    possible = sequences(labels, 4, scheme)
    for _ in range(12):
        values = dict(zip(BIASES, random.normal(scale=2, size=6), strict=True))
        scores = random.normal(size=(4, len(labels)))
        viterbi = Viterbi(labels, scheme)
        viterbi.bias(values)
        totals = [biased_score(ids, labels, scores, values) for ids in possible]
        assert tuple(viterbi.decode([scores])[0].tolist()) == possible[int(np.argmax(totals))]


def test_biases_leave_probabilities_alone():
    viterbi = Viterbi(LABELS[Scheme.IOB2], Scheme.IOB2)
    scores, span = [np.random.RandomState(6).normal(size=(4, 5))], [[Span(1, 2, "X")]]
    before = viterbi.span_probabilities(scores, span)[0].tolist()
    viterbi.bias({"background_to_start": 9.0})
    assert viterbi.span_probabilities(scores, span)[0].tolist() == before
    assert viterbi.decode(scores)[0].tolist() != Viterbi(LABELS[Scheme.IOB2], Scheme.IOB2).decode(scores)[0].tolist()
    viterbi.bias({})
    assert viterbi.decode(scores)[0].tolist() == Viterbi(LABELS[Scheme.IOB2], Scheme.IOB2).decode(scores)[0].tolist()
