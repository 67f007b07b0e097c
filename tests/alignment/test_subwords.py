"""Each distinct token once, or sentence by sentence: which of the two is right for a tokenizer, and that both agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerloop.alignment import subwords
from nerloop.alignment.subwords import encode, is_token_by_token, subwords_of

TOKENS = st.one_of(
    st.sampled_from(["New", "Brussels", "", " ", "▁", "Ġ", "[CLS]", "<s>", "\u200e", "e\u0301", "a b", "don't", "\t"]),
    st.text(max_size=8),
)
SENTENCES = st.lists(st.lists(TOKENS, max_size=6), max_size=5)


def unigram():
    """Return a tokenizer as SentencePiece makes them: pieces by their likelihood, ▁ for the space before a word."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁New", -1.0), ("New", -3.0), ("er", -2.5)]
    pieces += [(c, -4.0) for c in "abcdefghijklmnopqrstuvwxyzN.'"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", model_max_length=512)


@pytest.fixture
def family(request, wordpiece, byte_level):
    return {"wordpiece": wordpiece, "bytes": byte_level, "unigram": unigram()}[request.param]


@pytest.mark.parametrize("family", ["wordpiece", "bytes", "unigram"], indirect=True)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sentences=SENTENCES)
def test_each_token_once_gives_what_whole_sentences_give(family, sentences):
    assert is_token_by_token(family, [])
    for (ids, of), (direct_ids, direct_of) in zip(
        subwords_of(family, sentences), encode(family, sentences), strict=True
    ):
        assert ids.tolist() == direct_ids.tolist()
        assert of.tolist() == direct_of.tolist()


class LooksBack:
    """A tokenizer that writes a token again as [UNK] where the one before was the same."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self.num_calls = 0

    def __call__(self, sentences, **options):
        self.num_calls += 1
        unknown = self._tokenizer.unk_token_id
        encoded = self._tokenizer(sentences, **options)
        for i, tokens in enumerate(sentences):
            encoded["input_ids"][i] = [
                unknown if of > 0 and tokens[of] == tokens[of - 1] else subword
                for subword, of in zip(encoded["input_ids"][i], encoded.word_ids(i), strict=True)
            ]
        return encoded


def test_a_tokenizer_that_looks_across_tokens_is_given_sentences(wordpiece):
    tokenizer = LooksBack(wordpiece)
    sentences = [["New", "New", "York"], ["York", "New"]]
    assert not is_token_by_token(tokenizer, sentences)
    assert [wordpiece.convert_ids_to_tokens(ids.tolist()) for ids, _ in subwords_of(tokenizer, sentences)] == [
        ["New", "[UNK]", "York"],
        ["York", "New"],
    ]


def test_it_is_given_them_a_chunk_at_a_time(wordpiece, monkeypatch):
    monkeypatch.setattr(subwords, "CHUNK", 2)
    tokenizer = LooksBack(wordpiece)
    found = subwords_of(tokenizer, [["big", "big"]] * 5)
    asked = tokenizer.num_calls
    assert [len(ids) for ids, _ in found] == [2] * 5
    assert tokenizer.num_calls - asked == 3


def test_distinct_tokens_are_tokenised_once(wordpiece, monkeypatch):
    seen: list[str] = []

    def counting(tokenizer, sentences):
        seen.extend(token for tokens in sentences for token in tokens)
        return encode(tokenizer, sentences)

    assert is_token_by_token(wordpiece, [])
    monkeypatch.setattr(subwords, "is_token_by_token", lambda *_: True)
    monkeypatch.setattr(subwords, "encode", counting)
    found = list(subwords_of(wordpiece, [["is", "big", "is"]] * 3000))
    assert seen == ["is", "big"]
    assert len(found) == 3000
    assert np.array_equal(found[0][0], found[-1][0])
