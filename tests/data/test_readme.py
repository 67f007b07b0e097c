"""The Python code of nerloop/data/README.md, run as written: a reader, and its line in the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nerloop.data
from nerloop.config import DataSettings
from nerloop.data import ReadOptions, detect, format_of, formats, read_files
from nerloop.data.options import SETTINGS
from nerloop.data.read_dataset import read_dataset
from nerloop.errors import DataError

README = (Path(nerloop.data.__file__).parent / "README.md").read_text(encoding="utf-8")
READING, READER, LINE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the reader of the README as it says, and write a file for it."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(READER, names)
    (entry,) = eval(f"{{{LINE}}}", {**names, "Format": formats.Format}).items()
    monkeypatch.setitem(formats.FORMATS, *entry)
    for suffix in entry[1].suffixes:
        monkeypatch.setitem(detect.SUFFIXES, suffix, entry[0])
    Path("x.slashes").write_text("Anna/B-PER left/O\n\n1/2/O\n")
    Path("x.txt").write_text("Anna/B-PER\n")


def test_the_new_format_is_told_by_its_suffix_and_read():
    assert format_of("x.slashes") == "slashes"
    examples = read_files(["x.slashes"])[0]
    assert [(e.tokens, e.tags, e.location) for e in examples] == [
        (("Anna", "left"), ("B-PER", "O"), "x.slashes:1"),
        (("1/2",), ("O",), "x.slashes:3"),
    ]
    assert read_files(["x.slashes"], ReadOptions(with_tags=False))[0][0].tags == ()


def test_the_new_format_is_a_setting(tmp_path):
    data = read_dataset(DataSettings(train="x.txt", format="slashes", cache_dir=str(tmp_path)))
    assert data.splits["train"][0].tokens == ("Anna",)
    with pytest.raises(DataError, match=r"^data.format: found 'slash' \(did you mean 'slashes'\?\), expected"):
        read_dataset(DataSettings(train="x.txt", format="slash", cache_dir=str(tmp_path)))


def test_the_new_format_says_where_a_tag_is_wrong():
    Path("x.slashes").write_text("Anna/B-PER left/o\n")
    with pytest.raises(DataError, match=r"^x.slashes:1: 'o' is not a tag"):
        read_files(["x.slashes"])


def test_reading_is_as_shown():
    Path("train.conll").write_text("Anna B-PER\n")
    names: dict = {}
    exec(READING, names)
    assert names["examples"][0].tags == ("B-PER",)
    assert len(names["digest"]) == 64


def test_the_readme_names_every_format_and_option():
    table = README.split("| `data.format` |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named == [name for name in formats.FORMATS if name != "slashes"]
    assert [s.name for s in SETTINGS if f"data.{s.name}" not in README] == []
