"""A model and sentences in, a tag for every token out, whatever the layout and the order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from nerloop.alignment.all import All
from nerloop.alignment.document import Document
from nerloop.alignment.first import First
from nerloop.collators.pack import Pack
from nerloop.collators.pad import Pad
from nerloop.contracts.alignment import in_documents, nasty_examples
from nerloop.decoding import Decoding
from nerloop.decoding.argmax import Argmax
from nerloop.decoding.viterbi import Viterbi
from nerloop.evaluation.prediction_files import write_nothing
from nerloop.evaluation.predictor import MAX_SUBWORDS, Prediction, Predictor, Split, softmax
from nerloop.evaluators.seqeval import Seqeval
from nerloop.model import packing as attention
from nerloop.tags import Scheme, is_legal, split_tag, to_spans
from nerloop.types import Example

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture(scope="module")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.fixture
def model(make_model):
    model = make_model("bert", LABELS)
    attention.set_packed_attention(model)
    return model


@pytest.fixture
def make_tagger(wordpiece, accelerator):
    def make(alignment=First, collator=Pack, **options) -> Predictor:
        decodings: dict[str, Decoding] = {
            "viterbi": Viterbi(LABELS, Scheme.IOB2),
            "argmax": Argmax(LABELS, Scheme.IOB2),
        }
        aligned = alignment(wordpiece, LABELS, **options)
        return Predictor(LABELS, aligned, collator(wordpiece), decodings, accelerator)

    return make


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Return strange sentences, some longer than a window, and 120 ordinary ones."""
    random = np.random.RandomState(0)
    words = ["Anna", "lives", "in", "New", "York", "Brussels", "is", "big", "."]
    ordinary = [tuple(str(w) for w in random.choice(words, size=random.randint(1, 25))) for _ in range(120)]
    return [
        *nasty_examples(40, LABELS),
        *(Example(tokens, tuple(str(t) for t in random.choice(LABELS, size=len(tokens)))) for tokens in ordinary),
    ]


def tag(predictor: Predictor, model, examples) -> list[Prediction]:
    return predictor.gather(predictor.tag(model, tagger_split(predictor, examples)), range(len(examples)))


def evaluate(predictor: Predictor, model, examples) -> dict[str, dict]:
    counts = predictor.tag_in_order(model, tagger_split(predictor, examples), write_nothing, Seqeval())
    return predictor.metrics_of(counts, Seqeval())


def tagger_split(predictor: Predictor, examples) -> Split:
    return Split.of(examples, predictor.alignment, predictor.collator)


@pytest.mark.parametrize("alignment", [First, All, Document])
@pytest.mark.parametrize("collator", [Pack, Pad])
def test_every_token_of_every_sentence_is_tagged(make_tagger, model, examples, alignment, collator):
    found = tag(make_tagger(alignment, collator, max_length=40, stride=8), model, in_documents(examples))
    assert [len(t.tags["viterbi"]) for t in found] == [len(e.tokens) for e in examples]
    assert [len(t.tags["argmax"]) for t in found] == [len(e.tokens) for e in examples]
    assert [t.probabilities.shape for t in found] == [(len(e.tokens),) for e in examples]
    assert {x for t in found for x in t.tags["argmax"]} == {"O", "B-PER", "B-LOC", "I-LOC"}
    assert all(0 < p <= 1 for t in found for p in t.probabilities)


def test_the_main_decoding_is_legal(make_tagger, model, examples):
    found = tag(make_tagger(max_length=40), model, examples)
    pairs = [(a, b) for t in found for a, b in zip(["O", *t.tags["viterbi"]], t.tags["viterbi"])]
    assert len(pairs) > 1000
    assert all(is_legal(split_tag(a), split_tag(b), Scheme.IOB2) for a, b in pairs)
    others = [(a, b) for t in found for a, b in zip(["O", *t.tags["argmax"]], t.tags["argmax"])]
    assert not all(is_legal(split_tag(a), split_tag(b), Scheme.IOB2) for a, b in others)


def same(ours: list[Prediction], theirs: list[Prediction]) -> bool:
    return [t.tags for t in ours] == [t.tags for t in theirs] and all(
        np.allclose(a.probabilities, b.probabilities, atol=1e-4) for a, b in zip(ours, theirs, strict=True)
    )


def test_packed_and_padded_give_the_same(make_tagger, model, examples):
    packed = tag(make_tagger(collator=Pack, max_length=40), model, examples)
    padded = tag(make_tagger(collator=Pad, max_length=40), model, examples)
    assert same(packed, padded)


def test_neighbours_in_a_document_are_seen_and_other_documents_are_not(make_tagger, model):
    predictor = make_tagger(Document)
    a, b, c = (Example(("Anna", "lives", "in", place), document="a") for place in ("York", "Brussels", "New"))
    other = Example(("York", "is", "big"), document="b")
    expected = tag(predictor, model, [a, b])
    assert same(tag(predictor, model, [a, b, other]), [*expected, *tag(predictor, model, [other])])
    assert not same(tag(predictor, model, [a, c])[:1], expected[:1])
    assert same(tag(predictor, model, [a]), tag(make_tagger(All), model, [a]))


def test_the_order_of_the_sentences_does_not_matter(make_tagger, model, examples):
    predictor = make_tagger(max_length=40)
    order = np.random.RandomState(1).permutation(len(examples))
    expected = tag(predictor, model, examples)
    found = tag(predictor, model, [examples[i] for i in order])
    assert same(found, [expected[i] for i in order])


def test_a_sentence_alone_gives_the_same(make_tagger, model, examples):
    predictor = make_tagger(max_length=40)
    expected = tag(predictor, model, examples)
    for i in (0, 1, 2, len(examples) - 1):
        assert same(tag(predictor, model, [examples[i]]), [expected[i]])


def test_a_token_without_subwords_has_equal_shares(make_tagger, model):
    (found,) = tag(make_tagger(), model, [Example(("Anna", "\u200e", "is"))])
    assert found.probabilities[1] == pytest.approx(0.2)
    assert found.probabilities[0] != pytest.approx(0.2)
    assert found.tags["argmax"][1] == "O"


def test_no_sentences_at_all(make_tagger, model):
    predictor = make_tagger()
    assert tag(predictor, model, []) == []
    assert evaluate(predictor, model, [])["viterbi"]["f1"] == 0.0


def test_a_forward_takes_no_more_cells_than_it_may(make_tagger, examples):
    for collator in (Pack, Pad):
        predictor = make_tagger(collator=collator, max_length=40)
        split = tagger_split(predictor, examples)
        forwards = [forward for group in split.groups for forward in group]
        assert sorted(i for forward in forwards for i in forward) == list(range(len(split.features)))
        cells = [predictor.collator.num_cells([len(split.features[i]) for i in forward]) for forward in forwards]
        assert max(cells) <= MAX_SUBWORDS


def test_the_model_is_left_as_it_was(make_tagger, model, examples):
    predictor = make_tagger(max_length=40)
    model.train()
    expected = tag(predictor, model, examples[-5:])
    assert model.training
    assert same(tag(predictor, model, examples[-5:]), expected)  # no dropout
    assert all(p.grad is None for p in model.parameters())
    tag(predictor, model.eval(), examples[-5:])
    assert not model.training


def test_log_probabilities_of_a_share(make_tagger, model, examples):
    predictor = make_tagger(max_length=40)
    scores = {i: s for share in predictor.scores(model, tagger_split(predictor, examples)) for i, s in share.items()}
    assert sorted(scores) == list(range(len(examples)))
    totals = np.concatenate([np.exp(s).sum(axis=1) for s in scores.values()])
    assert set(np.round(totals, 3)) == {1.0, 5.0}  # 5: equal zeros, where a token has no subwords
    assert scores[1].dtype == np.float32


def test_in_float64_the_scores_are(make_tagger, model, examples):
    predictor = make_tagger()
    (share,) = predictor.scores(model.double(), tagger_split(predictor, examples[1:2]))
    assert share[0].dtype == np.float64


def test_in_bf16_the_scores_are_float32(wordpiece, make_tagger, model, examples):
    predictor = make_tagger()
    (share,) = predictor.scores(model.to(torch.bfloat16), tagger_split(predictor, examples[-3:]))
    assert {s.dtype for s in share.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(s).all() for s in share.values())


def test_the_metrics_are_those_of_the_tags(make_tagger, model, examples):
    predictor = make_tagger(max_length=40)
    metrics = evaluate(predictor, model, examples)
    found = tag(predictor, model, examples)
    assert sorted(metrics) == ["argmax", "viterbi"]
    for name in metrics:
        counts = Seqeval().count([e.tags for e in examples], [t.tags[name] for t in found])
        assert metrics[name] == Seqeval().metrics(counts)
    assert metrics["viterbi"]["tokens"] == sum(len(e.tokens) for e in examples)


@pytest.mark.parametrize("alignment", [First, Document])
def test_the_shares_of_several_processes_are_everything_once(make_tagger, model, examples, alignment):
    predictor = make_tagger(alignment, max_length=40)
    split = tagger_split(predictor, in_documents(examples * 5))
    assert len(split.groups) >= 3
    expected = predictor.tag(model, split)

    class Share:
        """What a process knows of itself."""

        def __init__(self, index: int) -> None:
            self.process_index, self.num_processes = index, 3
            self.unwrap_model, self.autocast = predictor.accelerator.unwrap_model, predictor.accelerator.autocast

    whole: dict[int, Prediction] = {}
    for index in range(3):
        share = Predictor(LABELS, predictor.alignment, predictor.collator, predictor.decodings, Share(index)).tag(
            model, split
        )
        assert not whole.keys() & share.keys()
        assert len(share) > 0
        whole |= share
    assert sorted(whole) == list(range(len(split.examples)))
    for i, found in whole.items():
        assert found.tags == expected[i].tags
        assert np.array_equal(found.probabilities, expected[i].probabilities)  # to the last digit


def test_gather_wants_every_sentence(make_tagger):
    predictor, nothing = make_tagger(), Prediction({}, np.zeros(0))
    assert predictor.gather({1: nothing, 0: nothing}, range(2)) == [nothing, nothing]
    with pytest.raises(AssertionError, match="every example is scored on exactly one process"):
        predictor.gather({1: nothing}, range(2))


@pytest.mark.parametrize("alignment", [First, Document])
def test_a_split_is_tagged_piece_by_piece_in_its_order(make_tagger, model, examples, alignment, monkeypatch):
    examples = in_documents(examples)
    predictor = make_tagger(alignment, max_length=40)
    expected = tag(predictor, model, examples)
    monkeypatch.setattr("nerloop.batching.features.CHUNK", 30)
    split = tagger_split(predictor, examples)
    assert len(split.shards) >= 4
    assert [i for shard in split.shards for i in shard.examples] == list(range(len(examples)))
    assert [i for shard in split.shards for i in shard.groups] == list(range(len(split.groups)))
    shards, found = [], []

    def write(some, tagged):
        shards.extend(some)
        found.extend(tagged)

    counts = predictor.tag_in_order(model, split, write, Seqeval())
    assert shards == examples
    assert same(found, expected)
    for name, of_decoding in counts.items():
        assert of_decoding == Seqeval().count([e.tags for e in examples], [p.tags[name] for p in expected])
    assert predictor.tag_in_order(model, split, write) == {}


def test_counts_of_one_process_are_the_sum(make_tagger):
    assert make_tagger().sum_over_processes(Counter({("tokens",): 3})) == {("tokens",): 3}


def test_spans_with_their_confidence():
    tagged = Prediction({"viterbi": ["B-PER", "I-PER", "O", "B-LOC"]}, np.array([0.5, 1.0, 0.1, 0.25]))
    assert tagged.spans("viterbi") == [
        {"start": 0, "end": 2, "type": "PER", "confidence": 0.75},
        {"start": 3, "end": 4, "type": "LOC", "confidence": 0.25},
    ]


def test_confidences_are_probabilities_at_the_temperature_and_without_it(make_tagger, model, examples):
    predictor = replace(make_tagger(max_length=40), temperature=2.0, keeps_uncalibrated=True, keeps_scores=True)
    plain, found = tag(make_tagger(max_length=40), model, examples), tag(predictor, model, examples)
    viterbi = Viterbi(LABELS, Scheme.IOB2)
    num_spans = 0
    for before, now in zip(plain, found, strict=True):
        assert before.tags == now.tags
        assert before.scores is None
        assert now.scores is not None
        spans = to_spans(now.tags["viterbi"])
        num_spans += len(spans)
        (expected,), (without,) = (viterbi.span_probabilities([now.scores], [spans], t) for t in (2.0, 1.0))
        assert now.confidences["viterbi"] == pytest.approx(expected, rel=1e-9)
        assert now.uncalibrated["viterbi"] == pytest.approx(without, rel=1e-9)
        assert [s["confidence"] for s in now.spans("viterbi")] == [round(float(c), 6) for c in expected]
        assert before.confidences["viterbi"] == pytest.approx(without, abs=1e-5)
    assert num_spans > 100


def test_a_decoding_without_probabilities_has_mean_ones(make_tagger, model, examples):
    class Bare:
        def decode(self, scores):
            return Argmax(LABELS, Scheme.IOB2).decode(scores)

    found = tag(replace(make_tagger(max_length=40), decodings={"bare": Bare()}), model, examples)
    expected = [[p.probabilities[s.start : s.end].mean() for s in to_spans(p.tags["bare"])] for p in found]
    assert [[s["confidence"] for s in p.spans("bare")] for p in found] == [
        [pytest.approx(float(x), abs=1e-6) for x in of_one] for of_one in expected
    ]
    assert sum(map(len, expected)) > 100


def test_softmax():
    assert softmax(np.log([[0.25, 0.75], [0.5, 0.5]])).round(12).tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert softmax(np.zeros((1, 4))).tolist() == [[0.25] * 4]
    assert softmax(np.array([[-1e9, 0.0], [1000.0, 0.0]])).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert softmax(np.zeros((0, 3))).shape == (0, 3)
