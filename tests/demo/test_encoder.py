from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from nerloop.demo import build_config, build_tokenizer, splits

DIGEST = """
import hashlib
from nerloop.demo import build_tokenizer, splits
tokenizer = build_tokenizer(splits()["train"])
print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def corpus():
    return splits()


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return build_tokenizer(corpus["train"])


def encode(tokenizer, *words):
    return tokenizer.convert_ids_to_tokens(tokenizer(list(words), is_split_into_words=True)["input_ids"])


def test_tokenizer_is_fast_and_cased_with_bert_specials(tokenizer):
    assert tokenizer.is_fast
    assert len(tokenizer) == 3000
    assert tokenizer.model_max_length == 512
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.pad_token_id == 0
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert encode(tokenizer, "Leeds", "beat", "LEEDS")[:3] == ["[CLS]", "Leeds", "beat"]
    assert encode(tokenizer, "Leeds") != encode(tokenizer, "leeds")


def test_tokenizer_spells_unknown_words(tokenizer):
    assert encode(tokenizer, "Zqj7") == ["[CLS]", "Z", "##q", "##j", "##7", "[SEP]"]


def test_tokenizer_joins_pieces_and_pairs(tokenizer):
    ids = tokenizer("Ziegler said", "Leeds beat Hull")
    assert tokenizer.decode(ids["input_ids"]) == "[CLS] Ziegler said [SEP] Leeds beat Hull [SEP]"


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_no_token_is_unknown(corpus, tokenizer, name):
    rows = tokenizer([list(example.tokens) for example in corpus[name]], is_split_into_words=True)["input_ids"]
    assert len(rows) == len(corpus[name])
    assert sum(row.count(tokenizer.unk_token_id) for row in rows) == 0
    assert max(map(len, rows)) < 64


def test_tokenizer_does_not_depend_on_the_process(tokenizer):
    expected = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("with_config", [False, True])
def test_tokenizer_survives_saving(tokenizer, tmp_path, with_config):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    if with_config:
        build_config(tokenizer).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert loaded.model_max_length == 512
    assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert encode(loaded, "Ziegler", "beat", "Hull", "3-1") == encode(tokenizer, "Ziegler", "beat", "Hull", "3-1")


def test_config_is_a_small_bert_for_the_tokenizer(tokenizer):
    config = build_config(tokenizer)
    assert config.model_type == "bert"
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (3000, 128, 2)
    assert config.max_position_embeddings == 512
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.1)
    assert config.pad_token_id == 0
