"""JSON values one by one, whatever the size of the blocks that are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerloop.data import json_stream as values
from nerloop.data.json_stream import is_array, read_values
from nerloop.errors import DataError

VALUES = [[], {}, {"a": [1, 2.5, "]"]}, {"text": 'é😀 "quoted" \\ \n', "b": None}, [12345678901234567890, True]]


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def read(data: bytes | str) -> list:
    Path("x.json").write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_values("x.json"))


def message(data: bytes | str) -> str:
    with pytest.raises(DataError) as caught:
        read(data)
    return str(caught.value)


@pytest.mark.parametrize("block", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_an_array_is_read_in_blocks_of_any_size(monkeypatch, block, indent, is_ascii):
    monkeypatch.setattr(values, "BLOCK", block)
    text = "\ufeff \n" + json.dumps(VALUES, indent=indent, ensure_ascii=is_ascii) + "\r\n"
    assert [value for _, value in read(text)] == VALUES


def test_the_lines_of_elements_are_counted():
    assert [where for where, _ in read("[\n\n{},\n[\n], {}\n]")] == ["x.json:3", "x.json:4", "x.json:5"]


def test_lines_are_values_where_there_is_no_array():
    assert read('{"a": 1}\r\n\n[2]') == [("x.json:1", {"a": 1}), ("x.json:3", [2])]


@pytest.mark.parametrize(
    ("text", "expected"), [("[[1]]", True), (" [\n{}]", True), ("[]", True), ('["a", {}]\n', False), ("[ O", False)]
)
def test_is_array(text, expected):
    Path("x.json").write_text(text)
    with open("x.json", "rb") as file:
        assert is_array(file) is expected
        assert file.read().decode() == text


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("[{}\n {}]", "x.json:2: found '{', expected ',' or ']'"),
        ("[{}", "x.json:1: found 'the end', expected ',' or ']'"),
        ("[{},\n", "x.json:2: not JSON: Expecting value"),
        ("[{}] x", "x.json:1: found 'x' after the end of the array"),
        ('[{},\n{"a": 1, "a": 2}]', "x.json:2: found the key 'a' twice in one object, expected each once"),
        (b'[{},\n{"a": "\xff"}]', "x.json:2: found b'\\xff', expected UTF-8. Set data.encoding (such as latin-1)"),
        ('[{"a": "\n"}]', "x.json:1: not JSON: Invalid control character at"),
    ],
)
def test_what_is_wrong_is_told_by_line(monkeypatch, block, data, expected):
    monkeypatch.setattr(values, "BLOCK", block)
    assert message(data) == expected


def test_a_mistake_early_in_a_large_file_is_found_early(monkeypatch):
    monkeypatch.setattr(values, "BLOCK", 5000)
    assert message("[{},\n{x" + "{}," * 100_000) == (
        "x.json:2: not JSON: Expecting property name enclosed in double quotes"
    )


INDENTED = json.dumps({"a": [1, {"b": "]}"}], "c": {}}, indent=2)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_values_take_one_line_or_several(end):
    text = end.join(['{"a": 1}', INDENTED, INDENTED, '["x",', "{}]", '{"b": 2}'])
    value = json.loads(INDENTED)
    assert [value for _, value in read(text)] == [{"a": 1}, value, value, ["x", {}], {"b": 2}]


def test_a_value_of_several_lines_is_told_by_its_first_one():
    assert [where for where, _ in read('{"a": 1}\n{\n"b":\n{"c": 1}\n}\n{"d": 2}\n')] == [
        "x.json:1", "x.json:2", "x.json:6",
    ]  # fmt: skip


def errors(text: str) -> tuple[list, list[str]]:
    Path("x.json").write_text(text, encoding="utf-8")
    found: list[str] = []
    return [value for _, value in read_values("x.json", on_error=lambda e: found.append(str(e)))], found


@pytest.mark.parametrize("cut", ['{"a": "Bar', '{"a": [', '{"a": [1,', '{"a": 1', '{"a":', "{", '{"a": 1,, "b": 2}'])
def test_a_broken_line_is_told_and_all_others_are_read(cut):
    found, problems = errors(f'{{"n": 0}}\n{cut}\n{{"n": 1}}\n{{"n": 2}}\n{{"n": 3}}\n')
    assert found == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]
    assert [problem.partition(": ")[0] for problem in problems] == ["x.json:2"]


def test_a_mistake_in_a_value_of_several_lines_is_told_by_its_line():
    text = INDENTED.replace('"c"', "c")
    assert errors(f'{text}\n{INDENTED}\n{{"n": 1}}') == (
        [json.loads(INDENTED), {"n": 1}],
        ["x.json:8: not JSON: Expecting property name enclosed in double quotes"],
    )


def test_a_string_without_its_end_ends_a_value_of_several_lines():
    found, problems = errors(INDENTED.replace(']}"', "]}") + f"\n{INDENTED}\n")
    assert found == [json.loads(INDENTED)]
    assert problems == ["x.json:1: not JSON: the value that begins here is cut off, or broken in line 5"]


def test_a_value_of_many_lines_takes_time_in_proportion():
    lines = ['{"a": ['] + ["[1, 2],"] * 200_000 + ["[1, 2]]}"]
    assert len(read("\n".join(lines))[0][1]["a"]) == 200_001  # minutes if each line were parsed with all before it


def test_values_may_stand_on_one_line():
    assert read('{"a": 1}{"b": 2} [3]\n{"c": 4}\n') == [
        ("x.json:1", {"a": 1}), ("x.json:1 (record 2)", {"b": 2}), ("x.json:1 (record 3)", [3]), ("x.json:2", {"c": 4}),
    ]  # fmt: skip


@pytest.mark.parametrize("rest", ["x", "1", '{"b": ', '{"b": 1, "b": 2}', ', {"b": 1}'])
def test_a_value_with_anything_else_behind_it_is_no_value(rest):
    assert message('{"a": 1}' + rest) == "x.json:1: not JSON at character 9: Extra data"
