"""Check an alignment: `split` and `join` lose no token."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nerloop.alignment import Alignment
from nerloop.alignment.subwords import subwords_of
from nerloop.contracts.checking import LONGEST, checking, require
from nerloop.errors import PluginError, shorten
from nerloop.types import IGNORE, Example, Feature, Tokenizer

# Tokens without subwords (in many tokenizers), right-to-left, emoji, combining, several words, markers of formats.
NASTY = ("\u200e", "", "\ufffd", "\u200b", "\u00ad", "שלום", "مرحبا", "👩‍👩‍👧", "e\u0301", "New York", "a\tb",
         "東京", "O'Neill", "-DOCSTART-", "[SEP]", "</s>")  # fmt: skip


def check_alignment(build: Callable[..., Alignment], tokenizer: Tokenizer, labels: Sequence[str]) -> None:
    """Raise PluginError unless `split` and `join` of an alignment lose no token of some nasty sentences."""
    tokenizer = copy.deepcopy(tokenizer)  # the caller's tokenizer must stay unchanged
    if tokenizer.model_max_length > 100_000:  # transformers uses 10**30 if the limit is unknown
        tokenizer.model_max_length = LONGEST
    tagged = nasty_examples(tokenizer.model_max_length, labels)
    untagged = [Example(e.tokens) for e in tagged]
    with checking("alignment", build):
        alignment = build(tokenizer, tuple(labels))
        for examples in ([], tagged, untagged, [*untagged[:3], *tagged], in_documents(tagged), in_documents(untagged)):
            features = list(alignment.split(examples))
            _check_arrays(features, len(labels), tokenizer.model_max_length)
            _check_atoms(features, examples, tokenizer)
            _check_labels(features, examples, labels)
            _check_join(alignment, features, examples, len(labels))
            if hasattr(alignment, "spread"):
                _check_spread(alignment, features, examples, labels)
            _check_independence(alignment, features, examples)


def nasty_examples(limit: int, labels: Sequence[str]) -> list[Example]:
    """Return sentences of strange tokens, some longer than a window. Their tags cycle through `labels`."""
    sentences = [[], ["John"], *([token] for token in NASTY), list(NASTY), ["New", "York", "is", "big", "."]]
    sentences += [["one", "two", "three"] * limit, ["a.b-" * limit], ["in", "a.b-" * limit, "", "here"]]
    sentences += [["a"] * (limit + more) for more in range(-4, 3)]
    tags = itertools.cycle(labels)
    return [Example(tuple(s), tuple(next(tags) for _ in s), f"nasty:{i}") for i, s in enumerate(sentences)]


def in_documents(examples: Sequence[Example]) -> list[Example]:
    """Return the examples grouped into documents of one to six sentences; some belong to no document."""
    sizes = itertools.cycle((3, 1, 6, 2, 4, 5))
    names = itertools.cycle(("a", "b", "", "c"))  # "a" is used again, for another document
    documents = itertools.chain.from_iterable([next(names)] * size for size in sizes)
    return [replace(e, document=document) for e, document in zip(examples, documents, strict=False)]


def _check_arrays(features: Sequence[Feature], num_labels: int, limit: int) -> None:
    for f in features:
        are_right = all(a.dtype == np.int64 and a.shape == (len(f),) for a in (f.input_ids, f.labels, f.tokens))
        require(are_right, "split: input_ids, labels and tokens are not int64 arrays with one value a subword")
        require(0 < len(f) <= limit, f"split: found a feature of {len(f)} subwords, expected 1 to {limit}")
        unknown = set(f.labels.tolist()) - {IGNORE, *range(num_labels)}
        require(not unknown, f"split: found labels {unknown}, expected 0 to {num_labels - 1}, or {IGNORE} for none")


def _check_atoms(features: Sequence[Feature], examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    atoms = _atoms_of(features)
    require(len(atoms) == len({f.atom for f in features}), "split: the features of an atom are not consecutive")
    held = sorted(i for atom in atoms for i in atom[0].examples)
    require(held == list(range(len(examples))), "split: not every example is in exactly one atom")
    subwords = [np.unique(token_of) for _, token_of in subwords_of(tokenizer, [e.tokens for e in examples])]
    for atom in atoms:
        of_atom = atom[0].examples
        num_tokens = tuple(len(examples[i].tokens) for i in of_atom)
        is_right = all(f.examples == of_atom and f.num_tokens == num_tokens for f in atom)
        require(is_right, "split: features of an atom differ in examples, or num_tokens is wrong")
        decided = np.concatenate([f.tokens[f.tokens >= 0] for f in atom])
        last = decided.max(initial=-1)
        require(last < sum(num_tokens), f"split: a feature decides token {last} of an atom of {sum(num_tokens)}")
        times = np.bincount(decided, minlength=sum(num_tokens))
        for i, of_example in zip(of_atom, np.split(times, np.cumsum(num_tokens)[:-1]), strict=True):
            for token in np.flatnonzero(of_example > 1):
                raise PluginError(f"split: {_token(examples[i], token)} is decided more than once")
            for token in subwords[i][of_example[subwords[i]] == 0]:
                raise PluginError(f"split: {_token(examples[i], token)} has subwords, but none decides it")


def _check_labels(features: Sequence[Feature], examples: Sequence[Example], labels: Sequence[str]) -> None:
    for feature in features:
        # An atom may mix sentences with and without tags. The deciding subwords tell which token a label belongs to.
        tags = [tag for i in feature.examples for tag in examples[i].tags or [""] * len(examples[i].tokens)]
        is_right = any(tags) or (feature.labels == IGNORE).all()
        require(is_right, "split: found labels on a sentence that has no tags")
        for label, token in zip(feature.labels, feature.tokens, strict=True):
            if token >= 0 and label != IGNORE and labels[label] != tags[token]:
                raise PluginError(f"split: found label {labels[label]!r} on a token whose tag is {tags[token]!r}")
    has_labels = any((f.labels != IGNORE).any() for f in features)
    require(has_labels or not any(e.tags for e in examples), "split: no subword has a label, though there are tags")


def _check_join(alignment: Alignment, features: Sequence[Feature], examples: Sequence[Example], num: int) -> None:
    random = np.random.RandomState(0)
    scores = [np.log(random.dirichlet(np.ones(num), size=len(f)) + 1e-9) for f in features]
    expected: dict[int, dict[int, np.ndarray]] = {i: {} for i in range(len(examples))}
    for feature, s in zip(features, scores, strict=True):
        ends = np.cumsum(feature.num_tokens)
        for at in np.flatnonzero(feature.tokens >= 0):
            n = int(np.searchsorted(ends, feature.tokens[at], side="right"))  # of the atom's examples
            expected[feature.examples[n]][int(feature.tokens[at] - ends[n]) + feature.num_tokens[n]] = s[at]
    for order in (range(len(features)), range(len(features))[::-1], random.permutation(len(features))):
        joined = alignment.join([features[i] for i in order], [scores[i] for i in order])
        require(joined.keys() == expected.keys(), f"join: found {len(joined)} examples, expected all {len(expected)}")
        for i, rows in joined.items():
            shape = (len(examples[i].tokens), num)
            require(rows.shape == shape, f"join: found scores {rows.shape}, expected {shape}")
            for token, row in enumerate(rows):
                if token not in expected[i] and (row != row[0]).any():
                    raise PluginError(
                        f"join: {_token(examples[i], token)} has unequal scores, but no subword decides it"
                    )
                if token in expected[i] and not np.array_equal(row, expected[i][token]):
                    raise PluginError(
                        f"join: {_token(examples[i], token)} does not have the scores of the subword that decides it"
                    )


def _check_spread(
    alignment: Any, features: Sequence[Feature], examples: Sequence[Example], labels: Sequence[str]
) -> None:
    known = list(labels)
    certain = {
        i: np.eye(len(known))[[known.index(tag) for tag in e.tags or [known[0]] * len(e.tokens)]]
        for i, e in enumerate(examples)
    }
    random = np.random.RandomState(0)
    unsure = {i: random.dirichlet(np.ones(len(known)), size=len(rows)) for i, rows in certain.items()}
    for atom in _atoms_of(features):
        exact, spread = alignment.spread(atom, certain), alignment.spread(atom, unsure)
        of_tokens = np.concatenate([unsure[i] for i in atom[0].examples])
        for feature, sure, rows in zip(atom, exact, spread, strict=True):
            shape = (len(feature), len(known))
            require(rows.shape == shape, f"spread: found probabilities {rows.shape}, expected {shape}")
            has_label = feature.labels != IGNORE
            is_right = np.array_equal(sure[has_label], np.eye(len(known))[feature.labels[has_label]])
            require(is_right, "spread: tags that are certain don't give the labels of the subwords")
            require(not rows[~has_label].any(), "spread: a subword without a label has probabilities")
            require(np.allclose(rows[has_label].sum(1), 1), "spread: probabilities of a subword don't add up to 1")
            decides = has_label & (feature.tokens >= 0)
            is_right = np.array_equal(rows[decides], of_tokens[feature.tokens[decides]])
            require(is_right, "spread: a subword that decides a token does not have the token's probabilities")


def _check_independence(alignment: Alignment, features: Sequence[Feature], examples: Sequence[Example]) -> None:
    """Check that an atom depends only on its own examples. Otherwise a sentence's tags would depend on other ones."""
    for together in _atoms_of(features):
        own = [examples[i] for i in together[0].examples]
        alone = list(alignment.split(own))
        names = ("input_ids", "labels", "tokens", "num_tokens")
        are_same = [np.array_equal(getattr(a, n), getattr(b, n)) for a, b in zip(alone, together) for n in names]
        problem = f"split: {shorten(list(own[0].tokens))} alone has other features than among others"
        require(len(alone) == len(together) and all(are_same), problem)


def _atoms_of(features: Sequence[Feature]) -> list[list[Feature]]:
    return [list(atom) for _, atom in itertools.groupby(features, key=lambda f: f.atom)]


def _token(example: Example, token: int | np.integer[Any]) -> str:
    return f"token {token} of {shorten(list(example.tokens))}"
