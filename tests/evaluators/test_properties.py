"""Our figures against seqeval's on random tags: every scheme, legal and not, in any company, in any parts and order."""

from __future__ import annotations

import itertools
import random
import warnings
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

from nerloop.evaluators.seqeval import Seqeval
from nerloop.tags import PREFIXES_OF, Scheme, is_legal, split_tag

TYPES = ("X", "Y", "CLUB-NAME")
Corpus = list[tuple[list[str], list[str]]]
"""Gold and predicted tags of some sentences."""


def figures_of_seqeval(gold: list[list[str]], found: list[list[str]]) -> dict:
    """Return what seqeval says, under our names. It has no word for sentences without any token or span."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, that a figure is not defined and becomes 0
        report = classification_report(gold, found, output_dict=True, digits=20)
        types = sorted(report.keys() - {"micro avg", "macro avg", "weighted avg"})
        return {
            "precision": precision_score(gold, found),
            "recall": recall_score(gold, found),
            "f1": f1_score(gold, found),
            "accuracy": accuracy_score(gold, found),
            "per_type": {
                t: {"f1" if n == "f1-score" else n: v for n, v in report[t].items()} for t in types
            },
            "gold_spans": report["micro avg"]["support"],
        }  # fmt: skip


def metrics(corpus: Corpus) -> dict:
    return Seqeval().metrics(count(corpus))


def count(corpus: Corpus) -> Counter:
    return Seqeval().count([gold for gold, _ in corpus], [found for _, found in corpus])


def assert_equal_to_seqeval(corpus: Corpus) -> None:
    ours = metrics(corpus)
    gold, found = [gold for gold, _ in corpus], [found for _, found in corpus]
    num_tokens = sum(map(len, gold))
    assert ours["tokens"] == num_tokens
    if not num_tokens:
        assert ours["accuracy"] == 0.0
    elif not ours["per_type"]:
        assert {tag for sentence in (*gold, *found) for tag in sentence} == {"O"}
        assert ours["accuracy"] == accuracy_score(gold, found) == 1.0
    else:
        expected = figures_of_seqeval(gold, found)
        assert {name: ours[name] for name in expected} == expected


def alphabet(prefixes: str) -> list[str]:
    return ["O", *(f"{prefix}-{type_}" for prefix in prefixes if prefix != "O" for type_ in TYPES)]


def random_legal(rng: random.Random, scheme: Scheme, length: int) -> list[str]:
    """Return a legal tag sequence of a scheme; longer than asked for where no span may end there."""
    tags: list[str] = []
    while True:
        before = split_tag(tags[-1]) if tags else ("O", "")
        if len(tags) >= length and is_legal(before, ("O", ""), scheme):
            return tags
        open_ = [t for t in alphabet(PREFIXES_OF[scheme]) if is_legal(before, split_tag(t), scheme)]
        tags.append(rng.choice(open_))


def random_corpus(rng: random.Random, scheme: Scheme) -> Corpus:
    """Return sentences whose gold tags are legal; predictions agree with them, come close, or are legal by themselves.

    A prediction that comes close is mostly illegal: single tags are replaced by any tag.
    """
    corpus = []
    for _ in range(rng.randint(0, 6)):
        gold = random_legal(rng, scheme, rng.choice([0, 1, 2, 5, 12]))
        kind = rng.random()
        if kind < 0.2:
            found = list(gold)
        elif kind < 0.6:
            tags = alphabet(PREFIXES_OF[scheme] if kind < 0.5 else "BIOES")
            found = [tag if rng.random() < 0.7 else rng.choice(tags) for tag in gold]
        else:
            found = random_legal(rng, scheme, len(gold))[: len(gold)]
        corpus.append((gold, found))
    return corpus


@pytest.mark.parametrize("scheme", list(Scheme))
def test_our_figures_are_seqevals_on_random_tags_of_every_scheme(scheme):
    rng = random.Random(scheme)
    num_between = 0
    for _ in range(500):
        corpus = random_corpus(rng, scheme)
        assert all(is_legal_sequence(gold, scheme) for gold, _ in corpus)
        assert_equal_to_seqeval(corpus)
        num_between += 0 < metrics(corpus)["f1"] < 1
    assert num_between > 250  # not only all and nothing


def is_legal_sequence(tags: list[str], scheme: Scheme) -> bool:
    parts = [("O", ""), *map(split_tag, tags), ("O", "")]
    return all(is_legal(before, after, scheme) for before, after in itertools.pairwise(parts))


TAGS = st.sampled_from(alphabet("BIOES"))
SENTENCES = st.lists(st.tuples(TAGS, TAGS | st.none()), max_size=8).map(
    lambda pairs: ([gold for gold, _ in pairs], [gold if found is None else found for gold, found in pairs])
)
ANY_CORPUS = st.lists(SENTENCES, max_size=5)


@settings(max_examples=500)
@given(ANY_CORPUS)
@example([])
@example([([], [])])
@example([(["O"], ["O"])])
@example([(["B-X"], ["I-X"]), (["I-X"], ["E-X"])])
def test_our_figures_are_seqevals_on_any_tags(corpus):
    assert_equal_to_seqeval(corpus)


@settings(max_examples=150)
@given(ANY_CORPUS, st.data())
def test_counts_of_any_parts_in_any_order_add_up(corpus, data):
    whole = count(corpus)
    order = data.draw(st.permutations(corpus))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(corpus)), max_size=4)))
    total: Counter = Counter()
    for start, end in zip([0, *cuts], [*cuts, len(corpus)]):
        total = total + count(order[start:end])
    assert total == whole
    assert Seqeval().metrics(total) == Seqeval().metrics(whole)
    assert list(Seqeval().metrics(total)["per_type"]) == list(Seqeval().metrics(whole)["per_type"])


@settings(max_examples=100)
@given(ANY_CORPUS, st.integers(1, 4))
def test_counts_of_the_ranks_of_a_launch_add_up(corpus, num_processes):
    """Every process counts its share, some none at all; the sums are what one process finds."""
    total: Counter = Counter()
    for rank in range(num_processes):
        total.update(count(corpus[rank::num_processes]))
    assert Seqeval().metrics(total) == metrics(corpus)


@settings(max_examples=100)
@given(ANY_CORPUS)
def test_what_must_hold_between_the_figures(corpus):
    ours, swapped = metrics(corpus), metrics([(found, gold) for gold, found in corpus])
    assert (ours["precision"], ours["recall"], ours["f1"]) == (swapped["recall"], swapped["precision"], swapped["f1"])
    assert (ours["gold_spans"], ours["predicted_spans"]) == (swapped["predicted_spans"], swapped["gold_spans"])
    assert ours["gold_spans"] == sum(figures["support"] for figures in ours["per_type"].values())
    perfect = metrics([(gold, gold) for gold, _ in corpus])
    assert perfect["f1"] == (1.0 if perfect["gold_spans"] else 0.0)
    assert perfect["gold_spans"] == perfect["predicted_spans"] == ours["gold_spans"]
    assert all(0 <= ours[name] <= 1 for name in ("precision", "recall", "f1", "accuracy"))
