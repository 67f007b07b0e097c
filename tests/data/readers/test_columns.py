"""Files of columns: every oddity by a literal, every error by its whole line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers import columns
from nerloop.errors import DataError
from nerloop.types import Example

NO_TAG = "is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a file into the working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes) -> str:
        Path("x.conll").write_bytes(text.encode() if isinstance(text, str) else text)
        return "x.conll"

    return write_file


def read_columns(path: str, **options) -> list[Example]:
    warnings = ReadWarnings()
    found = list(columns.read_columns(path, ReadOptions(**options), warnings))
    warnings.finish()
    return found


def sentences(path: str, **options) -> list[tuple[list[str], list[str]]]:
    return [(list(e.tokens), list(e.tags)) for e in read_columns(path, **options)]


def message(path: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_columns(path, **options)
    return str(caught.value)


def test_read_columns_takes_first_and_last_column(write):
    path = write("EU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\nBlackburn NNP I-PER\n")
    assert read_columns(path) == [
        Example(("EU", "rejects"), ("B-ORG", "O"), "x.conll:1"),
        Example(("Peter", "Blackburn"), ("B-PER", "I-PER"), "x.conll:4"),
    ]


@pytest.mark.parametrize("text", ["A O\nb O\n\nc O\n", "A O\nb O\n\nc O", "\n\nA O\nb O\n\n\n\nc O\n\n\n"])
def test_blank_lines_and_the_last_newline_do_not_matter(write, text):
    assert sentences(write(text)) == [(["A", "b"], ["O", "O"]), (["c"], ["O"])]


def test_lines_of_blanks_alone_end_a_sentence(write):
    assert sentences(write("A\tO\n\t\nb\tO\n \t \nc\tO\n")) == [(["A"], ["O"]), (["b"], ["O"]), (["c"], ["O"])]


def test_crlf_and_a_byte_order_mark_are_no_part_of_tokens_or_tags(write):
    assert sentences(write(b"\xef\xbb\xbfA O\r\n\r\nb B-X\r\n")) == [(["A"], ["O"]), (["b"], ["B-X"])]


def test_a_byte_order_mark_elsewhere_is_text(write):
    assert sentences(write("A O\n\ufeffb O\n")) == [(["A", "\ufeffb"], ["O", "O"])]


def test_docstart_lines_end_a_sentence_and_begin_a_document(write):
    text = "-DOCSTART- -X- O O\n\nA x y O\n\nB x y O\n-DOCSTART- O\nb x y O\n"
    assert read_columns(write(text)) == [
        Example(("A",), ("O",), "x.conll:3", "x.conll:1"),
        Example(("B",), ("O",), "x.conll:5", "x.conll:1"),
        Example(("b",), ("O",), "x.conll:7", "x.conll:6"),
    ]


def test_comments_before_a_sentence_are_skipped(write):
    text = "# id 1\n#second\nA O\n\n# O no tag behind\n#O\nb O\n"
    assert read_columns(write(text)) == [Example(("A",), ("O",), "x.conll:3"), Example(("b",), ("O",), "x.conll:7")]


def test_a_hash_with_a_tag_is_a_token(write):
    assert sentences(write("# O\n1 O\n\n#tag B-X\n")) == [(["#", "1"], ["O", "O"]), (["#tag"], ["B-X"])]


def test_a_hash_within_a_sentence_is_a_token(write):
    assert sentences(write("A O\n# B-X\n")) == [(["A", "#"], ["O", "B-X"])]


def test_a_comment_within_a_sentence_is_an_error(write):
    assert message(write("A O\n# a b\n")) == "x.conll:2: 3 columns where line 1 has 2: '# a b'. Is a column too many?"


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\u3000", "\u200b"])
def test_only_spaces_and_tabs_part_columns(write, space):
    assert sentences(write(f"a{space}b O\n{space} O\n")) == [([f"a{space}b", space], ["O", "O"])]


def test_runs_of_spaces_and_tabs_part_columns_once(write):
    assert sentences(write("A  \t O \nb O\n  c O\n")) == [(["A", "b", "c"], ["O", "O", "O"])]


def test_a_line_that_starts_with_a_tab_has_an_empty_token(write):
    assert sentences(write("\tB-X\nA\tO\n")) == [(["", "A"], ["B-X", "O"])]


def test_a_file_of_nothing_has_no_sentences(write):
    assert read_columns(write("")) == []
    assert read_columns(write("\n# only a comment\n-DOCSTART- O\n")) == []


# Which columns


def test_columns_by_index(write):
    path = write("1 A B-X x\n2 b O y\n")
    assert sentences(path, token_column="1", tag_column="2") == [(["A", "b"], ["B-X", "O"])]


def test_columns_by_negative_index(write):
    assert sentences(write("1 A B-X x\n"), token_column="-3", tag_column="-2") == [(["A"], ["B-X"])]


def test_columns_by_name_in_a_header(write):
    path = write("# made by x\nid word ner\n1 A B-X\n\n2 b O\n")
    assert read_columns(path, token_column="word", tag_column="ner") == [
        Example(("A",), ("B-X",), "x.conll:3"),
        Example(("b",), ("O",), "x.conll:5"),
    ]


def test_one_column_by_name_and_the_other_by_default(write):
    assert sentences(write("id word ner\n1 A B-X\n"), token_column="word") == [(["A"], ["B-X"])]


def test_one_column_by_name_and_the_other_by_index(write):
    assert sentences(write("ner word\nO A\n"), token_column="1", tag_column="ner") == [(["A"], ["O"])]


def test_a_name_that_the_header_lacks(write):
    assert message(write("id word ner\n1 A O\n"), token_column="words", tag_column="ner") == (
        "x.conll:1: found no column 'words' (did you mean 'word'?), "
        "expected a header line that names it; found 'id word ner'"
    )


def test_an_index_beyond_the_columns(write):
    assert message(write("A x O\n"), token_column="3") == (
        "x.conll:1: data.token_column is 3, but the line has 3 columns (counted from 0)"
    )
    assert message(write("A x O\n"), tag_column="-4") == (
        "x.conll:1: data.tag_column is -4, but the line has 3 columns (counted from 0)"
    )


def test_an_index_beyond_the_header(write):
    assert message(write("word ner\nA O\n"), token_column="word", tag_column="7") == (
        "x.conll:1: data.tag_column is 7, but the line has 2 columns (counted from 0)"
    )


def test_integer_tags_are_looked_up_in_the_labels(write):
    assert sentences(write("A 1\nb 0\n\nc 2\n"), labels=["O", "B-X", "I-X"]) == [
        (["A", "b"], ["B-X", "O"]),
        (["c"], ["I-X"]),
    ]


def test_an_integer_tag_beyond_the_labels(write):
    assert message(write("A 1\nb 2\n"), labels=["O", "B-X"]) == (
        "x.conll:2: found tag '2', expected 0 to 1: data.labels has no more"
    )


def test_without_tags_the_token_column_is_enough(write):
    assert sentences(write("A\nb\n\nc\n"), with_tags=False) == [(["A", "b"], []), (["c"], [])]


def test_without_tags_no_token_is_taken_for_a_comment(write):
    assert sentences(write("#hash\nb\n\n#\n"), with_tags=False) == [(["#hash", "b"], []), (["#"], [])]
    assert sentences(write("#hash NN\n\n# NN\n"), with_tags=False) == [(["#hash"], []), (["#"], [])]


def test_without_tags_a_hash_in_the_first_row_is_a_token(write):
    assert sentences(write("# NN\nb NN\n"), with_tags=False) == [(["#", "b"], [])]
    assert sentences(write("# id 1\n# NN\nb NN\n"), with_tags=False) == [(["#", "b"], [])]


def test_without_tags_a_hash_and_words_are_a_comment(write):
    assert sentences(write("# id 1\nA\n\n# id 2\nb\n"), with_tags=False) == [(["A"], []), (["b"], [])]


# Errors by file and line


@pytest.mark.parametrize("tag", ["X-PER", "B-", "b-PER", "PER", "B", "BI-PER", "0", "_", "B_PER"])
def test_what_is_no_tag(write, tag):
    assert message(write(f"A O\nb {tag}\n")) == f"x.conll:2: '{tag}' {NO_TAG}"


def test_a_row_with_a_column_missing(write):
    assert message(write("A x O\n\nb O\n")) == "x.conll:3: 2 columns where line 1 has 3: 'b O'. Is a column missing?"


def test_a_row_with_a_column_too_many(write):
    assert message(write("\nA O\nb\tx O\n")) == (
        "x.conll:3: 3 columns where line 2 has 2: 'b\\tx O'. Is a column too many?"
    )


def test_a_row_of_one_column(write):
    assert message(write("A O\nb\n")) == "x.conll:2: 1 column where line 1 has 2: 'b'. Is a column missing?"


def test_a_file_of_one_column(write):
    assert message(write("A\nb\n")) == "x.conll:1: found one column only, 'A', expected a token and a tag"


def test_a_file_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message("none.conll") == "none.conll: no such file"


def test_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert message("folder") == ("folder: found a folder, expected a file (data.dataset takes a save_to_disk folder)")


def test_a_binary_file(write):
    assert message(write(b"A O\nPK\x03\x04\0\0")) == (
        "x.conll:2: found a NUL byte, expected text in UTF-8. Is this a binary file?"
    )


def test_utf_16(write):
    assert message(write("A O\n".encode("utf-16"))) == (
        "x.conll:1: found a NUL byte, expected text in UTF-8. Is this a binary file?"
    )


def test_latin_1(write):
    assert message(write(b"A O\ncaf\xe9 O\n")) == (
        "x.conll:2: found b'\\xe9' at byte 4 of the line, expected UTF-8. "
        "Set data.encoding (such as latin-1), or is this a binary file?"
    )


def test_lines_that_end_with_cr_alone(write):
    assert message(write(b"A O\rb O\rc O\r")) == (
        "x.conll:1: found lines that end with CR alone, expected LF or CRLF. Convert the file first."
    )


@pytest.mark.parametrize("text", ["A O\rb O", "A O\rb O\r", "A x O\rb O\nc x y O\n"])
def test_a_cr_within_a_line_is_no_part_of_a_column(write, text):
    assert message(write(text)) == (
        "x.conll:1: found a CR within the line, expected LF or CRLF at its end. Convert the file first."
    )


def test_a_long_tag_is_shortened_in_the_message(write):
    assert message(write("A O\nb " + "x" * 500 + "\n")) == f"x.conll:2: '{'x' * 95}...' {NO_TAG}"


def test_a_long_name_of_a_column_is_shortened_in_the_message(write):
    assert message(write("A O\n"), token_column="x" * 500) == (
        f"x.conll:1: found no column '{'x' * 55}...', expected a header line that names it; found 'A O'"
    )


def test_a_long_line_is_shortened_in_the_message(write):
    assert message(write("A O\n" + "x " * 500 + "\n")) == (
        "x.conll:2: 500 columns where line 1 has 2: 'x x x x x x x x x x x x x x x x x x x x x x x x x x x x...'. "
        "Is a column too many?"
    )


FIVE = "EU\t\tB-ORG\t\tx\n\tVBZ\tO\tI-VP\t\n\t\t\t\t\nNew York\tNNP\tB-LOC\t\t\n#1\t\tO\t\t y\n"


def test_where_all_rows_have_as_many_tabs_cells_may_be_empty(write):
    assert sentences(write(FIVE), tag_column="2") == [
        (["EU", ""], ["B-ORG", "O"]),
        (["New York", "#1"], ["B-LOC", "O"]),
    ]


def test_cells_may_be_empty_below_a_header(write):
    assert sentences(write(f"word\tpos\tner\tchunk\tx\n{FIVE}"), tag_column="ner")[0] == (["EU", ""], ["B-ORG", "O"])


def test_a_document_and_a_comment_among_rows_with_empty_cells(write):
    path = write(f"# from a table\n-DOCSTART-\n\n{FIVE}-DOCSTART-\t\t\t\t\n\nx\t\tO\t\t\n")
    found = read_columns(path, tag_column="2")
    assert [(e.tokens, e.document) for e in found] == [
        (("EU", ""), "x.conll:2"),
        (("New York", "#1"), "x.conll:2"),
        (("x",), "x.conll:9"),
    ]


def test_tags_in_another_column_are_pointed_at(write):
    path = write("EU B-ORG b-org\nis o B-V\na b c\n")
    assert message(path) == f"x.conll:1: 'b-org' {NO_TAG}. Is it column 1 (from 0)? Set data.tag_column"
    assert message(path, tag_column="-1") == f"x.conll:1: 'b-org' {NO_TAG}"


def test_every_column_but_the_tokens_is_left_out_without_tags(write):
    from nerloop.data import read_records
    from nerloop.data.read_warnings import ReadWarnings

    warnings, options = ReadWarnings(), ReadOptions(token_column="1", with_tags=False)
    rows = "".join(f"{name} {name.lower()}\n" for name in ("Eu", "Bonn", "Rom"))
    examples = list(read_records(write(rows), options, warnings))
    assert [e.tokens for e in examples] == [("eu", "bonn", "rom")]
    assert warnings.losses == {"columns besides token and tag are left out": 1}
