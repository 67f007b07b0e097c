"""Sentences of any tokens through tokenizers of three kinds: every token decided once, every score in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from nerloop.alignment.all import All
from nerloop.alignment.first import First
from nerloop.errors import ConfigError
from nerloop.types import IGNORE, Example

COUNTS = {"sentences": 800, "options": 400}
LABELS = ("O", "B-PER", "I-PER", "B-LOC")
ALIGNMENTS = {"first": First, "all": All}


@pytest.fixture
def unigram():
    """Return a tokenizer of the SentencePiece kind, as ALBERT's and XLM-R's are: a model of pieces, "▁" for a space."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁New", -3.0), ("▁An", -3.0), ("na", -3.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((c, -5.0) for c in "abcdefghiABC.,-")], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


@pytest.fixture
def tokenizers(wordpiece, byte_level, unigram) -> dict[str, Any]:
    return {"wordpiece": wordpiece, "byte level": byte_level, "unigram": unigram}


def test_every_token_is_decided_once_and_scored(feed, share, tokenizers, tokens):
    def one(pair):
        examples, (kind, name, max_length, stride, seed) = pair
        tokenizer = tokenizers[kind]
        alignment = ALIGNMENTS[name](tokenizer, LABELS, max_length=max_length, stride=stride)
        features = alignment.split(examples)
        for f in features:
            assert 2 <= len(f) <= max_length
            assert len(f) == len(f.labels) == len(f.tokens)
        for i, example in enumerate(examples):
            own = [f for f in features if f.examples == (i,)]
            assert {(f.atom, f.num_tokens) for f in own} == {(i, (len(example.tokens),))}
            labels, decides = (np.concatenate([getattr(f, n) for f in own]) for n in ("labels", "tokens"))
            decided = decides[decides >= 0]
            assert decided.tolist() == with_subwords(tokenizer, example.tokens)  # in order, each once
            gold = np.array([LABELS.index(tag) for tag in example.tags] or [IGNORE] * len(example.tokens), dtype=int)
            assert np.array_equal(labels[decides >= 0], gold[decided])
            if name == "first" or not example.tags:
                assert (labels[decides < 0] == IGNORE).all()
        random = np.random.RandomState(seed)
        scores = [random.rand(len(f), len(LABELS)) for f in features]
        joined = alignment.join(features, scores)
        assert {i: rows.shape for i, rows in joined.items()} == {
            i: (len(e.tokens), len(LABELS)) for i, e in enumerate(examples)
        }
        for feature, s in zip(features, scores, strict=True):
            decides = feature.tokens >= 0
            assert np.array_equal(joined[feature.atom][feature.tokens[decides]], s[decides])
            joined[feature.atom][feature.tokens[decides]] = 0
        assert not any(rows.any() for rows in joined.values())  # what nothing decides has equal scores
        return f"{kind}, {name}{', windows' * (len(features) > len(examples))}"

    sentence = st.lists(st.tuples(tokens, st.sampled_from(LABELS)), max_size=5)
    long = st.tuples(st.sampled_from(("ab.", "New ", "é", "\u200e")), st.integers(1, 60), st.sampled_from(LABELS))
    sentences = st.tuples(sentence, st.lists(long, max_size=1), sentence, st.booleans()).map(with_long_token)
    options = st.tuples(
        st.sampled_from(("wordpiece", "byte level", "unigram")), st.sampled_from(("first", "all")),
        st.sampled_from((9, 24, 40, 512)), st.sampled_from((None, 0, 1, 5)), st.integers(0, 99),
    )  # fmt: skip
    outcomes = feed(COUNTS["sentences"], st.tuples(st.lists(sentences, max_size=3), options), one)
    for kind in tokenizers:
        for name in ALIGNMENTS:
            least = 20 if share == 1 else 0
            assert outcomes[f"{kind}, {name}"] > least
            assert outcomes[f"{kind}, {name}, windows"] > least


def with_long_token(parts: Any) -> Example:
    before, long, after, has_tags = parts
    pairs = [*before, *((text * times, tag) for text, times, tag in long), *after]
    return Example(tuple(t for t, _ in pairs), tuple(g for _, g in pairs) if has_tags else ())


def with_subwords(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    encoded = tokenizer(list(tokens), is_split_into_words=True, add_special_tokens=False, verbose=False)
    return sorted(set(encoded.word_ids()))


def test_options_are_used_or_refused(feed, attempt, wordpiece):
    def one(options):
        max_length, stride = options
        found = attempt(lambda: First(wordpiece, LABELS, max_length=max_length, stride=stride), "alignment.")
        is_right = 2 < max_length <= 512 and 0 <= stride < max_length - 2
        assert isinstance(found, ConfigError) != is_right
        return is_right

    numbers = st.sampled_from((-(10**30), -1, 0, 1, 2, 3, 4, 511, 512, 513, 10**30)) | st.integers(-5, 600)
    outcomes = feed(COUNTS["options"], st.tuples(numbers, numbers), one)
    assert min(outcomes[True], outcomes[False]) > 20


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["wordpiece", "byte level", "unigram"])
@pytest.mark.parametrize("text", ["ab." * 33_334, "\u200e" * 100_000, "é" * 100_000])
def test_a_token_of_100_000_characters_is_decided_at_most_once(tokenizers, kind, text):
    features = First(tokenizers[kind], LABELS).split([Example(("in", text, "New"), ("O", "B-LOC", "I-PER"))])
    decided = [n for f in features for n in f.tokens[f.tokens >= 0].tolist()]
    assert decided == with_subwords(tokenizers[kind], ["in", text, "New"])
    assert decided in ([0, 1, 2], [0, 2])
    assert max(map(len, features)) <= 512
    labels = [n for f in features for n in f.labels[f.labels >= 0].tolist()]
    assert labels == [[0, 3, 2][n] for n in decided]
