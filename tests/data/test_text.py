"""Plain text: lines into sentences, with their places in the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, iterate_files
from nerloop.errors import DataError

OPTIONS = ReadOptions(with_tags=False, for_prediction=True)


def read(path: Path, text: str | bytes, **options):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    warnings: list[str] = []
    found = list(iterate_files([str(path)], dataclasses.replace(OPTIONS, format="text", **options), warnings=warnings))
    assert warnings == []
    return found


def test_lines_are_cut_into_sentences_that_say_where_they_are(tmp_path):
    path = tmp_path / "a.txt"
    text = "\n 😀 Hi Bo. You?\r\n\n  \nBye, Bo\nOK"
    found = read(path, "\ufeff" + text)
    assert [e.tokens for e in found] == [("😀", "Hi", "Bo", "."), ("You", "?"), ("Bye", ",", "Bo"), ("OK",)]
    assert all(text[a:b] == token for e in found for token, (a, b) in zip(e.tokens, e.offsets, strict=True))
    assert [e.location for e in found] == [f"{path}:{n}" for n in (2, 2, 5, 6)]
    assert [e.document for e in found] == [f"{path}:{n}" for n in (2, 2, 5, 5)]


def test_the_sources_of_all_lines_are_the_file(tmp_path):
    text = "\n 😀 Hi Bo. You?\r\n\n  \nBye, Bo\n\n"
    sources = [e.source for e in read(tmp_path / "a.txt", text)]
    assert sources == [
        {"format": "text", "folder": str(tmp_path), "name": "a.txt", "start": 0,
         "text": "\n 😀 Hi Bo. You?\r\n\n  \n"},
        None,
        {"format": "text", "folder": str(tmp_path), "name": "a.txt", "start": 21, "text": "Bye, Bo\n\n"},
    ]  # fmt: skip


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    with pytest.raises(DataError, match=r"a.txt:2: found b'\\xff' at byte 3"):
        read(tmp_path / "a.txt", b"ok\nno\xff\n")
    assert read(tmp_path / "a.txt", b"Z\xfcrich\n", encoding="latin-1")[0].tokens == ("Zürich",)


def test_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a.txt: found no sentence, expected at least one"):
        read(tmp_path / "a.txt", " \n\n")


COLUMNS = "Anna B-PER\nran O\n\nBo B-PER\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Barack Obama was born in Hawaii.\nAngela Merkel lives in Berlin.\n", "text"),
        ("Anna flew to Paris.\n\nShe left.\n", "text"),
        ("Vitamin O\nis good\n", "text"),
        ("Hello\n\nWorld\n", "text"),
        ("The B-52 flew\n", "text"),
        ("東京に行った。楽しかった\n京都も。いい\n\n大阪\n", "text"),
        ("Hello,world\n", "text"),
        ("a\nb\nc\n", "text"),
        (COLUMNS, "conll"),
        ("# id 1 domain=en\n" + COLUMNS, "conll"),
        ("-DOCSTART- -X- O\n\nAnna NNP B-PER\nran V O\n", "conll"),
        ("1\tAnna\tB-PER\tx\n2\tran\tO\tx\n", "conll"),
        ("Anna\nran\n.\n\nU.S.\nwon\n", "conll"),
        ("# id\nAnna\nran\n\n", "conll"),
        ("Anna PER\nran O\nfar O\n", "conll"),
        ("I B\nam O\nin O\nParis B\nTexas I\n", "conll"),
        ("Token\tPOS\tTag\tNote\nAnna\tN\tB-PER\t\nran\tV\tO\t\n\t\t\t\nBo\tN\tB-PER\t\n", "conll"),
        ("Anna Smith\tB-PER\nran\tO\n", "conll"),
        ("Anna B-PER\nran 0\nfar O\n", "conll"),
        ("Anna B-PER\nran\nfar O\n", "conll"),
        ("Anna,B-PER\nran,O\n\nBo,B-PER\n", "csv"),
        ("Anna|B-PER\nran|O\n", "csv"),
        ("Anna\nran\n.\nBo\nwon\n.\n", "conll"),
        ("Anna Smith\nBo Miller\nCy O\n", "text"),
        ('{"text": "Anna", "spans": []}\n', "prodigy"),
        ("1\tAnna" + "\t_" * 8 + "\n", "conllu"),
        ("", "text"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a", "a.md"])
def test_a_file_is_plain_text_for_a_prediction_unless_it_clearly_is_not(tmp_path, text, expected, name):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert format_of(str(path), OPTIONS) == expected


def test_for_a_training_text_files_are_columns(tmp_path):
    (tmp_path / "a.txt").write_text("Anna flew to Paris.\n")
    (tmp_path / "a.conll").write_text("Anna flew to Paris.\n")
    assert format_of(str(tmp_path / "a.txt")) == "conll"
    assert format_of(str(tmp_path / "a.conll"), OPTIONS) == "conll"
