"""What the tests of this folder need: traps that leave a mark where they snap, and what they are put into."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nerloop.data.hub import read_hub


class Trap:
    """What leaves a mark when a pickle of it is read: a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path) -> Path:
    """Return the file that is there when a trap has snapped."""
    return tmp_path / "mark"


@pytest.fixture
def trap(mark) -> Trap:
    """Return a trap whose pickle makes that file when it is read."""
    return Trap(mark)


@pytest.fixture
def saved(make_model, wordpiece, tmp_path) -> Path:
    """Return the folder of a tiny BERT with a head and its tokenizer."""
    folder = tmp_path / "saved"
    make_model("bert").save_pretrained(str(folder))
    wordpiece.save_pretrained(str(folder))
    return folder


@pytest.fixture
def edit() -> Callable[..., None]:
    """Return a function that changes entries of a JSON file."""

    def edit(path: Path, **changes) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """Go to a folder with two that save_to_disk wrote: `data`, the one that is read, and `secret`."""
    import datasets

    monkeypatch.chdir(tmp_path)
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-X"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    for name, token in (("data", "fine"), ("secret", "secret")):
        rows = datasets.Dataset.from_dict({"tokens": [[token]], "ner_tags": [[1]]}, features=features)
        datasets.DatasetDict(train=rows).save_to_disk(name)
    assert read_hub("data").splits["train"][0].tokens == ("fine",)
    return tmp_path
