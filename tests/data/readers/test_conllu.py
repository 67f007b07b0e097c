"""CoNLL-U with entities."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def row(number, form, misc="_", xpos="_"):
    return f"{number}\t{form}\t{form}\tX\t{xpos}\t_\t0\tdep\t_\t{misc}"


def read(*lines: str, name="x.conllu", **options):
    Path(name).write_text("\n".join(lines), encoding="utf-8")
    return read_files([name], ReadOptions(**options))[0]


def tagged(examples) -> list[str]:
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(*lines: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(*lines, **options)
    return str(caught.value)


@pytest.mark.parametrize("key", ["name", "NER", "ner"])
def test_tags_are_found_in_misc(key):
    lines = [row(1, "Anna", f"{key}=B-PER|SpaceAfter=No"), row(2, "left", f"{key}=O"), row(3, "."), ""]
    assert tagged(read("# text = Anna left.", *lines)) == ["Anna/B-PER left/O ./O"]


def test_multiword_tokens_and_empty_nodes_are_left_out():
    lines = [
        row("1-2", "vámonos"),
        row(1, "vamos"),
        row(2, "nos", "NER=B-X"),
        row("2.1", "ghost", "NER=B-X"),
        row(3, "!"),
    ]
    assert tagged(read(*lines)) == ["vamos/O nos/B-X !/O"]


def test_a_key_or_a_column_can_be_named():
    lines = [row(1, "Anna", "Ent=B-PER", xpos="B-X"), row(2, "left", "_", xpos="O")]
    assert tagged(read(*lines, tag_column="Ent")) == ["Anna/B-PER left/O"]
    assert tagged(read(*lines, tag_column="xpos")) == ["Anna/B-X left/O"]
    assert tagged(read(*lines, tag_column="4")) == ["Anna/B-X left/O"]


def test_documents_and_lines_are_known():
    lines = [
        "# newdoc id = a",
        "# sent_id = 1",
        row(1, "A", "NER=B-X"),
        "",
        row(1, "b"),
        "",
        "# newdoc",
        row(1, "c"),
        "",
    ]
    examples = read(*lines)
    assert [(e.location, e.document) for e in examples] == [
        ("x.conllu:3", "x.conllu:1"), ("x.conllu:5", "x.conllu:1"), ("x.conllu:8", "x.conllu:7"),
    ]  # fmt: skip


def test_columns_of_conllu_plus_go_by_their_names():
    lines = ["# global.columns = ID FORM NE", "1\tAnna\tB-PER", "2\tleft\t*"]
    assert tagged(read(*lines, tag_column="NE")) == ["Anna/B-PER left/O"]


def test_brackets_of_coreference_are_refused():
    assert message(row(1, "Anna", "Entity=(e1-person-1-)")) == (
        "x.conllu:1: found 'Entity=(e1-person-1-)': brackets of coreference (CorefUD, GUM), which nest and overlap; "
        "expected a tag a word, such as NER=B-PER. Convert the file first"
    )


def test_brackets_beside_tags_are_no_matter():
    lines = [row(1, "The", "Entity=(e1-person-1-"), row(2, "Anna", "Entity=e1)|NER=B-PER")]
    assert tagged(read(*lines)) == ["The/O Anna/B-PER"]


def test_a_file_without_entities_is_refused():
    assert message(row(1, "Anna")) == (
        "x.conllu: found no name= or NER= in the MISC column of any word, expected entities there; set data.tag_column "
        "to their key, or to a column's name"
    )
    assert read(row(1, "Anna"), with_tags=False)[0].tokens == ("Anna",)


def test_a_row_of_another_width_is_told_by_line():
    assert (
        message(row(1, "A", "NER=O"), "2\tb\tO") == "x.conllu:2: found 3 fields between tabs, expected 10: '2\\tb\\tO'"
    )


def test_it_is_known_by_its_ten_columns():
    lines = ["# text = A", row(1, "A", "NER=B-X")]
    assert tagged(read(*lines, name="x.conll")) == ["A/B-X"]
    assert format_of("x.conll") == "conllu"
    read(row(1, "A", "B-X"), row(2, "b", "O"), name="y.conll")
    assert format_of("y.conll") == "conll"


def test_offsets_are_those_of_the_words_in_the_text():
    left = [row(1, "Anna", "NER=B-PER|SpaceAfter=No"), row(2, "’s"), row(3, "😀"), row(4, "."), ""]
    (found,) = read("# sent_id = 1", "# text = Anna’s  😀.", *left)
    assert found.offsets == ((0, 4), (4, 6), (8, 9), (9, 10))


@pytest.mark.parametrize("text", ["", "# text = Bob left", "# text = Anna left again", "# text_en = Anna left"])
def test_words_that_are_not_all_of_the_text_have_no_offsets(text):
    (found,) = read(text, row(1, "Anna", "NER=B-PER"), row(2, "left"))
    assert found.offsets == ()


def test_offsets_count_in_the_text_of_a_known_document():
    vamos = ["# text = vámonos!", row("1-2", "vámonos"), row(1, "vamos"), row(2, "nos"), row(3, "!"), ""]
    anna = ["# text = Anna", row(1, "Anna", "NER=B-PER"), ""]
    found = read("# newdoc id = a", *anna, *vamos, *anna, "# newdoc", *anna)
    assert [e.offsets for e in found] == [((0, 4),), (), ((17, 21),), ((0, 4),)]
    assert [e.offsets for e in read(*anna, *anna)] == [((0, 4),), ((0, 4),)]


def test_a_bad_sentence_moves_no_offsets_of_other_texts():
    lines = [
        "# text = Anna left",
        row(1, "Anna", "NER=Nope"),
        row(2, "left"),
        "",
        "# text = Bo",
        row(1, "Bo", "NER=B-PER"),
        "",
    ]
    examples = read(*lines, on_bad_record="skip")
    assert [(e.tokens, e.offsets) for e in examples] == [(("Bo",), ((0, 2),))]
