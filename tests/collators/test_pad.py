"""One feature a row, padded to the longest."""

from __future__ import annotations

import numpy as np
import torch

from nerloop.collators.pad import Pad
from nerloop.types import IGNORE, Feature, Place


def feature(*ids: int) -> Feature:
    """Return a feature of some ids, labelled with their last digits."""
    return Feature(np.array(ids), np.array(ids) % 10, np.full(len(ids), -1), 0, (0,), (len(ids),))


def test_the_layout(byte_level):
    batch = Pad(byte_level)([feature(11, 12), feature(21, 22, 23), feature(31)])
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 1], [21, 22, 23], [31, 1, 1]]  # <pad> is 1
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[1, 2, IGNORE], [1, 2, 3], [1, IGNORE, IGNORE]]
    assert batch.places == [Place(0, 0, 2), Place(1, 0, 3), Place(2, 0, 1)]
    assert sorted(batch.inputs) == ["attention_mask", "input_ids"]
    assert {t.dtype for t in (*batch.inputs.values(), batch.labels)} == {torch.long}


def test_one_feature_has_no_padding(wordpiece):
    batch = Pad(wordpiece)([feature(11, 12)])
    assert (batch.inputs["input_ids"].tolist(), batch.inputs["attention_mask"].tolist()) == ([[11, 12]], [[1, 1]])


def test_without_a_padding_token_the_id_is_0(byte_level):
    byte_level.pad_token = None
    assert Pad(byte_level)([feature(11), feature(21, 22)]).inputs["input_ids"].tolist() == [[11, 0], [21, 22]]


def test_the_cells_are_features_times_longest(wordpiece):
    pad = Pad(wordpiece)
    assert [pad.num_cells(lengths) for lengths in ([], [7], [3, 5, 1])] == [0, 7, 15]


def test_the_batch_on_a_device_keeps_its_whole_numbers(wordpiece):
    batch = Pad(wordpiece)([feature(11)]).to(torch.device("cpu"), torch.float64)
    assert {t.dtype for t in (*batch.inputs.values(), batch.labels)} == {torch.long}
