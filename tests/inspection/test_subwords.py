"""What a tokenizer makes of the sentences."""

import pytest

from nerloop.errors import ConfigError
from nerloop.inspection.findings import find_all
from nerloop.inspection.parts import Part
from nerloop.inspection.statistics import Place, Statistics
from nerloop.inspection.subwords import Limit, SubwordStatistics
from nerloop.types import Example


@pytest.fixture
def part(wordpiece):
    """Return a part of three sentences, tokenised for windows of 8 subwords, and the limit."""
    sentences = [["Brussels", "is", "big"], ["New"] * 10, ["\u200e", "in", "ü", ""]]
    examples = [
        Example(tuple(tokens), ("B-LOC", *["O"] * (len(tokens) - 1)), f"x:{i}")
        for i, tokens in enumerate(sentences, start=1)
    ]
    statistics, limit = Statistics.of(examples), Limit.of(wordpiece, 8, 2)
    subwords = SubwordStatistics.of(wordpiece, examples, statistics.lengths, limit)
    return Part("train", "x", examples, statistics, subwords), limit


def test_lengths_hold_the_special_tokens(part):
    assert part[0].subwords.lengths.tolist() == [6, 12, 4]
    assert part[0].subwords.num_subwords == 4 + 10 + 2


def test_windows_are_those_of_training(part, wordpiece):
    from nerloop.alignment.first import First

    features = First(wordpiece, ("O", "B-LOC"), max_length=8, stride=2).split(part[0].examples)
    assert sum(f.examples == (1,) for f in features) == 2
    assert (part[0].subwords.num_long, part[0].subwords.num_windows, part[0].subwords.long) == (1, 2, [Place(1, 0)])


def test_tokens_without_subwords(part):
    assert (part[0].subwords.num_without, part[0].subwords.without) == (2, [Place(2, 0), Place(2, 3)])


def test_tokens_that_the_tokenizer_does_not_know(part):
    assert (part[0].subwords.num_unknown, part[0].subwords.unknown) == (1, [Place(2, 2)])


def test_findings(part):
    found = {f.kind: (str(f.severity), f.where, f.message, f.action) for f in find_all([part[0]], part[1])}
    assert found["long_sentence"] == (
        "info", "x:2", "1 sentence in the training split (33.3%) of more than 8 subwords, special tokens included",
        "cuts them into 2 windows that share 2 subwords with the next; every token is trained and predicted once",
    )  # fmt: skip
    assert found["no_subwords"][:3] == (
        "warning", "x:3", "2 tokens in the training split that the tokenizer makes nothing of",
    )  # fmt: skip
    assert found["unknown_subword"][:3] == (
        "warning", "x:3", "1 token in the training split (5.9%) with something the tokenizer does not know",
    )  # fmt: skip


def test_the_limit_is_the_one_of_training(wordpiece):
    assert Limit.of(wordpiece) == Limit(512, 2, 127)


def test_a_limit_beyond_the_model_is_refused(wordpiece):
    with pytest.raises(ConfigError, match=r"^alignment\.max_length: found 600,"):
        Limit.of(wordpiece, 600)


def test_no_sentences(wordpiece):
    found = SubwordStatistics.of(wordpiece, [], Statistics.of([]).lengths, Limit.of(wordpiece))
    assert (len(found.lengths), found.num_subwords) == (0, 0)


def test_the_models_own_limit_counts(tiny_model):
    from nerloop.config import ModelSettings
    from nerloop.model.load import load_limited_tokenizer

    assert load_limited_tokenizer(ModelSettings(name_or_path=tiny_model)).model_max_length == 64


def test_a_sentence_of_many_chunks_of_examples(wordpiece):
    examples = [Example(("New", "York"), ("O", "O"), "x:1")] * 2_500
    found = SubwordStatistics.of(wordpiece, examples, Statistics.of(examples).lengths, Limit.of(wordpiece))
    assert (found.num_subwords, found.num_without, len(found.lengths)) == (5_000, 0, 2_500)
