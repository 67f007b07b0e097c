"""Which split a file is, and places as file:line."""

import pytest

from nerloop.inspection.parts import assign_splits, excerpt, split_named_by
from nerloop.inspection.statistics import Place


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.conll", "train"),
        ("wnut17-dev.conll", "validation"),
        ("eng.testa", "validation"),
        ("eng.testb", "test"),
        ("en_ewt-ud-test.conllu", "test"),
        ("data/valid/1.jsonl", "validation"),
        ("train/dev.conll", "validation"),
        ("latest.conll", None),
        ("trained.conll", None),
        ("/home/train/data/a.conll", None),
    ],
)
def test_split_by_name(path, split):
    assert split_named_by(path) == split


@pytest.mark.parametrize(
    ("paths", "taken", "splits"),
    [
        (["a", "b", "c", "d"], [], ["train", "validation", "test", "test"]),
        (["a", "dev.conll", "b"], [], ["train", "validation", "test"]),
        (["b", "train.conll"], [], ["validation", "train"]),
        (["a"], ["train"], ["validation"]),
        (["train.a", "train.b"], [], ["train", "train"]),
    ],
)
def test_names_come_first_then_the_order(paths, taken, splits):
    assert [split for split, _ in assign_splits(paths, taken)] == splits


def test_it_is_said_how_a_split_was_told():
    assert assign_splits(["a", "dev.txt"]) == [("train", "by its position"), ("validation", "by its name")]


def test_in_columns_a_place_has_the_line_of_its_token(read_part):
    part = read_part("train", "-DOCSTART- O\n\na O\nb O\n\nc O\nd O\n")
    assert part.where(Place(1, 1)) == f"{part.path}:7"
    assert part.sentence(Place(1, 1)) == f"{part.path}:6"
    assert part.token(Place(1, 1)) == "'d'"


def test_elsewhere_the_line_of_the_sentence_and_the_number_of_the_token(make_part):
    part = make_part("train", "a/O b/O")
    assert part.where(Place(0, 1)) == "train.jsonl:1"
    assert part.token(Place(0, 1)) == "'b' (token 2)"


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["EU", "rejects", "it"], "EU rej..."),
        (["EU", "a"], "EU a"),
        (["a\nb"], "a\\nb"),
        (["", "", "", "", "x"], "    x"),
    ],
)
def test_excerpt(tokens, text):
    assert excerpt(tokens, 8) == text
