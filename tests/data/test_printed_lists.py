"""Lists in cells: what Python, JSON, numpy and pandas print is read as it was, or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.data.printed_lists import looks_like_list, parse_list
from nerloop.errors import DataError

NASTY = [
    "EU",
    "O'Neill",
    '"',
    "'",
    "\\",
    "a b",
    "",
    "[",
    "]",
    ",",
    "[]",
    "'a' 'b'",
    "...",
    "\n",
    "'\"",
    "é",
    "1",
    "\\'",
]

PRINTED = {
    "JSON": json.dumps,
    "Python": repr,
    "a tuple": lambda tokens: repr(tuple(tokens)),
    "list()": lambda tokens: f"list({tokens!r})",
    "numpy": lambda tokens: str(np.array(tokens)),
    "numpy, repr": lambda tokens: repr(np.array(tokens)),
    "numpy, objects": lambda tokens: str(np.array(tokens, dtype=object)),
    "numpy, repr of objects": lambda tokens: repr(np.array(tokens, dtype=object)),
    "a list of numpy's strings": lambda tokens: repr(list(np.array(tokens))),
}


@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
@pytest.mark.parametrize("tokens", [NASTY, ["EU", "rejects"], ["EU"], ["'"], ["word"] * 100])
def test_a_list_is_read_as_it_was_printed(printed, tokens):
    assert parse_list(printed(tokens), "x") == tokens
    assert looks_like_list(printed(tokens))


@given(st.lists(st.text(st.sampled_from("ab '\"\\[](),.\n0")), min_size=1, max_size=30))
def test_any_tokens_are_read_as_numpy_printed_them(tokens):
    for printed in PRINTED.values():
        # numpy drops NULs at the end of its strings, which are not among these letters.
        assert parse_list(printed(tokens), "x") == tokens


@pytest.mark.parametrize("cell", ["[0 3 0]", "[0, 3, 0]", "array([0, 3, 0])", "[ 0  3\n  0]", "(0, 3, 0)",
                                  "[np.int64(0), np.int64(3), np.int64(0)]"])  # fmt: skip
def test_numbers_are_read(cell):
    assert parse_list(cell, "x") == [0, 3, 0]


@pytest.mark.parametrize("cell", ["[]", "()", "array([], dtype=object)", "array([], dtype='<U1')", "[ ]"])
def test_an_empty_list_is_one(cell):
    assert parse_list(cell, "x") == []


def test_spans_are_read():
    assert parse_list("[(0, 4, 'PER'), {'start': 1}]", "x") == [(0, 4, "PER"), {"start": 1}]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['EU' 'rejects', 'a']", "x:1: found strings without a comma between them: \"['EU' 'rejects', 'a']\""),
        ("['EU', 'rejects' 'a']", "x:1: found strings without a comma between them: \"['EU', 'rejects' 'a']\""),
        ("[EU rejects]", "x:1: found '[EU rejects]', expected a list such as [\"EU\", \"rejects\"]"),
        ("[EU, rejects]", "x:1: found '[EU, rejects]', expected a list such as [\"EU\", \"rejects\"]"),
        ("['EU', 're", "x:1: found \"['EU', 're\", expected a list such as [\"EU\", \"rejects\"]"),
        ("[['a' 'b']\n ['c' 'd']]", "x:1: found strings without a comma between them: \"[['a' 'b']\\n ['c' 'd']]\""),
    ],
)  # fmt: skip
def test_what_could_be_two_things_is_refused(cell, expected):
    with pytest.raises(DataError) as caught:
        parse_list(cell, "x:1")
    assert str(caught.value) == expected


@pytest.mark.parametrize("values", [["a"] * 2000, list(range(2000))])
def test_a_list_that_numpy_shortened_is_refused_with_advice(values):
    with pytest.raises(DataError) as caught:
        parse_list(str(np.array(values)), "x:1")
    assert str(caught.value).startswith("x:1: numpy left items out of this list and wrote '...': ")
    assert "df[column].map(list)" in str(caught.value)
