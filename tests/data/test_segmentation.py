"""Plain text into tokens."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.data.segmentation import read_text, rule_of, tokenize, whitespace, words
from nerloop.errors import PluginError
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
    assert list(read_text(["Hi Bo.\n", "\n", "  \n", "Bye\n"], "standard input")) == [
        Example(("Hi", "Bo", "."), (), "standard input:1", "standard input:1"),
        Example(("Bye",), (), "standard input:4", "standard input:4"),
    ]


def test_a_blank_line_ends_a_document():
    found = list(read_text(["a\n", "b\n", "", " \t\n", "c\n", "d"], "x"))
    assert [(e.location, e.document) for e in found] == [("x:1", "x:1"), ("x:2", "x:1"), ("x:5", "x:5"), ("x:6", "x:5")]


def test_read_text_cuts_by_the_rule_and_a_line_stays_a_sentence():
    lines = ["One-two, three. Four\n"]
    (by_words,), (by_space,) = read_text(lines, "x"), read_text(lines, "x", whitespace)
    assert by_words.tokens == ("One-two", ",", "three", ".", "Four")
    assert by_space.tokens == ("One-two,", "three.", "Four")


def test_read_text_of_nothing_is_nothing():
    assert list(read_text([], "x")) == []


SENTENCES = [
    ("Mr. Li left. OK", ["Mr. Li left.", "OK"]),
    ("One.\nTwo\r\n\r\nThree", ["One.", "Two", "Three"]),
    ('He said "Go!" Then J. R. Smith went.', ['He said "Go!"', "Then J. R. Smith went."]),
    ("In the U.S. Army etc. and so on? Yes.", ["In the U.S. Army etc. and so on?", "Yes."]),
    ("It grew 3.5 percent. in May", ["It grew 3.5 percent. in May"]),
    ("東京。大阪！", ["東京。", "大阪！"]),
    ("Wait... what? ok", ["Wait... what? ok"]),
    ("  \n ", []),
]


@pytest.mark.parametrize(("text", "sentences"), SENTENCES)
def test_words_cuts_sentences(text, sentences):
    assert [text[tokens[0][0] : tokens[-1][1]] for tokens in words(text)] == sentences


@given(st.text(max_size=60))
def test_words_gives_the_tokens_of_tokenize_but_for_sentence_ends(text):
    places = [place for sentence in words(text) for place in sentence]
    assert "".join(text[a:b] for a, b in places) == "".join(text.split())
    assert all(a < b for a, b in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


def test_whitespace_takes_a_line_for_a_sentence():
    assert list(whitespace("U.S . won\n\n it.")) == [[(0, 3), (4, 5), (6, 9)], [(12, 15)]]


def test_a_rule_of_ones_own_is_found_and_checked(tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text(
        "def halves(text):\n    yield [(0, len(text) // 2), (len(text) // 2, len(text))]\n"
        "def wrong(text):\n    return [[(0, 2), (1, 3)]]\n"
        "def broken(text):\n    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(rule_of("my_rules.halves")("abcd")) == [[(0, 2), (2, 4)]]
    with pytest.raises(
        PluginError, match=r"^data.tokenizer my_rules.wrong: found token \(1, 3\) after offset 2 in a text of 4"
    ):
        rule_of("my_rules.wrong")("abcd")
    with pytest.raises(PluginError, match=r"^data.tokenizer my_rules.broken: ZeroDivisionError: .*, on 'abcd'"):
        rule_of("my_rules.broken")("abcd")
    with pytest.raises(PluginError, match=r"^data.tokenizer: module 'my_rules' has no function 'x'"):
        rule_of("my_rules.x")
    with pytest.raises(
        PluginError, match=r"^data.tokenizer: 'word' is no built-in function \(did you mean 'words'\?\)"
    ):
        rule_of("word")
