"""Plain text into tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.data.text import read_text, tokenize
from nerloop.types import Example

TOKENS = [
    ("Mr. Li (U.S.) won 3.5%.", "Mr . Li ( U.S. ) won 3.5 % ."),
    ("", ""),
    (" \t\u00a0 ", ""),
    ("Paris.", "Paris ."),
    ("e-mail O'Neill A&M 10:30 1,000 a/b x@y.org", "e-mail O'Neill A&M 10:30 1,000 a/b x@y.org"),
    ("It’s “here”...", "It’s “ here ” . . ."),
    ("-5 and 5-", "- 5 and 5 -"),
    ("Zürich,東京", "Zürich,東京"),
    ("Zürich, 東京。", "Zürich , 東京 。"),
    ("#tag @user http://x.org", "# tag @ user http : / / x.org"),
    ("a\u2028b\x0bc", "a b c"),
    ("🚀🚀", "🚀 🚀"),
]


@pytest.mark.parametrize(("text", "tokens"), TOKENS)
def test_tokenize_literals(text, tokens):
    assert tokenize(text) == tokens.split(" " if tokens else None)


@given(st.text(max_size=40))
def test_tokenize_loses_nothing_but_white_space(text):
    assert "".join(tokenize(text)) == "".join(text.split())


@given(st.text(max_size=40))
def test_tokenize_gives_no_token_with_white_space(text):
    assert [t for t in tokenize(text) if not t or t.split() != [t]] == []


def test_read_text_gives_an_example_a_line_and_leaves_blank_ones_out():
    assert read_text(["Hi Bo.\n", "\n", "  \n", "Bye\n"], "standard input") == [
        Example(("Hi", "Bo", "."), (), "standard input:1", "standard input:1"),
        Example(("Bye",), (), "standard input:4", "standard input:4"),
    ]


def test_a_blank_line_ends_a_document():
    found = read_text(["a\n", "b\n", "", " \t\n", "c\n", "d"], "x")
    assert [(e.location, e.document) for e in found] == [("x:1", "x:1"), ("x:2", "x:1"), ("x:5", "x:5"), ("x:6", "x:5")]


def test_read_text_of_nothing_is_nothing():
    assert read_text([], "x") == []
