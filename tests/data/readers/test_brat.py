"""brat's folders."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.brat import brat_files, read_brat
from nerloop.errors import DataError
from nerloop.types import Span


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").mkdir()


def write(text: str, *lines: str, name: str = "a") -> None:
    Path(f"b/{name}.txt").write_bytes(text.encode())
    Path(f"b/{name}.ann").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read(**options):
    return read_files(["b"], ReadOptions(**options))[0]


def tagged(examples) -> list[str]:
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(**options) -> str:
    with pytest.raises(DataError) as caught:
        read(**options)
    return str(caught.value)


def test_a_folder_is_read_by_document_with_lines_of_the_text():
    write("Anna left.\nSo did Bo.", "T1\tPER 18 20\tBo", "T2\tPER 0 4\tAnna")
    write("Paris", "T1\tLOC 0 5\tParis", name="c")
    examples = read()
    assert format_of("b") == "brat"
    assert tagged(examples) == ["Anna/B-PER left/O ./O", "So/O did/O Bo/B-PER ./O", "Paris/B-LOC"]
    assert [e.location for e in examples] == ["b/a.txt:1", "b/a.txt:2", "b/c.txt:1"]
    assert [e.document for e in examples] == ["b/a.txt", "b/a.txt", "b/c.txt"]
    assert examples[1].offsets == ((11, 13), (14, 17), (18, 20), (20, 21))


def test_lines_that_are_no_spans_are_skipped():
    others = ["R1\tIn Arg1:T1 Arg2:T2", "E1\tPER:T1", "A1\tx T1", "M1\tx T1", "N1\tReference T1 Wikipedia:1\tAnna"]
    others += ["*\tEquiv T1 T2", "#1\tAnnotatorNotes T1\tT9 PER", ""]
    write("Anna in Paris", "T1\tPER 0 4\tAnna", *others, "T2\tLOC 8 13\tParis")
    assert tagged(read()) == ["Anna/B-PER in/O Paris/B-LOC"]


def test_a_text_without_annotations_is_not_gold(caplog):
    write("Anna", "T1\tPER 0 4\tAnna")
    Path("b/z.txt").write_text("Bo")
    with caplog.at_level(logging.WARNING):
        assert tagged(read()) == ["Anna/B-PER"]
    assert "1 records that nobody annotated are left out: b/z.txt" in caplog.text
    assert [e.tokens for e in read(with_tags=False)] == [("Anna",), ("Bo",)]


def test_an_empty_ann_says_that_there_is_nothing():
    write("Anna")
    assert tagged(read()) == ["Anna/O"]


def test_annotations_without_their_text_are_refused():
    write("Anna")
    Path("b/z.ann").write_text("")
    assert message() == "b/z.ann: found no z.txt next to it, expected the text it annotates"


def test_an_unreadable_subfolder_is_refused(monkeypatch):
    write("Anna")
    Path("b/closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"^b: can't be read: Permission denied$"):
        brat_files("b")


def test_a_discontinuous_span_is_read_as_its_hull_or_skipped(caplog):
    write("North and South Korea", "T1\tLOC 0 5;16 21\tNorth Korea", "T2\tLOC 10 21\tSouth Korea")
    with caplog.at_level(logging.WARNING):
        assert tagged(read()) == ["North/O and/O South/B-LOC Korea/I-LOC"]
        skipped = read(discontinuous="skip")
    assert tagged(skipped) == ["North/O and/O South/B-LOC Korea/I-LOC"]
    assert "1 discontinuous spans read as their hull: b/a.ann:1 LOC" in caplog.text
    assert (
        "1 hulls of discontinuous spans left out: b/a.txt LOC 'North and South Korea' at 0 in LOC 'South" in caplog.text
    )
    write("North and South Korea", "T1\tLOC 0 5;16 21\tNorth Korea")
    assert tagged(read()) == ["North/B-LOC and/I-LOC South/I-LOC Korea/I-LOC"]
    assert "1 discontinuous spans left out: b/a.ann:1 LOC" in caplog.text


def test_the_hull_of_a_discontinuous_span_displaces_no_other_span_whichever_is_kept():
    lines = ("T1\tLOC 0 5;16 21\tNorth Korea", "T2\tLOC 10 21\tSouth Korea", "T3\tLOC 16 21\tKorea")
    write("North and South Korea", *lines)
    assert tagged(read()) == ["North/O and/O South/B-LOC Korea/I-LOC"]
    assert tagged(read(overlaps="innermost")) == ["North/O and/O South/O Korea/B-LOC"]


def test_what_an_example_has_no_room_for_is_counted_as_lost():
    write("Anna Bo", "T1\tPER 0 4\tAnna", "T2\tPER 5 7\tBo", "R1\tkin Arg1:T1 Arg2:T2", "E1\tX:T1", "A1\tOld T1",
          "M1\tOld T1", "N1\tReference T1 W:1\tAnna", "#1\tAnnotatorNotes T1\twho?", "*\tEquiv T1 T2")  # fmt: skip
    warnings = ReadWarnings()
    assert len(list(read_brat("b", ReadOptions(), warnings))) == 1
    assert warnings.losses == {
        "relations": 1, "events": 1, "attributes": 2, "normalisations": 1, "notes": 1, "equivalences": 1
    }  # fmt: skip
    assert warnings.listed["relations"] == ["b/a.ann:3 'R1\\tkin Arg1:T1 Arg2:T2'"]
    assert warnings.lines("b") == []


@pytest.mark.parametrize("start", [10, 8])
def test_windows_line_ends_count_as_two_or_one(start):
    write("Anna\r\nin\r\nParis", f"T1\tLOC {start} {start + 5}\tParis")
    examples = read()
    assert tagged(examples) == ["Anna/O", "in/O", "Paris/B-LOC"]
    assert examples[2].offsets == ((10, 15),)


def test_windows_line_ends_of_annotations_are_read():
    write("Anna")
    Path("b/a.ann").write_bytes(b"T1\tPER 0 4\tAnna\r\n")
    assert tagged(read()) == ["Anna/B-PER"]


@pytest.mark.parametrize("start", [2, 3])
def test_an_emoji_before_a_span_is_one_character_or_two(start):
    write("😀 Anna", f"T1\tPER {start} {start + 4}\tAnna")
    assert tagged(read()) == ["😀/O Anna/B-PER"]


def test_a_span_over_a_line_end_is_missed():
    write("New\nYork", "T1\tLOC 0 8\tNew York")
    first, second = read()
    assert tagged([first, second]) == ["New/B-LOC", "York/B-LOC"]
    assert (first.missed, second.missed) == ((Span(0, 8, "LOC"),), ())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("T1\tPER 0 9\tAnna", "b/a.ann:2: found offsets 0 to 9 in a text of 4 characters, expected them within it"),
        ("T1\tPER 0 3\tBob", "b/a.ann:2: the text from 0 to 3 is 'Ann', but the record says 'Bob': was the text "
                            "changed after it was annotated?"),
        ("T1 PER 0 4 Anna", "b/a.ann:2: found 'T1 PER 0 4 Anna', expected a line such as 'T1<tab>PER 0 4<tab>Anna'"),
        ("T1\tPER 0\tAnna", "b/a.ann:2: found 'T1\\tPER 0\\tAnna', expected a line such as 'T1<tab>PER 0 4<tab>Anna'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(line, expected):
    write("Anna", "T9\tPER 0 4\tAnna", line)
    assert message() == expected


def test_a_text_in_another_encoding_is_refused():
    write("Anna")
    Path("b/a.txt").write_bytes("x\nZoë".encode("latin-1"))
    assert message() == ("b/a.txt:2: found b'\\xeb', expected UTF-8. Set data.encoding, or is it binary?")


def test_the_fingerprint_covers_texts_and_annotations():
    write("Anna", "T1\tPER 0 4\tAnna")
    before = read_files(["b"])[1]
    write("Anna", "T1\tLOC 0 4\tAnna")
    assert read_files(["b"])[1] != before


def test_an_ann_file_alone_is_refused():
    write("Anna")
    with pytest.raises(DataError, match="found a file of brat's, expected its folder"):
        read_files(["b/a.ann"])
