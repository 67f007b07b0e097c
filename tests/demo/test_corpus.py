from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import pytest

from nerloop.demo import SENTENCE, splits
from nerloop.demo.corpus import templates_of, words_of
from nerloop.demo.names import SHARED, WORDS
from nerloop.types import Example


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Example]]:
    return splits()


def entities(examples: Iterable[Example]) -> Iterator[tuple[str, str]]:
    """Yield the surface and type of every entity."""
    for example in examples:
        words: list[str] = []
        kind = ""
        for token, tag in [*zip(example.tokens, example.tags, strict=True), ("", "O")]:
            if words and not tag.startswith("I-"):
                yield " ".join(words), kind
                words = []
            if tag != "O":
                words.append(token)
                kind = tag[2:]


def digest(examples: Iterable[Example]) -> str:
    lines = (f"{' '.join(example.tokens)}\t{' '.join(example.tags)}\n" for example in examples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def test_splits_have_their_sizes_and_locations(corpus):
    assert {name: len(examples) for name, examples in corpus.items()} == {
        "train": 5000,
        "validation": 250,
        "test": 250,
    }
    assert corpus["train"][0].location == "demo/train:1"
    assert corpus["test"][249].location == "demo/test:250"


def test_splits_are_the_same_on_every_machine(corpus):
    assert {name: digest(examples) for name, examples in corpus.items()} == {
        "train": "6454f1144e4a14fd",
        "validation": "6ac00b4a3fef01ff",
        "test": "8ec0628675215dac",
    }


def test_splits_does_not_depend_on_earlier_calls(corpus):
    assert splits() == corpus


def test_tokens_are_words_without_white_space(corpus):
    tokens = [token for examples in corpus.values() for example in examples for token in example.tokens]
    assert len(tokens) == 83001
    assert all(token and not any(character.isspace() for character in token) for token in tokens)
    assert all(token.isascii() and not set(token) & set("{}[]|") for token in tokens)


def test_tags_are_legal_iob2_of_four_types(corpus):
    tags = Counter(tag for examples in corpus.values() for example in examples for tag in example.tags)
    assert set(tags) == {"O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in ("LOC", "MISC", "ORG", "PER"))}
    for examples in corpus.values():
        for example in examples:
            assert len(example.tags) == len(example.tokens)
            for before, tag in zip(("O", *example.tags), example.tags):
                assert tag[0] != "I" or before[2:] == tag[2:], example


def test_every_split_has_each_type_and_sentences_without_entities(corpus):
    for name, least in {"train": 2000, "validation": 90, "test": 140}.items():
        kinds = Counter(kind for _, kind in entities(corpus[name]))
        assert set(kinds) == {"LOC", "MISC", "ORG", "PER"}
        assert min(kinds.values()) >= least
    assert sum(set(example.tags) == {"O"} for example in corpus["train"]) == 184


def test_no_sentence_occurs_twice(corpus):
    sentences = [example.tokens for examples in corpus.values() for example in examples]
    assert len(sentences) == 5500
    assert len(set(sentences)) == 5500


def test_templates_belong_to_one_split_each():
    parts = {name: templates_of(name) for name in ("train", "validation", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 359, "validation": 29, "test": 29}
    assert len({template for part in parts.values() for template in part}) == 359 + 29 + 29


def test_names_belong_to_one_split_each():
    held_out = {name: set(words_of(name, "test")) for name in WORDS if name not in SHARED}
    assert len(held_out) == 17
    for name, words in held_out.items():
        assert words, name
        assert not words & set(words_of(name, "train"))
        assert not words & set(words_of(name, "validation"))


def test_names_held_out_do_not_turn_up_in_train(corpus):
    seen = {token for example in corpus["train"] for token in example.tokens}
    assert "Bellamy" in words_of("family", "test")
    assert "Bellamy" not in seen
    held_out = {*words_of("family", "test"), *words_of("borough", "test"), *words_of("country", "test")}
    assert len(held_out) == 51
    assert held_out & seen == {"Mexico", "Milton"}  # Mexico City, and Mil- with -ton: words of other names


@pytest.mark.parametrize(("name", "least", "most"), [("validation", 0.45, 0.55), ("test", 0.50, 0.65)])
def test_about_half_of_the_entities_are_new(corpus, name, least, most):
    known = {surface for surface, _ in entities(corpus["train"])}
    surfaces = [surface for surface, _ in entities(corpus[name])]
    assert least < sum(surface not in known for surface in surfaces) / len(surfaces) < most


def test_many_surfaces_have_two_types(corpus):
    kinds = defaultdict(set)
    for surface, kind in entities(corpus["train"]):
        kinds[surface].add(kind)
    assert sum(len(found) >= 2 for found in kinds.values()) >= 150
    assert kinds["Preston"] == {"LOC", "ORG", "PER"}
    assert kinds["Jordan"] >= {"LOC", "MISC"}


def test_articles_agree_with_what_follows(corpus):
    pairs = [pair for example in corpus["train"] for pair in zip(example.tokens, example.tokens[1:])]
    assert ("an", "Irish") in pairs
    assert ("a", "Irish") not in pairs


def test_sentence_is_in_no_split_and_has_seen_and_unseen_names(corpus):
    seen = {token for example in corpus["train"] for token in example.tokens}
    assert all(example.tokens != SENTENCE for examples in corpus.values() for example in examples)
    assert [token for token in SENTENCE if token not in seen] == ["Ilse", "Thorwald", "Vellingby", "sailor", "Quillon"]


def test_import_is_light():
    code = "import sys, nerloop.demo; print({'numpy', 'tokenizers', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
