"""The demo's encoder: a WordPiece vocabulary learned from the training split, and a small BERT with random weights."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nerloop.types import Example

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerFast

SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

ALPHABET = string.ascii_letters + string.digits + string.punctuation
"""Characters that are pieces of their own, at the start of a word and inside it. So no ASCII word is [UNK]."""

VOCABULARY_SIZE = 3_000
MAX_LENGTH = 512


def build_tokenizer(examples: Iterable[Example]) -> PreTrainedTokenizerFast:
    """Return a cased WordPiece tokenizer learned from examples. The same examples give the same tokenizer."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = _empty(_learn_vocabulary(examples))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **SPECIALS)


def build_config(tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    """Return the configuration of a BERT that learns from scratch in a minute: 2 layers of width 128."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        initializer_range=0.05,  # BERT's 0.02 suits a width of 768; at 128 it learns too slowly
        pad_token_id=tokenizer.pad_token_id,
    )


def new_encoder(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the encoder without a head; its random weights are the same each time."""
    import torch
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(0)
        return BertModel(build_config(tokenizer), add_pooling_layer=False)


def _learn_vocabulary(examples: Iterable[Example]) -> dict[str, int]:
    """Return the pieces and their ids, special tokens first.

    The trainer breaks ties by id. It numbers the "##" pieces of single characters in the order of a hash table, which
    differs from process to process. Passing them as special tokens fixes their ids.
    """
    from tokenizers.trainers import WordPieceTrainer

    learner = _empty({token: index for index, token in enumerate(SPECIALS.values())})
    trainer = WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        show_progress=False,
        special_tokens=[*SPECIALS.values(), *ALPHABET, *(f"##{character}" for character in ALPHABET)],
    )
    learner.train_from_iterator((" ".join(example.tokens) for example in examples), trainer)
    return learner.get_vocab()


def _empty(vocabulary: dict[str, int]) -> Tokenizer:
    """Return a tokenizer with BERT's cased pipeline and this vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIALS["unk_token"], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = SPECIALS["cls_token"], SPECIALS["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
