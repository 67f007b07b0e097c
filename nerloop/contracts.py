"""The checks that every plugin must pass; a test of your own plugin may be these two lines.

    from nerloop.contracts import check_alignment
    check_alignment(MyAligner, tokenizer, ["O", "B-PER", "I-PER"])

Each check takes the class, and raises PluginError, in one line, for the first thing that it finds wrong. A plugin with
options is checked as a callable: `lambda tokenizer, labels: MyAligner(tokenizer, labels, stride=8)`.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop.alignment import Alignment
from nerloop.alignment.subwords import subwords_of
from nerloop.collators import Collator
from nerloop.decoding import Decoding
from nerloop.errors import PluginError, shorten
from nerloop.evaluators import Counts, Evaluator
from nerloop.model.compat import choose_collator
from nerloop.tags import Scheme
from nerloop.types import IGNORE, Example, Feature, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST = 512  # subwords of a feature, where the tokenizer knows no limit
# No subwords for many a tokenizer, right-to-left, emoji, combining, several words, what other formats give a meaning.
NASTY = ("\u200e", "", "\ufffd", "\u200b", "\u00ad", "שלום", "مرحبا", "👩‍👩‍👧", "e\u0301", "New York", "a\tb",
         "東京", "O'Neill", "-DOCSTART-", "[SEP]", "</s>")  # fmt: skip

# Label sets by scheme, and a legal sequence of each.
LEGAL = {
    Scheme.IOB1: {"O": "O O", "O I-PER": "I-PER I-PER O I-PER",
                  "I-A-B B-A-B I-LOC O B-LOC": "I-A-B I-A-B B-A-B I-A-B I-LOC B-LOC O I-A-B"},
    Scheme.IOB2: {"O": "O O", "O B-PER": "B-PER B-PER O B-PER",
                  "I-A-B B-A-B I-LOC O B-LOC": "B-A-B I-A-B B-A-B I-A-B B-LOC I-LOC I-LOC O"},
    Scheme.BIOES: {"O": "O O", "O S-PER": "S-PER S-PER O S-PER",
                   "E-A-B I-A-B B-A-B S-A-B O S-LOC B-LOC E-LOC": "B-A-B I-A-B I-A-B E-A-B S-A-B S-LOC B-LOC E-LOC"},
    Scheme.IOE2: {"O": "O O", "O E-PER": "E-PER E-PER O E-PER",
                  "I-A-B E-A-B I-LOC O E-LOC": "I-A-B I-A-B E-A-B E-A-B I-LOC E-LOC O E-LOC"},
    Scheme.IOE1: {"O": "O O", "O I-PER": "I-PER I-PER O I-PER",
                  "I-A-B E-A-B I-LOC O E-LOC": "I-A-B I-A-B E-A-B I-A-B I-LOC E-LOC I-LOC O"},
}  # fmt: skip


@contextlib.contextmanager
def _checking(kind: str, build: Callable[..., Any]) -> Iterator[None]:
    """Name the plugin in whatever is raised inside: it is its fault, since all that it is asked is legal."""
    name = getattr(build, "__qualname__", type(build).__name__)
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{kind} {name}: {error}") from error
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{kind} {name}: {reason} ({Path(at.filename).name}:{at.lineno})") from error


def _require(is_right: object, problem: str) -> None:
    if not is_right:
        raise PluginError(problem)


def check_alignment(build: Callable[..., Alignment], tokenizer: Tokenizer, labels: Sequence[str]) -> None:
    """Raise PluginError unless an alignment keeps every token through split and join, on nasty sentences."""
    tokenizer = copy.deepcopy(tokenizer)  # nothing that is done to it here shall stay
    if tokenizer.model_max_length > 100_000:  # unknown: transformers puts 10**30
        tokenizer.model_max_length = LONGEST
    tagged = nasty_examples(tokenizer.model_max_length, labels)
    untagged = [Example(e.tokens) for e in tagged]
    with _checking("alignment", build):
        alignment = build(tokenizer, tuple(labels))
        for examples in ([], tagged, untagged, [*untagged[:3], *tagged], in_documents(tagged), in_documents(untagged)):
            features = list(alignment.split(examples))
            _check_arrays(features, len(labels), tokenizer.model_max_length)
            _check_atoms(features, examples, tokenizer)
            _check_labels(features, examples, labels)
            _check_join(alignment, features, examples, len(labels))
            _check_company(alignment, features, examples)


def nasty_examples(limit: int, labels: Sequence[str]) -> list[Example]:
    """Return sentences of strange tokens, short and of several windows; `labels` in turn are their tags."""
    sentences = [[], ["John"], *([token] for token in NASTY), list(NASTY), ["New", "York", "is", "big", "."]]
    sentences += [["one", "two", "three"] * limit, ["a.b-" * limit], ["in", "a.b-" * limit, "", "here"]]
    sentences += [["a"] * (limit + more) for more in range(-4, 3)]
    turn = itertools.cycle(labels)
    return [Example(tuple(s), tuple(next(turn) for _ in s), f"nasty:{i}") for i, s in enumerate(sentences)]


def in_documents(examples: Sequence[Example]) -> list[Example]:
    """Return the examples in documents of one to six sentences, some of them next to sentences of none."""
    sizes = itertools.cycle((3, 1, 6, 2, 4, 5))
    names = itertools.cycle(("a", "b", "", "c"))  # "a" comes again, as another document
    documents = itertools.chain.from_iterable([next(names)] * size for size in sizes)
    return [replace(e, document=document) for e, document in zip(examples, documents, strict=False)]


def _check_arrays(features: Sequence[Feature], num_labels: int, limit: int) -> None:
    for f in features:
        are_right = all(a.dtype == np.int64 and a.shape == (len(f),) for a in (f.input_ids, f.labels, f.tokens))
        _require(are_right, "split: input_ids, labels and tokens are not arrays of int64, one a subword")
        _require(0 < len(f) <= limit, f"split: found a feature of {len(f)} subwords, expected 1 to {limit}")
        unknown = set(f.labels.tolist()) - {IGNORE, *range(num_labels)}
        _require(not unknown, f"split: found labels {unknown}, expected 0 to {num_labels - 1}, or {IGNORE} for none")


def _check_atoms(features: Sequence[Feature], examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    atoms = _atoms_of(features)
    _require(len(atoms) == len({f.atom for f in features}), "split: the features of an atom do not stand side by side")
    held = sorted(i for atom in atoms for i in atom[0].examples)
    _require(held == list(range(len(examples))), "split: not every example is in one atom and no other")
    subwords = [np.unique(token_of) for _, token_of in subwords_of(tokenizer, [e.tokens for e in examples])]
    for atom in atoms:
        of_atom = atom[0].examples
        num_tokens = tuple(len(examples[i].tokens) for i in of_atom)
        is_right = all(f.examples == of_atom and f.num_tokens == num_tokens for f in atom)
        _require(is_right, "split: a feature has not the examples of its atom, or not the numbers of their tokens")
        decided = np.concatenate([f.tokens[f.tokens >= 0] for f in atom])
        last = decided.max(initial=-1)
        _require(last < sum(num_tokens), f"split: a feature decides token {last} of an atom of {sum(num_tokens)}")
        times = np.bincount(decided, minlength=sum(num_tokens))
        for i, of_example in zip(of_atom, np.split(times, np.cumsum(num_tokens)[:-1]), strict=True):
            for token in np.flatnonzero(of_example > 1):
                raise PluginError(f"split: {_token(examples[i], token)} is decided more than once")
            for token in subwords[i][of_example[subwords[i]] == 0]:
                raise PluginError(f"split: {_token(examples[i], token)} has subwords, but none decides it")


def _check_labels(features: Sequence[Feature], examples: Sequence[Example], labels: Sequence[str]) -> None:
    for feature in features:
        # Where an atom mixes sentences with and without tags, the subwords that decide tell whose label it is.
        tags = [tag for i in feature.examples for tag in examples[i].tags or [""] * len(examples[i].tokens)]
        is_right = any(tags) or (feature.labels == IGNORE).all()
        _require(is_right, "split: found labels on a sentence that has no tags")
        for label, token in zip(feature.labels, feature.tokens, strict=True):
            if token >= 0 and label != IGNORE and labels[label] != tags[token]:
                raise PluginError(f"split: found label {labels[label]!r} on a token whose tag is {tags[token]!r}")
    has_labels = any((f.labels != IGNORE).any() for f in features)
    _require(has_labels or not any(e.tags for e in examples), "split: no subword has a label, though there are tags")


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
        _require(joined.keys() == expected.keys(), f"join: found {len(joined)} examples, expected all {len(expected)}")
        for i, rows in joined.items():
            shape = (len(examples[i].tokens), num)
            _require(rows.shape == shape, f"join: found scores {rows.shape}, expected {shape}")
            for token, row in enumerate(rows):
                if token not in expected[i] and (row != row[0]).any():
                    raise PluginError(f"join: {_token(examples[i], token)} has unequal scores, but nothing decides it")
                if token in expected[i] and not np.array_equal(row, expected[i][token]):
                    raise PluginError(f"join: {_token(examples[i], token)} has not the scores of what decides it")


def _check_company(alignment: Alignment, features: Sequence[Feature], examples: Sequence[Example]) -> None:
    """What an atom holds may depend on its own examples alone, lest a sentence's tags depend on other sentences."""
    for together in _atoms_of(features):
        own = [examples[i] for i in together[0].examples]
        alone = list(alignment.split(own))
        names = ("input_ids", "labels", "tokens", "num_tokens")
        are_same = [np.array_equal(getattr(a, n), getattr(b, n)) for a, b in zip(alone, together) for n in names]
        problem = f"split: {shorten(list(own[0].tokens))} alone comes out otherwise than among others"
        _require(len(alone) == len(together) and all(are_same), problem)


def _atoms_of(features: Sequence[Feature]) -> list[list[Feature]]:
    return [list(atom) for _, atom in itertools.groupby(features, key=lambda f: f.atom)]


def _token(example: Example, token: int | np.integer[Any]) -> str:
    return f"token {token} of {shorten(list(example.tokens))}"


def check_collator(build: Callable[..., Collator], tokenizer: Tokenizer, model: PreTrainedModel | None = None) -> None:
    """Raise PluginError unless a collator lays features out whole and, given a model, leaves their logits alone."""
    most = min(LONGEST, tokenizer.model_max_length)
    random = np.random.RandomState(0)
    with _checking("collator", build):
        collator = build(tokenizer)
        for lengths in ([1], [most], [3, 3], [1] * 40, [most, 1, most, 1], [7, *range(1, most, 9)]):
            _check_layout(collator, [_feature(random, n, len(tokenizer)) for n in lengths])
            costs = [collator.num_cells(lengths[: i + 1]) for i in range(len(lengths))]
            problem = f"num_cells: found {costs[-1]} of {shorten(lengths)}, expected at least"
            _require(costs[-1] >= sum(lengths), f"{problem} {sum(lengths)}, their sum")
            _require(costs == sorted(costs), f"{problem} {max(costs)}, found of the first of them")
        if model is not None and (reason := choose_collator(collator, model, tokenizer)[1]):
            raise PluginError(f"can't be used with {type(model).__name__}: {reason}")


def _feature(random: np.random.RandomState, length: int, num_ids: int) -> Feature:
    labels = np.where(random.rand(length) < 0.5, random.randint(0, 3, length), IGNORE)
    return Feature(random.randint(0, num_ids, length), labels, np.full(length, -1), 0, (0,), (length,))


def _check_layout(collator: Collator, features: Sequence[Feature]) -> None:
    import torch

    batch = collator(features)
    _require("input_ids" in batch.inputs, f"found inputs {sorted(batch.inputs)}, expected input_ids among them")
    input_ids, labels = batch.inputs["input_ids"], batch.labels
    for name, tensor in (("input_ids", input_ids), ("labels", labels)):
        is_right = tensor.dtype == torch.long and tensor.ndim == 2 and tensor.shape == input_ids.shape
        _require(is_right, f"{name} are {tensor.dtype} {tuple(tensor.shape)}, expected int64, (rows, width)")
    _require(len(batch.places) == len(features), f"found {len(batch.places)} places for {len(features)} features")
    taken = torch.zeros(input_ids.shape, dtype=torch.long)
    for (row, start, length), feature in zip(batch.places, features, strict=True):
        place, (rows, width) = f"row {row}, cells {start} to {start + length}", input_ids.shape
        is_right = 0 <= row < rows and 0 <= start <= start + length <= width and length == len(feature)
        _require(is_right, f"{place}: not the place of {len(feature)} subwords in a batch {(rows, width)}")
        cells = slice(start, start + length)
        taken[row, cells] += 1
        for name, tensor in (("input_ids", input_ids), ("labels", labels)):
            is_same = np.array_equal(tensor[row, cells].numpy(), getattr(feature, name))
            _require(is_same, f"{place}: the {name} are not the feature's")
    _require(taken.max() == 1, "two features share a cell")
    _require((labels[taken == 0] == IGNORE).all(), f"found labels where no feature lies, expected {IGNORE}")


def check_decoding(build: Callable[[Sequence[str], Scheme], Decoding]) -> None:
    """Raise PluginError unless a decoding gives every token one label, and each sentence the same in any company."""
    random = np.random.RandomState(0)
    with _checking("decoding", build):
        for scheme, names, legal in ((scheme, *pair) for scheme, sets in LEGAL.items() for pair in sets.items()):
            labels = tuple(names.split())
            decoding = build(labels, scheme)
            lengths = (4, 0, 1, 30, 2, 0, 2, *([3] * 300))
            scores = [np.log(random.dirichlet(np.ones(len(labels)), size=n) + 1e-9) for n in lengths]
            scores += [np.zeros((3, len(labels))), scores[3].astype(np.float32)]
            before = copy.deepcopy(scores)
            found = decoding.decode(scores)
            _require(all(map(np.array_equal, scores, before)), "decode: changes the scores that it is given")
            _require(len(found) == len(scores), f"decode: found {len(found)} sentences, expected {len(scores)}")
            for ids, s in zip(found, scores, strict=True):
                is_right = np.issubdtype(ids.dtype, np.integer) and ids.shape == (len(s),)
                _require(is_right, f"decode: found {ids.dtype} {ids.shape}, expected integers {(len(s),)}")
                is_right = ids.min(initial=0) >= 0 and ids.max(initial=0) < len(labels)
                _require(is_right, f"decode: found {shorten(ids.tolist())}, expected 0 to {len(labels) - 1}")
            again, alone = decoding.decode(scores), [decoding.decode([s])[0] for s in scores]
            _require(all(map(np.array_equal, found, again)), "decode: the same scores come out otherwise another time")
            _require(all(map(np.array_equal, found, alone)), "decode: a sentence comes out otherwise alone")
            certain = np.array([[0.0 if label == tag else -1000.0 for label in labels] for tag in legal.split()])
            tags = " ".join(labels[i] for i in decoding.decode([certain])[0])
            _require(tags == legal, f"decode: {legal} is certain and legal in {scheme}, but {tags} comes out")


def check_evaluator(build: Callable[[], Evaluator]) -> None:
    """Raise PluginError unless an evaluator's counts add up over any division, and its metrics are plain numbers."""
    random = np.random.RandomState(0)
    tags = ["O", "O", "B-PER", "I-PER", "I-A-B", "B-(none)", "S-PER", "E-PER"]
    gold = [[str(tag) for tag in random.choice(tags, size=n)] for n in (0, 1, 5, 40, 0, 3, 12)]
    predicted = [[str(tag) for tag in random.choice(tags, size=len(sentence))] for sentence in gold]
    before = copy.deepcopy((gold, predicted))
    with _checking("evaluator", build):
        evaluator = build()
        whole = _count(evaluator, gold, predicted)
        for cut in range(len(gold) + 1):
            total = Counter(_count(evaluator, gold[:cut], predicted[:cut]))
            total.update(_count(evaluator, gold[cut:], predicted[cut:]))
            _require(total == whole, f"count: {cut} and {len(gold) - cut} sentences don't add up to all {len(gold)}")
        backwards = _count(evaluator, gold[::-1], predicted[::-1])
        _require(backwards == whole, "count: depends on the order of the sentences")
        _require(before == (gold, predicted), "count: changes the tags that it is given")
        _metrics(evaluator, Counter())
        _metrics(evaluator, whole)
        for name, found, expected in (("the gold tags", gold, 1.0), ("nothing", [["O"] * len(s) for s in gold], 0.0)):
            f1 = _metrics(evaluator, _count(evaluator, gold, found)).get("f1")
            _require(f1 == expected, f"metrics: found {f1} as f1 of predicting {name}, expected {expected}")


def _count(evaluator: Evaluator, gold: list[list[str]], predicted: list[list[str]]) -> Counts:
    counts = evaluator.count(gold, predicted)
    for key, number in counts.items():
        _require(isinstance(key, tuple) and isinstance(number, int), f"count: found {key!r}: {number!r}, not an int")
    return counts


def _metrics(evaluator: Evaluator, counts: Counts) -> dict[str, Any]:
    before = Counter(counts)
    metrics = evaluator.metrics(counts)
    _require(before == counts, "metrics: changes the counts that it is given")
    try:
        json.dumps(metrics, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"metrics: not plain numbers: {error}") from error
    return metrics
