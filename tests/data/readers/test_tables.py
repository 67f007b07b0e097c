"""CSV and Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files, read_records
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


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
        ("a,b\nx,y\n", "x.csv:1: found no usual names in the first row, and several columns may hold the tokens "
                       "(0: 'x', 1: 'y'); set data.token_column and data.tag_column to their indices from 0"),
        ("a,ner\nx,O\n", "x.csv:1: found no column 'tokens' or 'words' or 'token' or 'word' or 'form' or 'text'; set "
                       "data.token_column to one of: a, ner"),
        ("token,tag\nx,O\ny\n", "x.csv:3: found 1 fields, expected 2 as in the first row"),
        ("token,tag\nx,PER\n", "x.csv:2: 'PER' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as "
                                  "'B-PER'"),
        ('token,tag\nx,O\n"y,O\n', "x.csv:3: not CSV: unexpected end of data. Is a quote missing?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(text, expected):
    assert message(text) == expected


# Lists that numpy and pandas print


def test_what_pandas_writes_is_read_as_it_was():
    import numpy as np
    import pandas  # type: ignore[import-untyped]

    tokens = ["EU", "O'Neill", '"', "\\", "a b", "", "[", "]", ",", "...", "\n", "word", "word", "word", "word", "word"]
    tags = ["B-X", *["O"] * (len(tokens) - 1)]
    for cell in (list, np.array, tuple, lambda values: np.array(values, dtype=object)):
        pandas.DataFrame({"tokens": [cell(tokens)] * 2, "ner_tags": [cell(tags)] * 2}).to_csv("x.csv")
        examples = read_files(["x.csv"])[0]
        assert [(list(e.tokens), list(e.tags)) for e in examples] == [(tokens, tags)] * 2
        pandas.DataFrame({"tokens": [cell(tokens)], "ner_tags": [np.zeros(16, dtype=int)]}).to_csv("x.csv", index=False)
        assert read_files(["x.csv"], ReadOptions(labels=["O"]))[0][0].tokens == tuple(tokens)


def test_a_broken_list_is_never_a_token():
    text = "tokens,tags\n['a' 'b'],\"['O', 'O']\"\n[a b],\"['O', 'O']\"\n\"['a' 'b', 'c']\",\"['O']\"\n"
    assert message(text).splitlines() == [
        'x.csv:3: found \'[a b]\', expected a list such as ["EU", "rejects"]',
        "x.csv:4: found strings without a comma between them: \"['a' 'b', 'c']\"",
    ]
    assert read(text, on_bad_record="skip") == ["a/O b/O"]


# Texts


TWEETS = 'id,text,created_at\n1,"Anna left, she said.",2020-01-01\n2,Hi,2020-01-02\n3,Bo likes Oslo,2020-01-03\n'


def texts(text: str, name: str = "x.csv", **options) -> list:
    Path(name).write_text(text, encoding="utf-8")
    return list(read_records(name, ReadOptions(with_tags=False, for_prediction=True, **options), ReadWarnings()))


@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x.tsv"])
def test_texts_are_read_with_the_other_columns(name):
    text = TWEETS.replace(",2", "\t2").replace("1,", "1\t").replace("2,", "2\t").replace("3,", "3\t")
    text = text.replace("id,text,", "id\ttext\t") if name == "x.tsv" else TWEETS
    found = texts(text, name)
    assert [r.text for r in found] == ["Anna left, she said.", "Hi", "Bo likes Oslo"]
    assert found[1].source == {"format": "csv", "record": {"id": "2", "text": "Hi", "created_at": "2020-01-02"}}
    assert format_of(name) == "csv_texts"


@pytest.mark.parametrize("column", ["Body", "Tweet", "lyrics"])
def test_the_column_of_texts_is_found_by_name_or_content_and_told(column):
    warnings = ReadWarnings()
    Path("x.csv").write_text(TWEETS.replace("text", column))
    assert len(list(read_records("x.csv", ReadOptions(with_tags=False), warnings))) == 3
    assert warnings.lines("x.csv") == [f"note: x.csv: 1 tables whose texts are in column {column!r}: x.csv:1"]


def test_two_columns_that_may_be_the_text_are_refused():
    text = "artist,lyrics\nAnna Li,Bo likes Oslo\n"
    expected = "x.csv:1: texts may be in 'artist' or in 'lyrics'; set data.token_column to one"
    assert message(text) == message(text, with_tags=False) == expected
    assert [r.text for r in texts(text, token_column="lyrics")] == ["Bo likes Oslo"]
    assert [r.text for r in texts(text, token_column="1")] == ["Bo likes Oslo"]


def test_texts_without_gold_are_no_training_data():
    assert message(TWEETS) == (
        "x.csv:1: texts are in column 'text', but no column holds their spans; set data.tag_column to one of: id, "
        "text, created_at"
    )


def test_texts_without_a_header_are_not_lost():
    for options in ({}, {"token_column": "1"}):
        found = texts("1,Anna met Bo in Oslo\n2,Bo left\n", **options)
        assert [r.text for r in found] == ["Anna met Bo in Oslo", "Bo left"]
        assert found[1].source == {"format": "csv", "record": {"0": "2", "1": "Bo left"}}
    assert [r.text for r in texts("Anna met Bo in Oslo\nBo left\n")] == ["Anna met Bo in Oslo", "Bo left"]
    assert message("Anna Li met Bo,Bo left Oslo yesterday\n", with_tags=False) == (
        "x.csv:1: texts may be in '0' or in '1'; set data.token_column to one"
    )


def test_lists_without_tags():
    assert [e.tags for e in texts("tokens,tags\n['a' 'b'],[3 0]\n")] == [()]


@pytest.mark.parametrize("cell", ['[{"start": 0, "end": 4, "label": "PER"}]', "[(0, 4, 'PER')]", '[[0, 4, "PER"]]'])
@pytest.mark.parametrize("column", ["entities", "label", "spans"])
def test_a_column_of_spans_is_gold(cell, column):
    quoted = cell.replace('"', '""')
    assert read(f'id,text,{column}\n1,Anna left,"{quoted}"\n2,Bo,[]\n') == ["Anna/B-PER left/O", "Bo/O"]
    assert format_of("x.csv") == "csv_texts"


LABEL_STUDIO = """text,id,label,annotator,annotation_id,created_at,updated_at,lead_time
Anna left,1,"[{""start"":0,""end"":4,""text"":""Anna"",""labels"":[""PER""]}]",1,11,2020-01-01T00:00:00Z,2020,3.5
Anna left,1,"[{""start"":5,""end"":9,""text"":""left"",""labels"":[""PER""]}]",2,12,2020-01-01T00:00:00Z,2020,3.5
Nobody left,2,,1,13,2020-01-01T00:00:00Z,2020,3.5
"""


def test_label_studios_csv(caplog):
    assert read(LABEL_STUDIO) == ["Anna/B-PER left/O", "Nobody/O left/O"]
    assert "1 further annotations of a task are left out: the first one is read: x.csv:3" in caplog.text


# Tokens


def test_tokens_and_tags_with_spaces_between_them():
    text = 'id,sentence,word_labels\n1,EU rejects,"B-ORG O"\n2,Bo,B-PER\n'.replace("word_labels", "labels")
    assert read(text) == ["EU/B-ORG rejects/O", "Bo/B-PER"]
    assert message(text + "3,a b,O\n") == "x.csv:4: 2 in 'sentence' but 1 in 'labels'; expected as many"
    assert read("text,tags\nEU rejects,\"['B-ORG', 'O']\"\n") == ["EU/B-ORG rejects/O"]


def test_kaggles_tokens_in_latin_1():
    text = 'Sentence #,Word,POS,Tag\nSentence: 1,Zürich,NNP,B-geo\n,is,V,O\n,"""","",O\nSentence: 2,Bo,NNP,B-per\n'
    Path("x.csv").write_bytes(text.encode("latin-1"))
    examples = read_files(["x.csv"], ReadOptions(encoding="latin-1"))[0]
    assert [(e.tokens, e.tags) for e in examples] == [
        (("Zürich", "is", '"'), ("B-geo", "O", "O")), (("Bo",), ("B-per",)),
    ]  # fmt: skip
    assert read_files(["x.csv"], ReadOptions(encoding="latin-1", with_tags=False))[0][0].tokens[0] == "Zürich"


def test_columns_are_told_by_content_where_that_leaves_one_reading(caplog):
    assert read("EU,B-ORG\nrejects,O\n") == ["EU/B-ORG rejects/O"]
    assert read("1,EU,B-ORG\n2,rejects,O\n") == ["EU/B-ORG rejects/O"]
    assert read("nr,mot,type\n0,EU,B-ORG\n1,rejects,O\n") == ["EU/B-ORG rejects/O"]
    assert "tables with tokens in column 1 and tags in column 2 (from 0), judging by their content" in caplog.text


@pytest.mark.parametrize("text", ["EU,NNP,B-ORG\nrejects,V,O\n", "7,EU,B-ORG\n9,rejects,O\n"])
def test_columns_that_can_not_be_told_are_refused(text):
    assert "several columns may hold the tokens (0: " in message(text)
    assert message(text).endswith("set data.token_column and data.tag_column to their indices from 0")


def test_quotes_that_are_tokens():
    assert read('token,tag\n",O\nEU,B-ORG\n",O\n\nBo,O\n') == ['"/O EU/B-ORG "/O', "Bo/O"]
    assert message('token,tag\n",O\nEU,B-ORG\n",O\na,b,O\n').startswith("x.csv:2: found the token ',O\\nEU,B-ORG\\n'")


def test_a_table_with_tabs_and_a_header_is_one():
    Path("x.tsv").write_text('sentence_id\tword\ttag\n1\tEU\tB-ORG\n1\t"\tO\n2\tBo\tO\n')
    assert format_of("x.tsv") == "csv"
    assert [e.tokens for e in read_files(["x.tsv"])[0]] == [("EU", '"'), ("Bo",)]
    for columns in ("text\tO\nEU\tB-ORG\n", "EU\trejects\n\nBo\tleft\n", "New York\tB-LOC\nSan Jose\tB-LOC\n", "EU\n"):
        Path("x.tsv").write_text(columns)
        assert format_of("x.tsv") == "conll"
    for table in ("nr\tlyrics\n7\tAnna left\n", "7\tAnna met Bo in Oslo\n"):
        Path("x.tsv").write_text(table)
        assert format_of("x.tsv") == "csv_texts"


def test_a_table_of_tokens_without_borders_is_told(caplog):
    rows = "Bo,O\n" * 150
    read(f"token,tag\n{rows}")
    assert "1 tables of more than 100 tokens without a border of sentences: add a column sentence_id" in caplog.text
    caplog.clear()
    read(f"token,tag\n{rows}\n{rows}")
    assert caplog.text == ""


def test_a_bad_row_leaves_out_its_sentence_alone():
    text = "token,tag\na,O\nb,X-PER\n\nc,O\n\nd\n"
    assert message(text).splitlines() == [
        "x.csv:3: 'X-PER' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'",
        "x.csv:7: found 1 fields, expected 2 as in the first row",
    ]
    assert read(text, on_bad_record="skip") == ["c/O"]


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


def test_texts_of_parquet_with_and_without_spans():
    write_parquet(n=[1, 2], text=["Anna left", "Bo"], entities=[[{"start": 0, "end": 4, "label": "PER"}], []])
    assert format_of("x.parquet") == "parquet_texts"
    assert [e.tags for e in read_files(["x.parquet"])[0]] == [("B-PER", "O"), ("O",)]
    first, _ = read_records("x.parquet", ReadOptions(with_tags=False, for_prediction=True), ReadWarnings())
    assert first.source == {
        "format": "parquet",
        "record": {"n": 1, "text": "Anna left", "entities": [{"start": 0, "end": 4, "label": "PER"}]},
    }


def test_a_token_a_row_of_parquet():
    write_parquet(sentence_id=[1, 1, 2], word=["Anna", "left", "Bo"], tag=["B-PER", "O", "O"])
    assert [(e.tokens, e.tags) for e in read_files(["x.parquet"])[0]] == [
        (("Anna", "left"), ("B-PER", "O")), (("Bo",), ("O",)),
    ]  # fmt: skip


def test_what_datasets_writes_is_read_as_it_was():
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    tokens = [["EU", "rejects", "O'Neill", '"', "call"], ["Bo"], ["word"] * 60]
    tags = [[3, 0, 1, 0, 0], [1], [0] * 60]
    rows = Dataset.from_dict({"id": ["0", "1", "2"], "tokens": tokens, "pos_tags": tags, "ner_tags": tags})
    labels = ["O", "B-PER", "I-PER", "B-ORG"]
    expected = [(tuple(t), tuple(labels[i] for i in g)) for t, g in zip(tokens, tags)]
    rows.to_csv("x.csv")
    rows.to_json("x.jsonl")
    rows.to_json("x.json", lines=False)
    rows.to_json("indented.json", lines=False, indent=2)
    rows.to_parquet("x.parquet")
    for name in ("x.csv", "x.jsonl", "x.json", "indented.json", "x.parquet"):
        examples = read_files([name], ReadOptions(labels=labels))[0]
        assert [(e.tokens, e.tags) for e in examples] == expected, name


@pytest.mark.parametrize("tags", [("PER", "O", "PER", "O", "O"), ("U-PER", "O", "U-PER", "O", "O")])
def test_tags_of_other_styles_are_read_in_every_shape(tags, caplog):
    tokens, prefix = ["Anna", "met", "Bo", "in", "Oslo"], "I" if tags[0] == "PER" else "S"
    record = {"tokens": tokens, "tags": list(tags)}
    Path("lists.csv").write_text(f'tokens,tags\n"{tokens}","{list(tags)}"\n')
    Path("words.csv").write_text(f"sentence,tags\n{' '.join(tokens)},{' '.join(tags)}\n")
    Path("rows.csv").write_text("token,tag\n" + "".join(f"{t},{g}\n" for t, g in zip(tokens, tags)))
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    write_parquet(**{name: [values] for name, values in record.items()})
    for name in ("lists.csv", "words.csv", "rows.csv", "x.jsonl", "x.parquet"):
        (example,) = read_files([name])[0]
        assert (list(example.tokens), example.tags) == (tokens, (f"{prefix}-PER", "O", f"{prefix}-PER", "O", "O")), name
        assert f"{name}: 2 tags " in caplog.text


@pytest.mark.parametrize("header", ["Satz;Wort;Marke", "Satz;Token;Tag", ""])
def test_a_column_that_numbers_the_sentences_needs_no_name(header, caplog):
    Path("x.csv").write_text(f"{header}\n1;Anna;B-PER\n1;left;O\n2;Paris;B-LOC\n2;is;O\n2;big;O\n".lstrip())
    examples = read_files(["x.csv"], ReadOptions())[0]
    assert [e.tokens for e in examples] == [("Anna", "left"), ("Paris", "is", "big")]
    assert "sentences by column " + (repr(header.split(";")[0]) if header else "0 (from 0)") in caplog.text


def test_a_column_of_other_numbers_does_not_end_sentences():
    Path("x.csv").write_text("token,tag,length\nAnna,B-PER,4\nleft,O,4\nParis,B-LOC,5\nis,O,2\n")
    assert [len(e.tokens) for e in read_files(["x.csv"], ReadOptions())[0]] == [4]


def test_the_first_row_in_another_encoding_is_told():
    Path("x.csv").write_bytes("word,tag\nJosé,B-PER\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"x.csv:2: found b'\\xe9' at byte 4 of the line, expected UTF-8"):
        read_files(["x.csv"], ReadOptions())


def test_a_row_of_nulls_in_parquet_ends_a_sentence():
    write_parquet(token=["Anna", "left", None, "Bo"], tag=["B-PER", "O", None, "B-PER"])
    assert [e.tokens for e in read_files(["x.parquet"])[0]] == [("Anna", "left"), ("Bo",)]
