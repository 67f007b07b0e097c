"""CoNLL-2012: entities as brackets."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def row(number: int, word: str, entity: str) -> str:
    before, after = "NN   (TOP(S*   -   -   -   Speaker#1", "(ARG0*   (12)"
    return f"bc/cctv/00/cctv_0000   0   {number}   {word}   {before}   {entity}   {after}\n"


BEGIN, END = "#begin document (bc/cctv/00/cctv_0000); part 000\n", "\n#end document\n"
NEWS = (
    BEGIN + row(0, "Hong", "(GPE*") + row(1, "Kong", "*)") + row(2, "*", "*") + "\n" + row(0, "Disney", "(ORG)") + END
)


def read(text: str, name: str = "x.conll", **options) -> list[str]:
    Path(name).write_text(text, encoding="utf-8")
    examples = read_files([name], ReadOptions(**options))[0]
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(text: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["x.v4_gold_conll", "x.gold_conll", "x.conll", "x.txt", "train_gold_conll"])
def test_the_word_is_in_column_3_and_the_entity_in_column_10(name):
    assert read(NEWS, name) == ["Hong/B-GPE Kong/I-GPE */O", "Disney/B-ORG"]
    assert format_of(name) == "conll2012"


def test_documents_and_places():
    Path("x.conll").write_text(NEWS + BEGIN.replace("part 000", "part 001") + row(0, "so", "*") + END)
    found = read_files(["x.conll"])[0]
    assert [(e.location, e.document) for e in found] == [
        ("x.conll:2", "x.conll:1"),
        ("x.conll:6", "x.conll:1"),
        ("x.conll:10", "x.conll:9"),
    ]
    assert [e.tokens for e in read_files(["x.conll"], ReadOptions(with_tags=False))[0]] == [e.tokens for e in found]


def test_a_shorter_file_of_brackets():
    text = "EU NNP (ORG)\nin IN *\nNew NNP (LOC*\nYork NNP *)\n\nso RB *\n"
    assert read(text) == ["EU/B-ORG in/O New/B-LOC York/I-LOC", "so/O"]
    assert read("1 (ORG) EU\n2 * in\n", format="conll2012", token_column="2") == ["EU/B-ORG in/O"]


def test_two_columns_of_brackets_are_refused():
    text = "EU (ORG) (NP*\nin * *)\n"
    assert message(text) == "x.conll: found 2 columns of brackets such as (ORG*, expected one; set data.tag_column"
    assert read(text, tag_column="1") == ["EU/B-ORG in/O"]


def test_brackets_that_do_not_match_are_bad_records():
    sentences = [
        row(0, "a", "(ORG*") + row(1, "b", "*"),
        row(0, "a", "*)"),
        row(0, "a", "(ORG*") + row(1, "b", "(PER)"),
        row(0, "a", "B-ORG"),
        "a b\n",
        row(0, "ok", "(ORG)"),
    ]
    text = BEGIN + "\n".join(sentences) + END
    assert message(text).split("\n") == [
        "x.conll:2: found (ORG* without *) in the rest of its sentence",
        "x.conll:5: found '*)', but no bracket is open in this sentence",
        "x.conll:8: found '(PER)' within ORG of x.conll:7, expected *)",
        "x.conll:10: found 'B-ORG', expected one of (ORG*, *, *) and (ORG)",
        "x.conll:12: data.token_column is 3, but the line has 2 columns",
    ]
    assert read(text, on_bad_record="skip") == ["ok/B-ORG"]


def test_a_star_is_no_bracket_in_a_file_of_tags():
    assert read("* O\n( B-X\n") == ["*/O (/B-X"]
    assert format_of("x.conll") == "conll"
