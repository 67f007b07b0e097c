"""Let an uncased encoder see capitals, at about the same number of subwords.

An uncased encoder's tokenizer lower-cases its text, so that "Apple" and "apple" are one subword, and names are hard to
find. `add_cased_subwords` adds variants of each subword to the vocabulary: "Apple" and "APPLE" beside "apple". The text
is split as before, except for words with capitals inside, such as "iPhone". The embedding of a variant is that of the
lower-case subword plus a random vector, the same for all variants of a kind. Training teaches the encoder what this
vector means, so variants that the training text lacks are understood as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.errors import ModelError
from nerloop.types import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTINUES = "##"
"""Marks a subword that does not begin a word, in a WordPiece vocabulary."""


def capitalised(text: str) -> str:
    """Return a text with its first letter in upper case; unlike `str.title`, "3d" stays "3d"."""
    return text[:1].upper() + text[1:]


KINDS: tuple[Callable[[str], str], ...] = (capitalised, str.upper)
"""The variants of a subword."""


def lower_cases(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer lower-cases its text."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and "A" not in normalizer.normalize_str("A")


def can_be_cased(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer lower-cases as BERT's does, so that `add_cased_subwords` can handle it."""
    if not lower_cases(tokenizer):  # writing out a whole vocabulary takes longer than this question
        return False
    return _lower_casing(json.loads(tokenizer.backend_tokenizer.to_str())) is not None


def add_cased_subwords(model: PreTrainedModel, tokenizer: Tokenizer) -> Tokenizer:
    """Add the variants to a model's embedding; return a tokenizer that has them and keeps the case of its text.

    All old subwords and added tokens keep their ids. Raises ModelError if the tokenizer is not one of WordPiece with
    BERT's normalizer.
    """
    import torch
    from torch import nn

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer = _lower_casing(state)
    if normalizer is None:
        raise ModelError(
            f"model.cased_subwords: found a tokenizer ({type(tokenizer).__name__}) that lower-cases in its own way, "
            "expected WordPiece with BERT's normalizer; drop the setting"
        )
    strips_accents = normalizer["strip_accents"] is not False  # null: if it lower-cases
    normalizer |= {"lowercase": False, "strip_accents": strips_accents}
    added_tokens = {token["content"]: token["id"] for token in state["added_tokens"]}
    vocabulary: dict[str, int] = state["model"]["vocab"]
    # Otherwise an added token would get the first id after the vocabulary, which is now that of a variant.
    vocabulary |= added_tokens
    first = max(vocabulary.values()) + 1
    variants = list(_variants(vocabulary, set(added_tokens)))

    old = model.get_input_embeddings()
    if len(old.weight) < first:
        raise ModelError(f"model.cased_subwords: found a token with id {first - 1}, but {len(old.weight)} embeddings")
    with torch.no_grad():
        rows = old.weight[:first]
        # The length of an average embedding: half of it and twice of it gave a lower F1.
        directions = torch.randn(len(KINDS), rows.shape[1], generator=torch.Generator().manual_seed(0))
        directions *= rows.norm(dim=1).mean() / directions.norm(dim=1, keepdim=True)
        kinds, sources = torch.tensor([(kind, source) for _, kind, source in variants]).T
        weight = torch.cat([rows, rows[sources] + directions[kinds]])
    vocabulary |= {variant: first + i for i, (variant, _, _) in enumerate(variants)}
    cased = _rebuilt(tokenizer, state, {"do_lower_case": False, "strip_accents": strips_accents})
    model.set_input_embeddings(nn.Embedding(len(weight), weight.shape[1], padding_idx=old.padding_idx, _weight=weight))
    model.config.vocab_size = len(weight)
    return cased


def _lower_casing(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return the part of a WordPiece tokenizer's state that lower-cases as BERT's does; None for other tokenizers."""
    if state["model"]["type"] != "WordPiece":
        return None
    normalizer = state["normalizer"] or {}
    parts = [normalizer, *normalizer.get("normalizers", [])]
    return next((part for part in parts if part.get("type") == "BertNormalizer" and part["lowercase"]), None)


def _variants(vocabulary: dict[str, int], added_tokens: set[str]) -> Iterator[tuple[str, int, int]]:
    """Yield each new subword, the index of its kind, and the id of the lower-case one."""
    known = set(vocabulary)
    for subword, source in vocabulary.items():
        mark = CONTINUES if subword.startswith(CONTINUES) else ""
        body = subword.removeprefix(CONTINUES)
        if subword in added_tokens or (body.startswith("[unused") and body.endswith("]")):
            continue
        for kind, change in enumerate(KINDS):
            variant = change(body)
            # The variant must become the subword again when it is lower-cased, which "SS" for "ß" does not. Lower-case
            # letter by letter, as tokenizers does: str.lower treats the end of a word in its own way (sigma).
            if "".join(map(str.lower, variant)) == body and mark + variant not in known:
                known.add(mark + variant)
                yield mark + variant, kind, source
    # Capitals that are not the upper case of any subword, such as "ẞ", or "İ", which is two characters in lower case:
    # without them, a word that has one would be unknown.
    for letter in map(chr, range(sys.maxunicode + 1)):
        lower = letter.lower()
        if lower != letter:
            for mark in ("", CONTINUES):
                found = vocabulary.get(mark + lower, vocabulary.get(mark + lower[0]))
                if found is not None and mark + letter not in known:
                    yield mark + letter, KINDS.index(str.upper), found


def _rebuilt(tokenizer: Tokenizer, state: dict[str, Any], options: dict[str, Any]) -> Tokenizer:
    """Return a tokenizer with another state and other options.

    It is read from files, as the saved model's will be: classes differ in what they take from the state and what from
    the options. Raises ModelError if a class follows neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Path(folder, "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        file = Path(folder, "tokenizer_config.json")
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | options), encoding="utf-8")
        Path(folder, "vocab.txt").unlink(missing_ok=True)  # of the old vocabulary
        rebuilt: Tokenizer = type(tokenizer).from_pretrained(folder)
    if lower_cases(rebuilt):
        raise ModelError(
            f"model.cased_subwords: {type(tokenizer).__name__} lower-cases its text whatever its files say; drop the "
            "setting"
        )
    if rebuilt.get_vocab() != state["model"]["vocab"]:
        raise ModelError(
            f"model.cased_subwords: {type(tokenizer).__name__} does not take another vocabulary; drop the setting"
        )
    rebuilt.model_max_length = tokenizer.model_max_length
    return rebuilt
