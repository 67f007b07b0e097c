"""Files of any bytes: examples that hold what was written, or one line that says what is wrong."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from nerloop.data import ReadOptions, read_files
from nerloop.data.escapes import DOCUMENT
from nerloop.errors import NerloopError
from nerloop.tags import split_tag
from nerloop.types import Example

COUNTS = {
    "columns that are right": 1000,
    "columns with something odd in them": 1500,
    "JSON lines that are right": 700,
    "JSON lines with something odd in them": 1000,
    "JSON values of any type": 700,
    "any bytes": 1000,
}
LABELS = ["O", "B-PER", "I-PER"]
TAGS = ("O", "O", "B-PER", "I-PER", "E-a-b", "S-x", "B-é", "I-\u200b", "B-\ufeff", "B--", "B-#", "I-\u2028", "S-\x85")

# What turns up in the middle of files: ends of lines, other encodings, control characters, rows and fields of
# other shapes, and the beginnings of other formats.
INTRUDERS = (
    b"\0", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n", b"\n\n", b"\r\r\n", b"\xff\xfe", "é".encode("latin-1"),
    "A O\n".encode("utf-16"), "A O\n".encode("utf-16-be"), b"\xed\xa0\x80", b"\x85", b"\xc2\x85", b"\x0b", b"\x0c",
    b"\x1c", b"\x1d", b"\x1e", "\u2028".encode(), "\u2029".encode(), "\u200b\u202e".encode(), b"\xf0\x9f", b"\x1b[2J",
    b"\t", b" ", b"\t\tO\n", b"\n \t\n", b"x\n", b"\nx O\n", b"\nx y z O\n", b"\n# c\n", b"\n#\n", b"\n-DOCSTART-\n",
    b"B-", b" 1 ", b"-1", b"9" * 5000, b"x " * 50, b"x" * 3000, b"{", b'{"tokens": []}\n', b'"', b",", b"]", b"NaN",
    b"\\ud800", b"\\u0000", b"[" * 2000, b'{"a":' * 2000, b'"tokens": 1,', b"<xml>", b"PK\x03\x04",
)  # fmt: skip

COLUMNS = (None, "0", "1", "-1", "-0", "-9", "7", "99999999999999999999", "", "word", "ner", "٣", "a\0b", "\x1b\n")
LABEL_SETS = (None, None, [], LABELS, ["O", "PER"], ["", "\ud800"], ["O"] * 30)
OPTIONS = st.just({"format": "auto"}) | st.sampled_from(
    [
        dict(zip(("format", "token_column", "tag_column", "labels", "with_tags"), values, strict=True))
        for values in itertools.product(("auto", "conll", "jsonl"), COLUMNS, COLUMNS, LABEL_SETS, (True, False))
    ]
)


@pytest.fixture
def read(folder: Path, monkeypatch: pytest.MonkeyPatch, attempt) -> Callable[..., Any]:
    """Return a function that writes bytes into a file and gives its examples, or the error, both looked at."""
    monkeypatch.chdir(folder)

    def run(data: bytes, name: str = "x.conll", **options: Any) -> list[Example] | NerloopError:
        Path(name).write_bytes(data)
        found = attempt(lambda: read_files([name], ReadOptions(**options))[0], name)
        if not isinstance(found, NerloopError):
            check(found, data, name, with_tags=options.get("with_tags", True))
        return found

    return run


def check(examples: list[Example], data: bytes, name: str, *, with_tags: bool) -> None:
    lines = []
    for example in examples:
        assert all(isinstance(token, str) for token in example.tokens)
        "".join(example.tokens).encode()  # no half of a surrogate pair
        assert len(example.tags) == (len(example.tokens) if with_tags else 0)
        for tag in example.tags:
            split_tag(tag)
            tag.encode()
        location = re.fullmatch(re.escape(name) + r":(\d+)", example.location)
        assert location
        lines.append(int(location[1]))
    assert lines == sorted(set(lines))
    assert 1 <= lines[0] <= lines[-1] <= data.count(b"\n") + 1


def outcome(found: list[Example] | NerloopError) -> str:
    return "refused" if isinstance(found, NerloopError) else "read"


def insert(data: bytes, intruders: list[tuple[int, bytes]]) -> bytes:
    for at, intruder in intruders:
        at %= len(data) + 1
        data = data[:at] + intruder + data[at:]
    return data


intrusions = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(INTRUDERS)), min_size=1, max_size=2)


# Columns

UNFIT = re.compile(r'[ \t\r\n\0]|^{\s*["}]')  # no column can hold it, or a line of JSON begins like that
BRACE = re.compile(rb"(\xef\xbb\xbf)?\s*{")
CONLL_NAMES = st.sampled_from(("x.conll", "x.txt"))
Sentences = list[tuple[tuple[str, ...], tuple[str, ...]]]


def columns(tokens: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[bytes, Sentences]]:
    """Return a strategy of files, each with the sentences that are to be read from it."""
    rows = st.tuples(tokens.filter(lambda t: not UNFIT.search(t) and t != DOCUMENT), st.sampled_from(TAGS))

    def lay_out(parts: Any) -> tuple[bytes, Sentences]:
        start, num_more, blank, end, parting, sentences = parts
        text = start
        for sentence in sentences:
            for token, tag in sentence:
                rest = blank.join(["x"] * num_more + [tag])
                text += f"{token}{blank}{rest}{end}" if token else f"\t{rest}{end}"
            text += parting
        return text.encode(), [tuple(zip(*sentence, strict=True)) for sentence in sentences]

    return st.tuples(
        st.sampled_from(("\ufeff", "\n", "\ufeff\r\n", "# id 1\n", "-DOCSTART- -X- O\n\n", "\ufeff# a b c d\r\n")),
        st.integers(0, 2),
        st.sampled_from((" ", "\t", "  ", " \t ")),
        st.sampled_from(("\n", "\r\n", " \n")),
        st.sampled_from(("\n", "\r\n", " \t\n", "\n\n\n", "-DOCSTART- O\n")),
        st.lists(st.lists(rows, min_size=1, max_size=3), min_size=1, max_size=2),
    ).map(lay_out)


def test_columns_that_are_right_are_read_as_they_were_written(feed, read, tokens):
    def one(file):
        (data, expected), name = file
        assert [(e.tokens, e.tags) for e in read(data, name)] == expected
        return "read"

    files = st.tuples(columns(tokens), CONLL_NAMES)
    assert set(feed(COUNTS["columns that are right"], files, one)) == {"read"}


def test_columns_with_something_odd_lose_no_row_or_are_refused(feed, read, tokens):
    def one(file):
        (data, _), intruders, options, name = file
        data = insert(data, intruders)
        found = read(data, name, **options)
        if not isinstance(found, NerloopError) and options["format"] != "jsonl" and not BRACE.match(data):
            lines = re.split(rb"\r?\n|\r", data.removeprefix(b"\xef\xbb\xbf"))
            rows = [line for line in lines if line.strip(b" \t") and not re.match(rb" *-DOCSTART-([ \t]|$)", line)]
            asked = [options.get(column) for column in ("token_column", "tag_column")]
            has_header = not all(column is None or re.fullmatch(r"-?\d{1,9}", column) for column in asked)
            num_comments = sum(row.lstrip(b" ").startswith(b"#") for row in rows)  # at most
            num_tokens = sum(len(e.tokens) for e in found)
            assert len(rows) - has_header - num_comments <= num_tokens <= len(rows) - has_header
        return outcome(found)

    files = st.tuples(columns(tokens), intrusions, OPTIONS, CONLL_NAMES)
    outcomes = feed(COUNTS["columns with something odd in them"], files, one)
    assert min(outcomes["read"], outcomes["refused"]) > 100


# JSON lines

EXTRAS = (
    '"id": 1, ', '"id": NaN, ', '"x": [Infinity, -Infinity, 1e999, -0.0], ', f'"x": {"1" * 4000}, ', '"": null, ',
    '"x": {"tokens": [[]], "y": {"tags": "\\ud83d"}}, ', f'"x": {"[" * 90}{"]" * 90}, ', "", "", "", "",
)  # fmt: skip


def json_lines(tokens: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[bytes, Sentences]]:
    """Return a strategy of files, each with the sentences that are to be read from it."""
    record = st.tuples(
        st.lists(st.tuples(tokens, st.sampled_from(TAGS)), max_size=3),
        st.sampled_from(("tokens", "words")),
        st.sampled_from(("ner_tags", "tags", "labels", "ner")),
        st.sampled_from(EXTRAS),
        st.booleans(),
        st.sampled_from(("\n", "\r\n", "\n\n", "\n \t\r\n")),
    )

    def lay_out(records: Any) -> tuple[bytes, Sentences]:
        text, sentences = "", []
        for pairs, token_name, tag_name, extra, is_ascii, end in records:
            found = ([token for token, _ in pairs], [tag for _, tag in pairs])
            lists = [json.dumps(values, ensure_ascii=is_ascii) for values in found]
            text += f'{{{extra}"{token_name}": {lists[0]}, "{tag_name}":{lists[1]}}}{end}'
            sentences.append((tuple(found[0]), tuple(found[1])))
        return text.encode(), sentences

    return st.lists(record, min_size=1, max_size=2).map(lay_out)


def test_json_lines_that_are_right_are_read_as_they_were_written(feed, read, tokens):
    def one(file):
        data, expected = file
        found = read(data, "x.jsonl")
        assert [(e.tokens, e.tags) for e in found] == expected
        return "read"

    assert set(feed(COUNTS["JSON lines that are right"], json_lines(tokens), one)) == {"read"}


def test_json_lines_with_something_odd_are_read_or_refused(feed, read, tokens):
    def one(file):
        (data, _), intruders, options, name = file
        found = read(insert(data, intruders), name, **options)
        return outcome(found)

    files = st.tuples(json_lines(tokens), intrusions, OPTIONS, st.sampled_from(("x.jsonl", "x.jsonl", "x.txt")))
    outcomes = feed(COUNTS["JSON lines with something odd in them"], files, one)
    assert min(outcomes["read"], outcomes["refused"]) > 40


SCALARS = st.sampled_from(
    (None, True, 0, 1, -1, 2, 10**30, 0.5, float("nan"), float("inf"), "O", "B-PER", "1", "A", "")
)
VALUES = st.recursive(
    SCALARS | st.lists(st.sampled_from(("O", "B-PER", 0, 1, "1")), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("tokens", "tags", "")), inner, max_size=2)
    ),
    max_leaves=4,
)
RECORDS = st.dictionaries(st.sampled_from(("tokens", "tags", "tags", "word", "ner", "", "\ud800")), VALUES, max_size=4)


def test_json_values_of_any_type_are_read_or_refused(feed, read):
    def one(file):
        records, options = file
        found = read("".join(json.dumps(r) + "\n" for r in records).encode(), "x.jsonl", **options)
        if not isinstance(found, NerloopError) and options["format"] != "conll":
            assert len(found) == len(records)
            assert all(list(e.tokens) in r.values() for e, r in zip(found, records, strict=True))
        return outcome(found)

    pairs = st.tuples(
        st.just(["A", "b"]), st.lists(st.sampled_from(("O", 0, 1, "2", "I-PER", 3, True)), min_size=2, max_size=2)
    )
    right = pairs.map(lambda pair: {"tokens": pair[0], "tags": pair[1]})
    files = st.tuples(st.lists(right | RECORDS | VALUES, min_size=1, max_size=3), OPTIONS)
    outcomes = feed(COUNTS["JSON values of any type"], files, one)
    assert min(outcomes["read"], outcomes["refused"]) > 10


def test_any_bytes_are_read_or_refused(feed, read):
    def one(file):
        data, options, name = file
        return outcome(read(data, name, **options))

    files = st.tuples(st.binary(max_size=80), OPTIONS, st.sampled_from(("x.conll", "x.jsonl", "x.txt")))
    assert feed(COUNTS["any bytes"], files, one)["refused"] > 300
