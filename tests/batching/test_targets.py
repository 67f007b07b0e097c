"""What teachers say: on disk, averaged, spread over subwords, laid out in a micro-batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerloop.alignment.all import All
from nerloop.alignment.document import Document
from nerloop.alignment.first import First
from nerloop.batching.features import build_features
from nerloop.batching.targets import Probabilities, TargetFeatures, lay_out_targets, store_probabilities
from nerloop.collators.pack import Pack
from nerloop.collators.pad import Pad
from nerloop.data.arrow_cache import Cache
from nerloop.data.dataset import WithUnlabelled
from nerloop.types import IGNORE, Example, MicroBatch, Place

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
BRUSSELS = Example(("Brussels", "is"), ("B-LOC", "O"))  # Bru ##ssels is
ANNA = Example(("Anna", "lives"))
SURE = np.eye(5)


def probabilities(*sentences: list[list[float]]) -> Probabilities:
    arrays = [np.array(rows, dtype=np.float64).reshape(-1, 2) for rows in sentences]
    return Probabilities([store_probabilities(lambda: arrays, Cache.temporary(), None)])


def test_probabilities_are_read_back_by_sentence():
    found = probabilities([[0.25, 0.75], [1, 0]], [], [[0.5, 0.5]])
    assert len(found) == 3
    assert found[0].tolist() == [[0.25, 0.75], [1, 0]]
    assert found[1].shape == (0, 2)
    assert [rows.tolist() for rows in found[1:]] == [[], [[0.5, 0.5]]]


def test_sentences_beyond_one_batch_of_the_file_are_found():
    rows = [np.full((1, 2), float(i)) for i in range(10_001)]
    found = Probabilities([store_probabilities(lambda: rows, Cache.temporary(), None)])
    assert (found._tables[0].num_rows, len(list(found._tables[0].batches()))) == (10_001, 2)
    assert found[10_000].tolist() == [[0.5, 0.5]]
    assert found[9_999].tolist() == [[0.5, 0.5]]


def test_several_teachers_give_the_mean_and_one_without_subwords_for_a_token_leaves_it_to_the_others():
    one = [np.array([[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])]
    other = [np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]])]
    tables = [store_probabilities(said, Cache.temporary(), None) for said in (lambda: one, lambda: other)]
    assert Probabilities(tables)[0].tolist() == [[0.75, 0.25], [0.25, 0.75], [0.0, 0.0]]


def test_what_a_teacher_said_is_computed_once(tmp_path):
    def never():
        raise AssertionError

    cache, rows = Cache(tmp_path), [np.array([[0.25, 0.75]])]
    first = store_probabilities(lambda: rows, cache, "0" * 64)
    assert Probabilities([store_probabilities(never, cache, "0" * 64)])[0].tolist() == [[0.25, 0.75]]
    assert first.about["facts"]["seconds"] > 0


def targets_of(alignment, examples, of_sentences, num_labelled) -> TargetFeatures:
    return TargetFeatures(build_features(examples, alignment), alignment, of_sentences, num_labelled)


def test_all_gives_every_subword_the_probabilities_of_its_token_with_b_moved_to_i_behind_the_first(wordpiece):
    mixed = np.array([0.1, 0.2, 0.0, 0.6, 0.1])
    (feature,) = targets_of(All(wordpiece, LABELS), [BRUSSELS], [np.stack([mixed, SURE[0]])], 1)
    expected = np.array([[0] * 5, [0.1, 0.2, 0, 0.6, 0.1], [0.1, 0, 0.2, 0, 0.7], [1, 0, 0, 0, 0], [0] * 5])
    assert feature.targets is not None
    assert feature.targets.dtype == np.float32
    assert np.allclose(feature.targets, expected, atol=1e-7)
    assert feature.labels.tolist() == [IGNORE, 3, 4, 0, IGNORE]


def test_first_gives_them_to_the_first_subword_only(wordpiece):
    (feature,) = targets_of(First(wordpiece, LABELS), [BRUSSELS], [SURE[[3, 0]]], 1)
    assert feature.targets is not None
    assert feature.targets.sum(1).tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("alignment", [First, All, Document])
def test_an_unlabelled_sentence_has_targets_where_labels_would_be_and_no_label(wordpiece, alignment):
    examples = WithUnlabelled([BRUSSELS], [ANNA])
    features = targets_of(alignment(wordpiece, LABELS), examples, [SURE[[3, 0]], SURE[[1, 0]]], 1)
    labelled, unlabelled = features
    assert labelled.labels[1] == 3
    assert unlabelled.labels.tolist() == [IGNORE] * 4
    assert unlabelled.targets is not None
    assert unlabelled.targets.tolist() == [[0] * 5, SURE[1].tolist(), SURE[0].tolist(), [0] * 5]
    assert features._features.atoms.labelled.tolist()[1] == 2  # each counts 1 in the mean


def test_a_window_that_begins_within_a_token_takes_the_probabilities_of_that_token(wordpiece):
    # a ##b ##c ##d, x y: windows of 3 subwords that share none
    example = Example(("abcd", "x", "y"), ("B-PER", "O", "O"))
    alignment = All(wordpiece, LABELS, max_length=5, stride=0)
    first, second = targets_of(alignment, [example], [np.stack([SURE[1], SURE[3], SURE[0]])], 1)
    assert first.targets is not None
    assert second.targets is not None
    spread = np.concatenate([f.targets[f.labels != IGNORE] for f in (first, second)])  # type: ignore[index]
    assert spread.argmax(1).tolist() == [1, 2, 2, 2, 3, 0]
    assert spread.sum(1).tolist() == [1] * 6


def test_labelled_and_unlabelled_sentences_of_one_document_share_no_window(wordpiece):
    labelled, unlabelled = (Example(e.tokens, e.tags, document="d") for e in (BRUSSELS, ANNA))
    examples = WithUnlabelled([labelled, labelled], [unlabelled])
    assert [f.examples for f in build_features(examples, Document(wordpiece, LABELS))] == [(0, 1), (2,)]


@pytest.mark.parametrize(("collator", "cells"), [(Pack, [(0, 1), (0, 3), (0, 6)]), (Pad, [(0, 1), (0, 3), (1, 1)])])
def test_targets_lie_in_the_places_of_their_features(wordpiece, collator, cells):
    features = list(
        targets_of(First(wordpiece, LABELS), [BRUSSELS, Example(("is",), ("O",))], [SURE[[3, 0]], SURE[[2]]], 2)
    )
    plain = collator(wordpiece)(features)
    batch = lay_out_targets(MicroBatch(plain.inputs, plain.labels, plain.places, features=features))
    assert batch.targets is not None
    assert batch.targets.shape == (*batch.labels.shape, 5)
    assert batch.targets.nonzero().tolist() == [[*cell, label] for cell, label in zip(cells, (3, 0, 2), strict=True)]
    assert batch.to(torch.device("cpu"), torch.float32).targets is not None


def test_a_batch_whose_features_have_no_targets_stays_as_it_is(wordpiece):
    (feature,) = build_features([BRUSSELS], First(wordpiece, LABELS))
    batch = MicroBatch({}, torch.zeros(1, 5), [Place(0, 0, 5)], features=[feature])
    assert lay_out_targets(batch) is batch
