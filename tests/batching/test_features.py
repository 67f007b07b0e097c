"""Features from disk equal those that the alignment gives, and are made anew where anything they depend on changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nerloop.alignment.all import All
from nerloop.alignment.first import First
from nerloop.batching import features as module
from nerloop.batching.features import Features, build_features, recipe, split_in_chunks
from nerloop.batching.plan import BatchUnits
from nerloop.config import Plugin
from nerloop.contracts import nasty_examples
from nerloop.data import arrow_cache as store
from nerloop.data.arrow_cache import Cache
from nerloop.data.cached_examples import store_examples
from nerloop.types import Example, Feature

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache.at(str(tmp_path / "cache"))


@pytest.fixture(params=["wordpiece", "byte_level"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def assert_same(found, expected) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for name in ("input_ids", "labels", "tokens"):
            assert getattr(one, name).dtype == np.int64
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert (one.atom, one.examples, one.num_tokens) == (other.atom, other.examples, other.num_tokens)


@pytest.mark.parametrize("alignment", [First, All])
def test_features_from_the_cache_are_those_of_the_alignment(cache, tokenizer, alignment, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    examples = nasty_examples(40, LABELS)
    aligned = alignment(tokenizer, LABELS, max_length=40)
    made_by = recipe(Plugin("all"), aligned, tokenizer, LABELS)
    expected = aligned.split(examples)
    stored = store_examples(lambda: examples, cache, "key")
    assert_same(build_features(stored, aligned, cache, made_by), expected)
    monkeypatch.setattr(aligned, "split", lambda _: pytest.fail("split again"))
    found = build_features(stored, aligned, cache, made_by)
    assert_same(found, expected)
    assert_same(found[3:9], expected[3:9])
    assert found.used_ids.tolist() == sorted({i for f in expected for i in f.input_ids.tolist()})
    atoms, direct = found.atoms, BatchUnits.of(expected)
    for name in ("sentences", "offsets", "lengths", "labelled"):
        assert getattr(atoms, name).tolist() == getattr(direct, name).tolist()
        assert getattr(atoms, name).dtype == np.int32


def test_features_of_plain_examples_are_not_kept(cache, wordpiece):
    aligned = First(wordpiece, LABELS)
    found = build_features([Example(("Anna",))], aligned, cache, "made by")
    assert (len(found), list(cache.folder.iterdir())) == (1, [])
    assert len(build_features([], aligned)) == 0
    assert build_features([], aligned).atoms.offsets.tolist() == [0]
    assert build_features([], aligned).used_ids.tolist() == []


def test_recipe_tells_apart_all_that_features_depend_on(wordpiece, byte_level):
    def of(name="first", alignment=First, tokenizer=wordpiece, labels=LABELS, **options):
        return recipe(Plugin(name, options), alignment(tokenizer, labels, **options), tokenizer, labels)

    found = [of(), of("all", All), of(tokenizer=byte_level), of(labels=LABELS[::-1]), of(max_length=20),
             of(stride=2)]  # fmt: skip
    wordpiece.add_tokens(["Brussels"])
    found.append(of())
    assert None not in found
    assert len(set(found)) == len(found)


def test_recipe_does_not_depend_on_what_the_tokenizer_was_used_for(wordpiece):
    before = recipe(Plugin("first"), First(wordpiece, LABELS), wordpiece, LABELS)
    wordpiece(["a b", "c"], padding=True, truncation=True, max_length=3)
    assert recipe(Plugin("first"), First(wordpiece, LABELS), wordpiece, LABELS) == before


def test_recipe_depends_on_the_code_that_writes_features(wordpiece, monkeypatch):
    found = []
    for changed in ("", "batching"):
        monkeypatch.setattr(module, "code_fingerprint", lambda *names, changed=changed: str(changed in names))
        found.append(recipe(Plugin("first"), First(wordpiece, LABELS), wordpiece, LABELS))
    assert found[0] != found[1]


class Inheriting(First):
    pass


class WithFingerprint(First):
    fingerprint = "1"


class WithOtherFingerprint(First):
    fingerprint = "2"


class InheritingFingerprint(WithFingerprint):
    pass


def test_an_alignment_of_ones_own_is_cached_where_its_class_has_a_fingerprint(wordpiece):
    def of(kind):
        return recipe(Plugin(f"mine.{kind.__name__}"), kind(wordpiece, LABELS), wordpiece, LABELS)

    assert (of(Inheriting), of(InheritingFingerprint)) == (None, None)
    assert None not in (of(WithFingerprint), of(WithOtherFingerprint))
    assert of(WithFingerprint) != of(WithOtherFingerprint)


class Pairs:
    """Two sentences a feature, as a generator."""

    needs_documents = True

    def split(self, examples):
        for i in range(0, len(examples), 2):
            both = tuple(range(i, min(i + 2, len(examples))))
            values = np.zeros(3, dtype=np.int64)
            yield Feature(values, values, values, i // 2, both, (1,) * len(both))

    def join(self, features, scores):
        raise NotImplementedError


def test_documents_stay_together_where_an_alignment_needs_them(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "LONGEST_DOCUMENT", 6)
    seen = []
    documents = ["a"] * 2 + ["b"] * 3 + ["c"] * 8 + [""] * 5
    aligned = Pairs()
    split = aligned.split
    monkeypatch.setattr(
        aligned, "split", lambda chunk: seen.append([e.document for e in chunk]) or split(chunk), raising=False
    )
    found = list(split_in_chunks([Example(("x",), document=d) for d in documents], aligned))
    assert seen == [["a"] * 2 + ["b"] * 3, ["c"] * 6, ["c"] * 2 + [""], [""] * 3, [""]]
    assert [f.examples for f in found] == [
        (0, 1), (2, 3), (4,), (5, 6), (7, 8), (9, 10), (11, 12), (13,), (14, 15), (16,), (17,)
    ]  # fmt: skip
    assert [f.atom for f in found] == list(range(11))


def write_in_batches(monkeypatch, size: int) -> None:
    for name in ("nerloop.data.arrow_cache.ROWS", "nerloop.batching.features.ROWS"):
        monkeypatch.setattr(name, size)
    monkeypatch.setattr(module, "batched", lambda rows: store.batched(rows, size))


def test_features_are_a_sequence_over_batches(cache, wordpiece, monkeypatch):
    write_in_batches(monkeypatch, 4)
    examples = [Example(("Anna",) * n) for n in range(11)]
    found = build_features(examples, First(wordpiece, LABELS), cache)
    assert isinstance(found, Features)
    assert [f.num_tokens for f in found] == [(n,) for n in range(11)]
    assert found[-1].num_tokens == (10,)
    with pytest.raises(IndexError):
        found[11]


def test_the_ids_that_are_used_are_those_of_all_batches(wordpiece, monkeypatch):
    write_in_batches(monkeypatch, 1)
    found = build_features([Example((word,)) for word in ("York", "Anna", "New")], First(wordpiece, LABELS))
    assert found.used_ids.tolist() == [2, 3, 7, 8, 13]  # [CLS], [SEP], New, York, Anna


def test_columns_are_made_without_pandas():
    script = (
        "import sys, numpy\nfrom nerloop.batching.features import _int32_column\n"
        "print(_int32_column(numpy.array([-3, 2**31 - 1])).to_pylist(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[-3, 2147483647] False\n"


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_a_number_of_more_than_32_bits_is_not_cut(number):
    with pytest.raises(AssertionError, match="32 bits"):
        module._int32_column(np.array([1, number]))
