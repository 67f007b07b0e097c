"""The CRF against enumeration of all label sequences, and where its chains are cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from nerloop.contracts import check_objective
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import ConfigError
from nerloop.objectives.crf import Crf
from nerloop.objectives.cross_entropy import CrossEntropy
from nerloop.objectives.parameters import learned_by
from nerloop.tags import Scheme
from nerloop.types import IGNORE, Feature, MicroBatch, Place

LABELS = ("O", "B-PER", "I-PER")
NO = -1
Step = tuple[int, int, bool, bool]


def feature(tokens: Sequence[int], labels: Sequence[int], num_tokens: Sequence[int]) -> Feature:
    """Return a feature from the token that each subword decides and its label."""
    return Feature(
        input_ids=np.zeros(len(labels), dtype=np.int64),
        labels=np.array(labels),
        tokens=np.array(tokens),
        atom=0,
        examples=tuple(range(len(num_tokens))),
        num_tokens=tuple(num_tokens),
    )


def laid_out(features: Sequence[Feature], *, is_packed: bool) -> MicroBatch:
    """Return the micro-batch of features in one row, or one a row, with unused cells before and after each."""
    width = sum(len(f) + 1 for f in features) + 1 if is_packed else max(map(len, features)) + 2
    labels = torch.full((1 if is_packed else len(features), width), IGNORE)
    places, start = [], 1
    for row, f in enumerate(features):
        places.append(Place(0, start, len(f)) if is_packed else Place(row, 1, len(f)))
        start += len(f) + 1
        labels[places[-1].row, places[-1].start : places[-1].start + len(f)] = torch.from_numpy(f.labels)
    return MicroBatch({}, labels, places, features=features)


def spread(scores: Sequence[torch.Tensor], batch: MicroBatch) -> torch.Tensor:
    """Return logits with the scores of each feature at its place, and others where no feature is."""
    logits = torch.full((*batch.labels.shape, scores[0].shape[1]), 9.0, dtype=scores[0].dtype)
    for (row, start, length), s in zip(batch.places, scores, strict=True):
        logits[row, start : start + length] = s
    return logits


def random_crf(num_labels: int = 3, seed: int = 0) -> Crf:
    crf = Crf([str(i) for i in range(num_labels)]).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(0, 2, generator=generator)
    return crf


def random_scores(features: Sequence[Feature], num_labels: int = 3, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(len(f), num_labels, generator=generator, dtype=torch.float64) for f in features]


def enumerated(crf: Crf, scores: torch.Tensor, labels: Sequence[int], *, is_first: bool, is_last: bool) -> float:
    """Return the negative log-likelihood of one chain, from the scores of all label sequences."""
    transitions, start, end = (p.tolist() for p in (crf.transitions, crf.start, crf.end))

    def score(sequence: Sequence[int]) -> float:
        total = sum(float(scores[t, label]) for t, label in enumerate(sequence))
        total += sum(transitions[a][b] for a, b in itertools.pairwise(sequence))
        return float(total + is_first * start[sequence[0]] + is_last * end[sequence[-1]])

    every = [score(s) for s in itertools.product(range(scores.shape[1]), repeat=len(labels))]
    largest = max(every)
    return largest + math.log(math.fsum(math.exp(s - largest) for s in every)) - score(labels)


def loss_of(crf: Crf, features: Sequence[Feature], scores: Sequence[torch.Tensor], *, is_packed: bool = True) -> float:
    batch = laid_out(features, is_packed=is_packed)
    return float(crf.loss(spread(scores, batch), batch).detach())


@pytest.mark.parametrize("is_packed", [True, False])
def test_it_equals_enumeration_over_sentences_of_several_lengths(is_packed):
    random = np.random.RandomState(0)
    features = [feature(range(n), random.randint(0, 3, n).tolist(), [n]) for n in (2, 6, 1, 4, 7, 4)]
    crf, scores = random_crf(), random_scores(features)
    expected = [
        enumerated(crf, s, f.labels.tolist(), is_first=True, is_last=True)
        for f, s in zip(features, scores, strict=True)
    ]
    assert loss_of(crf, features, scores, is_packed=is_packed) == pytest.approx(sum(expected), abs=1e-10)
    alone = [loss_of(crf, [f], [s]) for f, s in zip(features, scores, strict=True)]
    assert alone == pytest.approx(expected, abs=1e-10)


def test_subwords_that_decide_nothing_are_no_part_of_the_chain_and_count_by_themselves():
    # [CLS] Bru ##ssels is ##n [SEP]: as `all` labels them
    f = feature([NO, 0, NO, 1, NO, NO], [IGNORE, 1, 2, 0, IGNORE, IGNORE], [2])
    crf, (scores,) = random_crf(), random_scores([f])
    chain = enumerated(crf, scores[[1, 3]], [1, 0], is_first=True, is_last=True)
    by_itself = -float(scores[2].log_softmax(-1)[2])
    assert loss_of(crf, [f], [scores]) == pytest.approx(chain + by_itself, abs=1e-10)


def test_a_chain_ends_at_the_border_of_a_window():
    """Two windows of a sentence of five tokens; the second decides the last two of them."""
    windows = [
        feature([NO, 0, 1, 2, NO, NO], [IGNORE, 0, 1, 2, IGNORE, IGNORE], [5]),
        feature([NO, NO, 3, 4, NO], [IGNORE, IGNORE, 2, 0, IGNORE], [5]),
    ]
    crf, scores = random_crf(), random_scores(windows)
    expected = enumerated(crf, scores[0][1:4], [0, 1, 2], is_first=True, is_last=False)
    expected += enumerated(crf, scores[1][2:4], [2, 0], is_first=False, is_last=True)
    assert loss_of(crf, windows, scores) == pytest.approx(expected, abs=1e-10)


def test_a_window_inside_a_sentence_has_no_first_or_last_label():
    f = feature([3, 4, 5], [0, 1, 2], [9])
    crf, (scores,) = random_crf(), random_scores([f])
    expected = enumerated(crf, scores, [0, 1, 2], is_first=False, is_last=False)
    assert loss_of(crf, [f], [scores]) == pytest.approx(expected, abs=1e-10)


def test_sentences_that_share_a_window_are_chains_of_their_own():
    """Sentences of 2, 0, 1 and 2 tokens."""
    f = feature([NO, 0, 1, 2, 3, 4, NO], [IGNORE, 1, 2, 0, 2, 1, IGNORE], [2, 0, 1, 2])
    crf, (scores,) = random_crf(), random_scores([f])
    parts = [(scores[1:3], [1, 2]), (scores[3:4], [0]), (scores[4:6], [2, 1])]
    expected = sum(enumerated(crf, s, y, is_first=True, is_last=True) for s, y in parts)
    assert loss_of(crf, [f], [scores]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("tokens", "labels"),
    [
        ([0, 2, 3], [1, 2, 0]),  # token 1 has no subwords
        ([0, 1, 2, 3], [1, IGNORE, 2, 0]),  # or no label
    ],
)
def test_a_chain_is_cut_at_a_token_without_subwords_or_label(tokens, labels):
    f = feature(tokens, labels, [4])
    crf, (scores,) = random_crf(), random_scores([f])
    expected = enumerated(crf, scores[:1], [1], is_first=True, is_last=False)
    expected += enumerated(crf, scores[-2:], [2, 0], is_first=False, is_last=True)
    assert loss_of(crf, [f], [scores]) == pytest.approx(expected, abs=1e-10)


def test_tokens_in_another_order_than_their_subwords_are_chained_in_their_own():
    f = feature([2, 0, 1], [0, 1, 2], [3])
    crf, (scores,) = random_crf(), random_scores([f])
    expected = enumerated(crf, scores[[1, 2, 0]], [1, 2, 0], is_first=True, is_last=True)
    assert loss_of(crf, [f], [scores]) == pytest.approx(expected, abs=1e-10)


def test_without_transition_scores_it_is_cross_entropy():
    features = [feature([NO, 0, NO, 1, 2], [IGNORE, 1, 2, 0, IGNORE], [4]), feature([0, 1], [2, 2], [2])]
    scores = random_scores(features)
    batch = laid_out(features, is_packed=True)
    expected = float(CrossEntropy(LABELS).loss(spread(scores, batch), batch))
    assert loss_of(Crf(LABELS).double(), features, scores) == pytest.approx(expected, abs=1e-12)


def test_viterbi_finds_the_likeliest_legal_labels():
    """By the loss itself, over all legal labels of a sentence."""
    crf, num_tokens, changed = random_crf(), 4, 0
    viterbi = Viterbi(LABELS, Scheme.IOB2)
    for seed in range(20):
        (scores,) = random_scores([feature(range(num_tokens), [0] * num_tokens, [num_tokens])], seed=seed)
        legal = [
            y for y in itertools.product(range(3), repeat=num_tokens)
            if all(label != 2 or before in (1, 2) for before, label in itertools.pairwise((0, *y)))
        ]  # fmt: skip
        best = min(legal, key=lambda y: loss_of(crf, [feature(range(num_tokens), y, [num_tokens])], [scores]))
        rows = [scores.log_softmax(-1).numpy()]
        viterbi.learn({})
        before = viterbi.decode(rows)[0].tolist()
        viterbi.learn(learned_by(crf))
        assert viterbi.decode(rows)[0].tolist() == list(best)
        changed += before != list(best)
    assert changed > 5


def test_its_gradient_is_that_of_finite_differences():
    features = [feature([NO, 0, 1, 2, NO], [IGNORE, 1, 2, 0, 2], [4]), feature([0, 1], [2, 2], [2])]
    crf, batch = random_crf(), laid_out(features, is_packed=True)
    logits = spread(random_scores(features), batch).requires_grad_()
    parameters = list(crf.parameters())
    # It changes the values of the tensors that it is given in place, so the CRF's own parameters may be arguments.
    assert len(parameters) == 3
    assert torch.autograd.gradcheck(lambda logits, *_: crf.loss(logits, batch), (logits, *parameters))


def test_a_micro_batch_without_labels_costs_nothing_and_gives_every_parameter_a_gradient():
    f = feature([NO, NO, NO], [IGNORE] * 3, [1])
    crf, batch = random_crf(), laid_out([f], is_packed=True)
    logits = spread(random_scores([f]), batch).requires_grad_()
    loss = crf.loss(logits, batch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert [float(p.grad.abs().max()) for p in crf.parameters()] == [0, 0, 0]


def test_float32_is_exact_on_long_sentences():
    random = np.random.RandomState(0)
    f = feature(range(2000), random.randint(0, 9, 2000).tolist(), [2000])
    crf, (scores,) = random_crf(9), random_scores([f], 9)
    batch = laid_out([f], is_packed=True)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        logits = spread([scores.to(dtype)], batch).requires_grad_()
        crf.to(dtype).loss(logits, batch).backward()
        gradients.append(logits.grad.double())
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-6


def test_logits_in_bf16_are_computed_in_float32():
    f = feature([0, 1, 2], [0, 1, 2], [3])
    crf, batch = random_crf().bfloat16(), laid_out([f], is_packed=True)
    logits = spread(random_scores([f]), batch).bfloat16()
    loss = crf.loss(logits, batch)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(crf.float().loss(logits.float(), batch).detach()), rel=1e-6)


@pytest.mark.parametrize("labels", [("O",), LABELS])
def test_it_passes_the_contract(labels):
    if len(labels) > 1:
        check_objective(Crf, labels)
    else:  # with one label there is nothing to learn
        f = feature([0, 1], [0, 0], [2])
        assert loss_of(random_crf(1), [f], random_scores([f], 1)) == 0


@pytest.mark.parametrize("factor", [-1, math.inf, math.nan, "fast", True])
def test_learning_rate_factors_that_make_no_sense_are_refused(factor):
    expected = f"objective.learning_rate_factor: found {factor!r}, expected a number of 0 or more"
    with pytest.raises(ConfigError) as caught:
        Crf(LABELS, learning_rate_factor=factor)
    assert str(caught.value) == expected


@pytest.mark.extras
def test_it_equals_pytorch_crf():
    torchcrf = pytest.importorskip("torchcrf", reason="needs pytorch-crf")
    random, lengths = np.random.RandomState(0), (12, 3, 1, 30, 7)
    features = [feature(range(n), random.randint(0, 5, n).tolist(), [n]) for n in lengths]
    crf, scores = random_crf(5), random_scores(features, 5)
    batch = laid_out(features, is_packed=True)
    logits = spread(scores, batch).requires_grad_()
    loss = crf.loss(logits, batch)
    loss.backward()

    oracle = torchcrf.CRF(5, batch_first=True).double()
    named = {"transitions": "transitions", "start": "start_transitions", "end": "end_transitions"}
    with torch.no_grad():
        for name, theirs in named.items():
            getattr(oracle, theirs).copy_(getattr(crf, name))
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True).requires_grad_()
    tags = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(f.labels) for f in features], batch_first=True)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    expected = -oracle(padded, tags, mask=mask, reduction="sum")
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-10)
    for name, theirs in named.items():
        assert float((getattr(crf, name).grad - getattr(oracle, theirs).grad).abs().max()) < 1e-10
    assert logits.grad is not None
    assert padded.grad is not None
    for (row, start, length), of_feature in zip(batch.places, padded.grad, strict=True):
        assert float((logits.grad[row, start : start + length] - of_feature[:length]).abs().max()) < 1e-10
