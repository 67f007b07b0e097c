"""Data files and data sets are words and tags: no path in them is opened, nothing of them is run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from nerloop.data import read_files
from nerloop.data.hub import read_hub
from nerloop.errors import DataError

opened: list[str] | None = None
"""The paths that are opened, while somebody listens."""


def listen(event: str, arguments: tuple) -> None:
    if opened is not None and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(listen)


@pytest.fixture
def opens(monkeypatch) -> list[str]:
    """Return a list that fills with the paths that Python opens."""
    monkeypatch.setattr(sys.modules[__name__], "opened", [])
    assert opened is not None
    return opened


def test_a_path_that_is_opened_is_seen(opens, tmp_path):
    (tmp_path / "x").write_text("")
    assert opens == [str(tmp_path / "x")]


def test_paths_in_a_data_file_are_words(opens, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    paths = [str(tmp_path / "secret.txt"), "file:///etc/hostname", "http://192.0.2.1/x", "hf://datasets/a/b",
             "@secret.txt", "!include", "$(touch x)", "`touch x`", "../secret.txt"]  # fmt: skip
    conll, jsonl = tmp_path / "a.conll", tmp_path / "a.jsonl"
    conll.write_text("".join(f"{path.replace(' ', '_')} B-X\n" for path in paths))
    record = {"tokens": paths, "ner_tags": ["B-X"] * len(paths), "path": paths[0], "file_name": paths[0]}
    jsonl.write_text(json.dumps(record))
    opens.clear()
    examples, _ = read_files([str(conll), str(jsonl)])
    assert examples[1].tokens == tuple(paths)
    assert set(opens) == {str(conll), str(jsonl)}


def refusal(name: str = "data") -> str:
    """Return the one line that reading a data set ends with."""
    with pytest.raises(DataError) as caught:
        read_hub(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", ["../../secret/train/{}", "{folder}/secret/train/{}", "x/../../../secret/train/{}"])
def test_a_saved_data_set_can_not_name_a_file_outside(folders, edit, where):
    secret = next(Path("secret/train").glob("*.arrow")).name
    filename = where.format(secret, folder=folders)
    edit(Path("data/train/state.json"), _data_files=[{"filename": filename}])
    Path("data/train/x").mkdir()
    assert refusal() == f"data/train/state.json: found {filename!r}, expected the name of a file in this folder"


@pytest.mark.parametrize("split", ["../secret/train", "{folder}/secret/train", "x::http://192.0.2.1/y", "..", "."])
def test_a_saved_data_set_can_not_name_a_split_outside(folders, split, opens):
    split = split.format(folder=folders)
    Path("data/dataset_dict.json").write_text(json.dumps({"splits": ["train", split]}))
    opens.clear()
    assert refusal() == f"data/dataset_dict.json: found {split!r}, expected the name of a folder in this folder"
    assert not any("secret" in path for path in opens)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dataset_dict.json", "[]"), ("dataset_dict.json", '{"splits": null}'),
        ("dataset_dict.json", '{"splits": [5]}'),
        ("train/state.json", "[]"), ("train/state.json", "null"), ("train/state.json", "{}"),
        ("train/state.json", '{"_data_files": null}'), ("train/state.json", '{"_data_files": [{"filename": 5}]}'),
        ("train/state.json", '{"_data_files": [5]}'), ("train/dataset_info.json", "[]"),
        ("train/dataset_info.json", "{"), ("train/dataset_info.json", '{"features": {"tokens": 5}}'),
    ],
)  # fmt: skip
def test_a_saved_data_set_that_is_none_is_one_line(folders, path, text):
    Path("data", path).write_text(text)
    assert refusal().startswith("data")


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow", "custom"])
def test_how_a_saved_data_set_wants_to_be_shown_has_no_say(folders, edit, kind):
    """A format is code of `datasets` that converts rows; "custom" would call what it is given."""
    options = {"transform": "os.system"} if kind == "custom" else {}
    edit(Path("data/train/state.json"), _format_type=kind, _format_kwargs=options)
    assert read_hub("data").splits["train"][0].tokens == ("fine",)


@pytest.mark.parametrize("kind", ["Image", "Audio", "Video", "Pdf", "Nifti"])
def test_columns_of_images_and_the_like_are_refused_and_no_path_in_them_is_opened(folders, kind, opens):
    import pyarrow as pa

    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    tokens = pa.array([[{"bytes": None, "path": str(folders / "secret.png")}]], pa.list_(struct))
    table = pa.table({"tokens": tokens, "ner_tags": pa.array([[1]], pa.list_(pa.int64()))})
    file = str(next(Path("data/train").glob("*.arrow")))
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (folders / "secret.png").write_bytes(b"secret")
    info = json.loads(Path("data/train/dataset_info.json").read_text())
    info["features"]["tokens"] = {"_type": "List", "feature": {"_type": kind}}
    Path("data/train/dataset_info.json").write_text(json.dumps(info))
    opens.clear()
    assert refusal().startswith("data/train")
    assert not any("secret" in path for path in opens)


@pytest.mark.parametrize("source", ["../secret.jsonl", "{folder}/secret.jsonl", "http://192.0.2.1/secret.jsonl"])
def test_a_folder_of_data_files_can_not_name_one_outside(folders, source, opens, monkeypatch):
    source = source.format(folder=folders)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folders / "cache")
    Path("secret.jsonl").write_text('{"tokens": ["secret"], "ner_tags": ["B-X"]}\n')
    Path("plain").mkdir()
    Path("plain/train.jsonl").write_text('{"tokens": ["fine"], "ner_tags": ["B-X"]}\n')
    Path("plain/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {source}\n---\n")
    opens.clear()
    assert refusal("plain").startswith("data.dataset plain: ")
    assert not any("secret" in path for path in opens)


def test_a_script_in_a_data_set_is_not_run(folders, mark, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folders / "cache")
    Path("plain").mkdir()
    Path("plain/plain.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    Path("plain/train.jsonl").write_text('{"tokens": ["fine"], "ner_tags": ["B-X"]}\n')
    refusal("plain")
    assert not mark.exists()
