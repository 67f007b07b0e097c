"""Plain text into tokens."""

from __future__ import annotations

import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.data.segmentation import rule_of, whitespace, words
from nerloop.errors import PluginError

TOKENS = [
    ("Mr. Li (U.S.) won 3.5%.", "Mr . Li ( U.S. ) won 3.5 % ."),
    ("", ""),
    (" \t\u00a0 ", ""),
    ("Paris.", "Paris ."),
    ("O'Neill, Ph.D., at 10:30: 1,000 m²", "O'Neill , Ph.D. , at 10:30 : 1,000 m ²"),
    ("It’s “here”...", "It ’s “ here ” . . ."),
    ("-5 and 5-", "- 5 and 5 -"),
    ("Zürich,東京", "Zürich , 東 京"),
    ("#tag @user http://x.org", "# tag @ user http : / / x.org"),
    ("a\u2028b\x0bc", "a b c"),
    ("🚀🚀 👩‍👩‍👧🇩🇪", "🚀 🚀 👩‍👩‍👧 🇩🇪"),
    # Finer cuts lose no span: a name of several tokens is still a span.
    ("New York-based AT&T a/b x@y.org snake_case", "New York - based AT & T a / b x @ y.org snake _ case"),
    ("in Hawaii.Angela", "in Hawaii . Angela"),
    ("example.com. Next", "example.com . Next"),
    # The part before or after an apostrophe may be a name.
    ("Obama's company's dogs' Ankara'da", "Obama 's company 's dogs ' Ankara 'da"),
    ("l'Italie dell’Italia L'Oréal I'm", "l' Italie dell’ Italia L' Oréal I'm"),
    # Scripts.
    ("தமிழ்நாடு काठमाडौंमा ශ්‍රී ලංකාව", "தமிழ்நாடு काठमाडौंमा ශ්‍රී ලංකාව"),
    ("Ade\u0301si\u0301na\u0300 o\u0323\u0300bo", "Ade\u0301si\u0301na\u0300 o\u0323\u0300bo"),
    ("カタカナー と ひら 漢字", "カタカナー と ひ ら 漢 字"),
    ("ភ្នំ กำ", "ភ្នំ กำ"),
    ("ไทย", "ไ ท ย"),
    ("서울에서", "서울에서"),
    ('צה"ל ג׳ורג׳', 'צה"ל ג׳ורג׳'),
    ("５．３％ＡＢＣ", "５．３ ％ ＡＢＣ"),
    # What can't be seen.
    ("Pa\u00adris Pa\u200bris \ufeffParis\u200f \u200b", "Pa\u00adris Pa ris Paris"),
    ("می\u200cخواهم", "می\u200cخواهم"),
]


def tokenize(text, rule=words):
    return [text[start:end] for sentence in rule(text) for start, end in sentence]


@pytest.mark.parametrize(("text", "tokens"), TOKENS)
def test_tokenize_literals(text, tokens):
    assert tokenize(text) == tokens.split(" " if tokens else None)


@given(st.text(max_size=40))
def test_tokenize_loses_nothing_but_white_space(text):
    assert visible("".join(tokenize(text))) == visible(text)


def visible(text: str) -> str:
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")


@given(st.text(max_size=40))
def test_tokenize_gives_no_token_with_white_space(text):
    assert [t for t in tokenize(text) if not t or t.split() != [t]] == []


@given(st.text(st.one_of(st.sampled_from("abZ .'’-1\u0301\u200d\xad"), st.characters()), max_size=40))
def test_the_short_pattern_of_most_words_changes_no_token(text):
    """It needs a plain space after the word, so with other spaces only the long pattern is used."""
    text = text.replace("\xa0", "")
    assert list(words(text)) == list(words(text.replace(" ", "\xa0")))


SENTENCES = [
    ("Mr. Li left. OK", ["Mr. Li left.", "OK"]),
    ("One.\nTwo\r\n\r\nThree", ["One.", "Two", "Three"]),
    ('He said "Go!" Then J. R. Smith went.', ['He said "Go!"', "Then J. R. Smith went."]),
    ("In the U.S. Army etc. and so on? Yes.", ["In the U.S. Army etc. and so on?", "Yes."]),
    ("It grew 3.5 percent. in May", ["It grew 3.5 percent. in May"]),
    ("東京。大阪！", ["東京。", "大阪！"]),
    ("At example.com. It rose 3.5. Next", ["At example.com.", "It rose 3.5.", "Next"]),
    ("यह है।वह था। ", ["यह है।", "वह था।"]),
    ("هل ذهبت؟ نعم. كم۔ كم", ["هل ذهبت؟", "نعم.", "كم۔", "كم"]),
    ("እሱ። ភ្នំ។ ဝန်။", ["እሱ።", "ភ្នំ។", "ဝန်။"]),
    ("Wait... what? ok", ["Wait... what? ok"]),
    ("  \n ", []),
]


@pytest.mark.parametrize(("text", "sentences"), SENTENCES)
def test_words_cuts_sentences(text, sentences):
    assert [text[tokens[0][0] : tokens[-1][1]] for tokens in words(text)] == sentences


@given(st.text(max_size=60))
def test_words_gives_the_tokens_of_tokenize_but_for_sentence_ends(text):
    places = [place for sentence in words(text) for place in sentence]
    assert visible("".join(text[a:b] for a, b in places)) == visible(text)
    assert all(a < b for a, b in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


def test_whitespace_takes_a_line_for_a_sentence():
    assert list(whitespace("U.S . won\n\n it.")) == [[(0, 3), (4, 5), (6, 9)], [(12, 15)]]


def test_a_sentence_without_an_end_is_cut_after_a_comma_or_at_the_limit():
    assert [len(tokens) for tokens in words("a " * 600)] == [160, 160, 160, 120]
    assert [len(tokens) for tokens in words("a " * 99 + ", " + "b " * 100)] == [100, 100]
    assert [len(tokens) for tokens in words("a " * 79 + ", " + "b " * 120)] == [160, 40]


@pytest.mark.parametrize(
    "piece",
    ["a", ".", "a.", "ab.", "a'", " ", "a\u0301", "👩\u200d", '!"', "\u00ad", "1,", "กำ", "🇩🇪", "\u200b", "Al'"],
)
def test_the_time_is_linear_in_the_text(piece):
    def seconds(number: int) -> float:
        text, start = piece * number, time.process_time()
        assert all(tokens for tokens in words(text))
        return time.process_time() - start

    seconds(1_000)
    assert seconds(200_000) < 8 * seconds(50_000) + 0.5


def test_the_rule_of_older_models_cuts_as_before():
    text = "New York-based AT&T's e-mail, x@y.org. काठमाडौं"
    assert tokenize(text, rule_of("words1")) == [
        "New", "York-based", "AT&T's", "e-mail", ",", "x@y.org", ".", "क", "ा", "ठम", "ा", "ड", "ौ", "ं"
    ]  # fmt: skip
    assert list(rule_of("words2")(text)) == list(rule_of("words")(text))


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
