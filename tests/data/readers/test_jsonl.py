"""JSON lines: every oddity by a literal, every error by its whole line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers import jsonl
from nerloop.errors import DataError
from nerloop.types import Example

NO_TAG = "is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a file into the working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes) -> str:
        Path("x.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
        return "x.jsonl"

    return write_file


def read_jsonl(path: str, **options) -> list[Example]:
    warnings = ReadWarnings()
    examples = list(jsonl.read_jsonl(path, ReadOptions(**options), warnings))
    warnings.finish()
    return examples


def message(path: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_jsonl(path, **options)
    return str(caught.value)


def test_read_jsonl_takes_an_object_a_line(write):
    path = write('{"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}\n{"tokens": ["c"], "ner_tags": ["O"]}')
    assert read_jsonl(path) == [
        Example(("EU", "rejects"), ("B-ORG", "O"), "x.jsonl:1"),
        Example(("c",), ("O",), "x.jsonl:2"),
    ]


@pytest.mark.parametrize("tokens", ["tokens", "words"])
@pytest.mark.parametrize("tags", ["ner_tags", "tags", "labels", "ner"])
def test_usual_names_are_found(write, tokens, tags):
    path = write(f'{{"id": 1, "{tokens}": ["A"], "{tags}": ["B-X"]}}')
    assert read_jsonl(path) == [Example(("A",), ("B-X",), "x.jsonl:1")]


def test_the_first_usual_name_wins(write):
    path = write('{"labels": ["O"], "words": ["no"], "tokens": ["A"], "ner_tags": ["B-X"]}')
    assert read_jsonl(path) == [Example(("A",), ("B-X",), "x.jsonl:1")]


def test_columns_by_name(write):
    path = write('{"tokens": ["no"], "tags": ["no"], "text": ["A"], "gold": ["O"]}')
    assert read_jsonl(path, token_column="text", tag_column="gold") == [Example(("A",), ("O",), "x.jsonl:1")]


def test_integer_tags_are_looked_up_in_the_labels(write):
    path = write('{"tokens": ["A", "b"], "tags": [1, "0"]}')
    assert read_jsonl(path, labels=["O", "B-X"]) == [Example(("A", "b"), ("B-X", "O"), "x.jsonl:1")]


def test_without_tags_the_tokens_are_enough(write):
    assert read_jsonl(write('{"tokens": ["A"]}'), with_tags=False) == [Example(("A",), (), "x.jsonl:1")]


def test_a_sentence_may_be_empty(write):
    assert read_jsonl(write('{"tokens": [], "tags": []}')) == [Example((), (), "x.jsonl:1")]


def test_a_token_may_be_empty_or_hold_blanks(write):
    path = write('{"tokens": ["", "a b", "\\n"], "tags": ["O", "O", "O"]}')
    assert read_jsonl(path)[0].tokens == ("", "a b", "\n")


def test_blank_lines_crlf_and_a_byte_order_mark_do_not_matter(write):
    path = write(b'\xef\xbb\xbf{"tokens": ["A"], "tags": ["O"]}\r\n\r\n \t\n{"tokens": ["b"], "tags": ["O"]}\r\n')
    assert [(e.tokens, e.location) for e in read_jsonl(path)] == [(("A",), "x.jsonl:1"), (("b",), "x.jsonl:4")]


def test_lines_end_at_line_feeds_only(write):
    path = write('{"tokens": ["a\u2028b\u0085c"], "tags": ["O"]}\n')
    assert read_jsonl(path)[0].tokens == ("a\u2028b\u0085c",)


def test_a_whole_surrogate_pair_is_a_character(write):
    assert read_jsonl(write('{"tokens": ["\\ud83d\\ude00"], "tags": ["O"]}'))[0].tokens == ("\U0001f600",)


MISTAKES = {
    "an array": ("[1]", "found list, expected an object such as {'tokens': [...], ...}"),
    "null": ("null", "found NoneType, expected an object such as {'tokens': [...], ...}"),
    "cut off": ('{"tokens": ["A"]', "not JSON at character 17: Expecting ',' delimiter"),
    "extra data": ('{"tokens": []} x', "not JSON at character 16: Extra data"),
    "text": ("EU B-ORG", "not JSON at character 1: Expecting value"),
    "single quotes": (
        "{'tokens': []}",
        "not JSON at character 2: Expecting property name enclosed in double quotes",
    ),
    "duplicate key": (
        '{"tokens": ["A"], "tokens": ["b"], "tags": ["O"]}',
        "found the key 'tokens' twice in one object, expected each once",
    ),
    "duplicate key inside": (
        '{"tokens": ["A"], "tags": ["O"], "x": [{"y": 1, "y": 2}]}',
        "found the key 'y' twice in one object, expected each once",
    ),
    "tokens missing": (
        '{"text": "A", "tags": ["O"]}',
        "found no column 'tokens' or 'words'; set data.token_column to one of: text, tags",
    ),
    "tags missing": (
        '{"tokens": ["A"], "gold": ["O"]}',
        "found no column 'ner_tags' or 'tags' or 'labels' or 'ner'; set data.tag_column to one of: tokens, gold",
    ),
    "tokens a string": ('{"tokens": "A", "tags": ["O"]}', "'tokens' is 'A', expected a list of strings"),
    "tokens null": ('{"tokens": null, "tags": ["O"]}', "'tokens' is None, expected a list of strings"),
    "a token a number": (
        '{"tokens": ["A", 1], "tags": ["O", "O"]}',
        "'tokens' is ['A', 1], expected a list of strings",
    ),
    "tags a string": ('{"tokens": ["A"], "tags": "O"}', "'tags' is 'O', expected a list of tags"),
    "tags null": ('{"tokens": ["A"], "tags": null}', "'tags' is None, expected a list of tags"),
    "a tag null": ('{"tokens": ["A"], "tags": [null]}', "tags[0]: found None, expected a tag such as 'B-PER'"),
    "a tag a boolean": ('{"tokens": ["A"], "tags": [true]}', "tags[0]: found True, expected a tag such as 'B-PER'"),
    "a tag a float": ('{"tokens": ["A"], "tags": [1.0]}', "tags[0]: found 1.0, expected a tag such as 'B-PER'"),
    "a tag with a NUL": ('{"tokens": ["A"], "tags": ["B-\\u0000"]}', f"tags[0]: 'B-\\x00' {NO_TAG}"),
    "a key that can't be seen": (
        '{"\\ud800\\u001b[2J": 1}',
        r"found no column 'tokens' or 'words'; set data.token_column to one of: \ud800\x1b[2J",
    ),
    "a tag no tag": ('{"tokens": ["A", "b"], "tags": ["O", "X-PER"]}', f"tags[1]: 'X-PER' {NO_TAG}"),
    "an integer tag": (
        '{"tokens": ["A"], "tags": [3]}',
        "tags[0]: found the integer tag 3; set data.labels to the names, in order",
    ),
    "fewer tags": (
        '{"tokens": ["A", "b"], "tags": ["O"]}',
        "2 in 'tokens' but 1 in 'tags'; expected as many",
    ),
    "more tags": ('{"words": [], "ner": ["O"]}', "0 in 'words' but 1 in 'ner'; expected as many"),
    "half a surrogate pair in a token": (
        '{"tokens": ["A", "\\ud800"], "tags": ["O", "O"]}',
        "tokens[1] is '\\ud800': half a surrogate pair is no character",
    ),
    "half a surrogate pair in a tag": (
        '{"tokens": ["A"], "tags": ["B-\\udc00"]}',
        "tags[0]: found 'B-\\udc00': half a surrogate pair is no character",
    ),
    "arrays nested 100,000 deep": (
        "[" * 100_000,
        "JSON that can't be read: maximum recursion depth exceeded while decoding a JSON array from a unicode string",
    ),
    "objects nested 100,000 deep": (
        '{"a":' * 100_000,
        "JSON that can't be read: maximum recursion depth exceeded while decoding a JSON object from a unicode string",
    ),
    "an integer of 5,000 digits": (
        '{"tokens": ["A"], "tags": [' + "1" * 5_000 + "]}",
        "JSON that can't be read: Exceeds the limit (4300 digits) for integer string conversion: "
        "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit",
    ),
    "an integer of 4,000 digits": (
        '{"tokens": ["A"], "tags": [' + "1" * 4_000 + "]}",
        f"tags[0]: found the integer tag {'1' * 56}...1; set data.labels to the names, in order",
    ),
    "NaN": ('{"tokens": NaN, "tags": ["O"]}', "'tokens' is nan, expected a list of strings"),
}


@pytest.mark.parametrize(("line", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_file_and_line(write, line, expected):
    assert message(write('{"tokens": ["A"], "tags": ["O"]}\n\n' + line + "\n")) == f"x.jsonl:3: {expected}"


@pytest.mark.parametrize(("tag", "found"), [("2", "2"), ("-1", "-1"), ('"2"', "'2'")])
def test_an_integer_tag_beyond_the_labels(write, tag, found):
    assert message(write(f'{{"tokens": ["A"], "tags": [{tag}]}}'), labels=["O", "B-X"]) == (
        f"x.jsonl:1: tags[0]: found tag {found}, expected 0 to 1: data.labels has no more"
    )


def test_a_column_may_have_no_name(write):
    path = write('{"": ["A"], "tags": ["O"]}')
    assert read_jsonl(path, token_column="") == [Example(("A",), ("O",), "x.jsonl:1")]
    assert read_jsonl(write('{"tokens": ["A"], "": ["O"]}'), tag_column="")[0].tags == ("O",)


def test_a_long_key_is_shortened_in_the_message(write):
    key = "k" * 500
    assert message(write(f'{{"{key}": 1, "{key}": 2}}')) == (
        f"x.jsonl:1: found the key '{'k' * 55}...' twice in one object, expected each once"
    )


def test_a_label_that_is_no_tag(write):
    assert (
        message(write('{"tokens": ["A"], "tags": [1]}'), labels=["O", "PER"]) == f"x.jsonl:1: tags[0]: 'PER' {NO_TAG}"
    )


def test_a_column_that_is_not_there_says_the_nearest(write):
    assert message(write('{"text": ["A"], "gold": ["O"]}'), token_column="txt", tag_column="gold") == (
        "x.jsonl:1: found no column 'txt' (did you mean 'text'?); set data.token_column to one of: text, gold"
    )


def test_a_file_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message("none.jsonl") == "none.jsonl: no such file"


def test_a_binary_file(write):
    assert message(write(b'{"tokens": ["A"]}\x00')) == (
        "x.jsonl:1: found a NUL byte, expected text in UTF-8. Is this a binary file?"
    )
