"""CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, **options) -> list[str]:
    Path("x.csv").write_text(text, encoding="utf-8")
    examples = read_files(["x.csv"], ReadOptions(**options))[0]
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(text: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


def test_a_token_a_row_with_the_sentences_number_on_its_first_row():
    text = 'Sentence #,Word,POS,Tag\nSentence: 1,Anna,NNP,B-PER\n,left,V,O\nSentence: 2,"a,""b",X,O\n'
    assert read(text) == ["Anna/B-PER left/O", 'a,"b/O']


def test_a_token_a_row_with_the_sentences_number_on_each():
    assert read("sentence_id,token,tag\n1,Anna,B-PER\n1,,O\n2,Bo,O\n") == ["Anna/B-PER /O", "Bo/O"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_token_a_row_with_empty_rows_between_sentences(delimiter):
    text = "word,ner\r\nAnna,B-PER\r\n\r\nBo,O\r\n,\r\nCy,O".replace(",", delimiter)
    assert read(text) == ["Anna/B-PER", "Bo/O", "Cy/O"]


@pytest.mark.parametrize(
    "cells", ['"[""Anna"", ""left""]","[""B-PER"", ""O""]"', "\"['Anna', 'left']\",\"['B-PER', 'O']\""]
)
def test_lists_in_cells_are_a_sentence_a_row(cells):
    assert read(f"id,tokens,ner_tags\n1,{cells}\n") == ["Anna/B-PER left/O"]


def test_integer_tags_go_by_labels():
    assert read("token,tag\nAnna,1\nleft,0\n", labels=["O", "B-PER"]) == ["Anna/B-PER left/O"]


def test_indices_need_no_header():
    assert read("7,Anna,B-PER\n7,left,O\n", token_column="1", tag_column="-1") == ["Anna/B-PER left/O"]
    assert read("n,what,which\n7,Anna,B-PER\n", token_column="1", tag_column="-1") == ["Anna/B-PER"]


def test_a_bracket_that_is_a_token_is_one():
    assert read("token,tag\n[,O\n],O\n") == ["[/O ]/O"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\nx,O\n", "x.csv:1: found no column 'tokens' or 'words' or 'token' or 'word' or 'text' or 'form'; set "
                       "data.token_column to one of: a, b"),
        ("token,tag\nx,O\ny\n", "x.csv:3: found 1 fields, expected 2 as in the first row"),
        ("token,tag\nx,PER\n", "x.csv:2: 'PER' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as "
                                  "'B-PER'"),
        ('token,tag\nx,O\n"y,O\n', "x.csv:3: not CSV: unexpected end of data. Is a quote missing?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(text, expected):
    assert message(text) == expected


# Parquet


def write_parquet(**columns) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), "x.parquet")


def test_parquet_is_read_with_documents():
    write_parquet(tokens=[["Anna", "left"], ["Bo"]], tags=[["B-PER", "O"], ["O"]], doc_id=["a", "b"], x=[1, 2])
    examples = read_files(["x.parquet"])[0]
    assert [(e.tokens, e.tags, e.location, e.document) for e in examples] == [
        (("Anna", "left"), ("B-PER", "O"), "x.parquet:1", "x.parquet#a"),
        (("Bo",), ("O",), "x.parquet:2", "x.parquet#b"),
    ]


def test_class_labels_of_parquet_have_their_names():
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    features = Features({"words": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B-PER"]))})
    Dataset.from_dict({"words": [["Anna", "left"]], "ner_tags": [[1, 0]]}, features=features).to_parquet("x.pq")
    assert format_of("x.pq") == "parquet"
    assert read_files(["x.pq"])[0][0].tags == ("B-PER", "O")


def test_a_damaged_parquet_file_is_refused():
    Path("x.parquet").write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(DataError, match=r"^x.parquet: not Parquet, or damaged: "):
        read_files(["x.parquet"])


def test_integer_tags_of_parquet_without_names_are_refused():
    write_parquet(tokens=[["A"]], tags=[[0]])
    with pytest.raises(DataError) as caught:
        read_files(["x.parquet"])
    assert str(caught.value) == (
        "x.parquet:1: tags[0]: found the integer tag 0; set data.labels to the names, in order"
    )
