"""Let an uncased encoder tell upper from lower case, at the same number of subwords.

An uncased encoder's tokenizer lower-cases its text, so that "Apple" and "apple" are one subword, and names are hard to
find. `add_cased_subwords` adds variants of each subword to the vocabulary: "Apple" and "APPLE" beside "apple". The text
is split as before, except for words such as "iPhone". The embedding of a variant is that of the lower-case subword plus
a random vector, the same for all variants of a kind. Training teaches the encoder what this vector means, so variants
that the training text lacks are understood as well.
"""

from __future__ import annotations

import json
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
    """Whether a tokenizer takes upper case for lower case."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and "A" not in normalizer.normalize_str("A")


def add_cased_subwords(model: PreTrainedModel, tokenizer: Tokenizer) -> Tokenizer:
    """Add the variants to a model's embedding; return a tokenizer that has them and keeps the case of its text.

    Raises ModelError if the tokenizer is not BERT's (WordPiece, and a normalizer that lower-cases).
    """
    import torch
    from torch import nn

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer = _lower_casing(state)
    if state["model"]["type"] != "WordPiece" or normalizer is None:
        raise ModelError(
            f"model.cased_subwords: found a tokenizer ({type(tokenizer).__name__}) that lower-cases in its own way, "
            "expected WordPiece with BERT's normalizer; drop the setting"
        )
    vocabulary: dict[str, int] = state["model"]["vocab"]
    first = len(tokenizer)
    added = list(_variants(vocabulary, set(tokenizer.all_special_tokens)))
    vocabulary |= {variant: first + i for i, (variant, _, _) in enumerate(added)}
    strips_accents = normalizer["strip_accents"] is not False  # null: if it lower-cases
    normalizer |= {"lowercase": False, "strip_accents": strips_accents}

    old = model.get_input_embeddings()
    with torch.no_grad():
        rows = old.weight[:first]
        # As long as an embedding is on average: half of that and twice that gave a lower F1.
        directions = torch.randn(len(KINDS), rows.shape[1], generator=torch.Generator().manual_seed(0))
        directions *= rows.norm(dim=1).mean() / directions.norm(dim=1, keepdim=True)
        kinds, sources = torch.tensor([(kind, source) for _, kind, source in added]).T
        weight = torch.cat([rows, rows[sources] + directions[kinds]])
    model.set_input_embeddings(nn.Embedding(len(weight), weight.shape[1], padding_idx=old.padding_idx, _weight=weight))
    model.config.vocab_size = len(weight)
    return _rebuilt(tokenizer, state, {"do_lower_case": False, "strip_accents": strips_accents})


def _lower_casing(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return the part of a tokenizer's state that lower-cases as BERT's does."""
    normalizer = state["normalizer"] or {}
    parts = [normalizer, *normalizer.get("normalizers", [])]
    return next((part for part in parts if part.get("type") == "BertNormalizer" and part["lowercase"]), None)


def _variants(vocabulary: dict[str, int], special: set[str]) -> Iterator[tuple[str, int, int]]:
    """Yield each new subword, the index of its kind, and the id of the lower-case one."""
    known = set(vocabulary)
    for subword, source in vocabulary.items():
        mark = CONTINUES if subword.startswith(CONTINUES) else ""
        body = subword.removeprefix(CONTINUES)
        if subword in special or (body.startswith("[unused") and body.endswith("]")):
            continue
        for kind, change in enumerate(KINDS):
            variant = change(body)
            # "SS" is no variant of "ß": it does not return to the same letters.
            if variant.lower() == body and mark + variant not in known:
                known.add(mark + variant)
                yield mark + variant, kind, source


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
    if lower_cases(rebuilt) or len(rebuilt) != max(state["model"]["vocab"].values()) + 1:
        raise ModelError(
            f"model.cased_subwords: {type(tokenizer).__name__} does not take another vocabulary; drop the setting"
        )
    rebuilt.model_max_length = tokenizer.model_max_length
    return rebuilt
