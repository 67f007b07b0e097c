"""Folders that save_to_disk wrote, and hub names that can't be reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, DatasetDict, Features, List, Value

from nerloop.data import ReadOptions
from nerloop.data.hub import read_hub
from nerloop.errors import DataError
from nerloop.types import Example

NO_TAG = "is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder, with an empty cache and no progress bars."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def rows(tokens: list[object], tags: list[object], names: tuple[str, str] = ("tokens", "ner_tags")):
    return datasets.Dataset.from_dict(dict(zip(names, (tokens, tags), strict=True)))


def classes(tags: list[list[int]], *labels: str):
    """Return rows of one-letter tokens with tags of a class label."""
    features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=list(labels))))
    tokens = ["abcdef"[: len(row)] for row in tags]
    return datasets.Dataset.from_dict({"tokens": [list(t) for t in tokens], "ner_tags": tags}, features=features)


@pytest.fixture
def save() -> Callable[..., str]:
    """Return a function that saves splits into a folder and returns its name."""

    def save_splits(**splits: datasets.Dataset) -> str:
        DatasetDict(splits).save_to_disk("ds")
        return "ds"

    return save_splits


def message(*arguments: str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_hub(*arguments, options=ReadOptions(**options))
    found = str(caught.value)
    assert "\n" not in found
    return found


def test_class_labels_name_the_tags(save):
    found = read_hub(save(train=classes([[1, 2], [0]], "O", "B-PER", "I-PER")))
    assert found.name == "ds"
    assert found.splits == {
        "train": [
            Example(("a", "b"), ("B-PER", "I-PER"), "ds/train:1"),
            Example(("a",), ("O",), "ds/train:2"),
        ]
    }


def test_string_tags_are_taken_as_they_are(save):
    found = read_hub(save(train=rows([["A", "b"]], [["B-X", "O"]], ("words", "tags"))))
    assert found.splits["train"] == [Example(("A", "b"), ("B-X", "O"), "ds/train:1")]


def test_integer_tags_with_labels(save):
    found = read_hub(save(train=rows([["A", "b"]], [[1, 0]])), options=ReadOptions(labels=["O", "B-Q"]))
    assert found.splits["train"][0].tags == ("B-Q", "O")


def test_integer_tags_without_labels(save):
    assert message(save(train=rows([["A", "b"]], [[1, 0]]))) == (
        "ds/train:1: ner_tags[0]: found the integer tag 1; set data.labels to the names, in order"
    )


def test_integer_tags_beyond_the_labels(save):
    assert message(save(train=rows([["A"], ["b"]], [[0], [1]])), labels=["O"]) == (
        "ds/train:2: ner_tags[0]: found tag 1, expected 0 to 0: data.labels has no more"
    )


def test_labels_win_over_the_names_of_class_labels(save):
    found = read_hub(save(train=classes([[1]], "O", "PER")), options=ReadOptions(labels=["O", "B-PER"]))
    assert found.splits["train"][0].tags == ("B-PER",)


def test_class_labels_that_are_no_tags(save):
    assert message(save(train=classes([[1]], "O", "PER"))) == f"ds/train:1: ner_tags[0]: 'PER' {NO_TAG}"


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_splits_by_their_usual_names(save, name):
    one, two, three = (classes([[0]] * n, "O", "B-X") for n in (1, 2, 3))
    found = read_hub(save(**{"train": one, name: two, "test": three, "extra": one}))
    assert {split: len(examples) for split, examples in found.splits.items()} == {
        "train": 1,
        "validation": 2,
        "test": 3,
    }
    assert found.splits["validation"][1].location == f"ds/{name}:2"


def test_a_folder_of_one_split_is_the_training_split():
    classes([[1]], "O", "B-X").save_to_disk("one")
    assert list(read_hub("one").splits) == ["train"]


def test_fingerprints_tell_data_apart(save):
    found = read_hub(save(train=classes([[1]], "O", "B-X"), test=classes([[0]], "O", "B-X")))
    assert list(found.fingerprints) == ["train", "test"]
    assert len(set(found.fingerprints.values())) == 2


def test_columns_by_name(save):
    data = rows([["A"]], [["O"]], ("text", "gold"))
    assert read_hub(save(train=data), options=ReadOptions(token_column="text", tag_column="gold")).splits["train"][
        0
    ].tokens == ("A",)


def test_a_column_that_is_not_there(save):
    assert message(save(train=rows([["A"]], [["O"]], ("words", "gold")))) == (
        "ds/train: found no column 'ner_tags' or 'tags' or 'labels' or 'ner'; "
        "set data.tag_column to one of: words, gold"
    )


def test_a_column_of_another_name_says_the_nearest(save):
    assert message(save(train=rows([["A"]], [["O"]], ("words", "gold"))), tag_column="glod") == (
        "ds/train: found no column 'glod' (did you mean 'gold'?); set data.tag_column to one of: words, gold"
    )


@pytest.mark.parametrize(
    ("tokens", "tags", "expected"),
    [
        (["A b"], [["O"]], "ds/train:1: 'tokens' is 'A b', expected a list of strings"),
        ([["A"], None], [["O"], ["O"]], "ds/train:2: 'tokens' is None, expected a list of strings"),
        ([["A", None]], [["O", "O"]], "ds/train:1: 'tokens' is ['A', None], expected a list of strings"),
        ([["A"], ["b"]], [["O"], None], "ds/train:2: 'ner_tags' is None, expected a list of tags"),
        ([["A", "b"]], [["O"]], "ds/train:1: 2 in 'tokens' but 1 in 'ner_tags'; expected as many"),
        ([["A"]], [[0.5]], "ds/train:1: ner_tags[0]: found 0.5, expected a tag such as 'B-PER'"),
    ],
)
def test_rows_that_can_not_be_used(save, tokens, tags, expected):
    assert message(save(train=rows(tokens, tags))) == expected


@pytest.mark.parametrize("format_", ["numpy", "pandas", "arrow"])
def test_a_format_that_was_saved_with_the_rows_does_not_matter(save, format_):
    data = rows([["A", "b"]], [["B-X", "O"]])
    data.set_format(format_, columns=["tokens"])
    assert read_hub(save(train=data)).splits["train"] == [Example(("A", "b"), ("B-X", "O"), "ds/train:1")]


def test_no_file_that_a_row_names_is_opened(save, monkeypatch):
    Path("secret").write_text("secret")
    plain = Features(tokens=List({"bytes": Value("binary"), "path": Value("string")}), ner_tags=List(Value("string")))
    row = {"tokens": [[{"bytes": None, "path": str(Path("secret").resolve())}]], "ner_tags": [["O"]]}
    folder = save(train=datasets.Dataset.from_dict(row, features=plain))
    info = Path(folder, "train", "dataset_info.json")
    known = json.loads(info.read_text())
    known["features"]["tokens"] = {"feature": {"_type": "Image"}, "_type": "List"}
    info.write_text(json.dumps(known))
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_: pytest.fail("opened"))
    assert message(folder).startswith("ds/train:1: 'tokens' is [{")


def test_rows_that_are_damaged(save):
    folder = save(train=rows([["abcdefgh"]], [["O"]]))
    (arrow,) = Path(folder, "train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes().replace(b"abcdefgh", b"\xff" * 8))
    assert message(folder).startswith("ds/train: damaged: Column 0: In chunk 0: Invalid: List child array invalid")


@pytest.mark.parametrize("name", ["dataset_dict.json", "train/state.json", "train/dataset_info.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", "[" * 100_000, '{"splits": 3, "_data_files": 3, "features": 3}']
)
def test_a_folder_whose_own_files_are_damaged(save, name, text):
    folder = save(train=rows([["A"]], [["O"]]))
    Path(folder, name).write_text(text)
    assert message(folder).startswith("data.dataset")


def test_a_data_set_without_a_training_split(save):
    assert message(save(test=classes([[1]], "O", "B-X"))) == (
        "data.dataset ds: found splits test, expected 'train' with rows"
    )


def test_an_empty_split(save):
    data = classes([[1]], "O", "B-X")
    assert message(save(train=data.select([]), test=data)) == (
        "data.dataset: 'ds' is no name of a data set, or a folder that is damaged or has an empty split "
        "(IndexError: list index out of range)"
    )


def test_a_damaged_folder():
    Path("bad").mkdir()
    Path("bad", "dataset_dict.json").write_text("{}")
    assert message("bad") == (
        "data.dataset: 'bad' is no name of a data set, or a folder that is damaged or has an empty split "
        "(KeyError: 'splits')"
    )


def test_a_folder_without_data():
    Path("empty").mkdir()
    assert message("empty") == (
        "data.dataset empty: found neither dataset_dict.json nor state.json in this folder, expected one that "
        "save_to_disk wrote; name data files as data.train, data.validation, data.test"
    )


@pytest.mark.parametrize("name", ["somebody/conll2003", "conll2003"])
def test_a_hub_that_can_not_be_reached(name):
    assert message(name) == (
        f"data.dataset: can't reach the hub for '{name}'. Offline, give a folder that save_to_disk wrote "
        "(--data.dataset FOLDER) or files (--data.train, --data.validation, --data.test)"
    )


def test_an_empty_name():
    assert message("").startswith("data.dataset: '' is no name of a data set")


def test_a_cache_gives_the_same_examples_and_is_filled_once(save, tmp_path):
    from nerloop.data.arrow_cache import Cache

    cache = Cache.at(str(tmp_path / "ours"))
    name = save(train=classes([[1, 2], [0]], "O", "B-PER", "I-PER"), test=classes([[1]], "O", "B-PER"))
    plain = read_hub(name)
    for _ in range(2):
        found = read_hub(name, cache=cache)
        assert ({s: list(e) for s, e in found.splits.items()}, found.fingerprints) == (plain.splits, plain.fingerprints)
    assert len(list(cache.folder.glob("examples-*"))) == 2


def test_tags_without_prefixes_are_told_by_the_first_rows(tmp_path, caplog):
    rows = {"tokens": [["EU", "is", "so"], ["Bonn", "is"]], "ner_tags": [["ORG", "O", "O"], ["LOC", "O"]]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows)).save_to_disk(tmp_path / "saved")
    found = read_hub(str(tmp_path / "saved")).splits["train"]
    assert [e.tags for e in found] == [("I-ORG", "O", "O"), ("I-LOC", "O")]
    assert "2 tags without prefixes are read with I-" in caplog.messages[0]


def test_what_the_reader_changed_is_told_from_the_cache_as_well(save, tmp_path, caplog):
    from nerloop.data.arrow_cache import Cache

    cache = Cache.at(str(tmp_path / "ours"))
    name = save(train=rows([["EU", "is", "so"], ["Bonn", "is"]], [["ORG", "O", "O"], ["LOC", "O"]]))
    told = []
    for _ in range(2):
        caplog.clear()
        read_hub(name, cache=cache)
        told.append([record.getMessage() for record in caplog.records if "ds/train" in record.getMessage()])
    assert len(told[0]) == 1
    assert told[0] == told[1]
