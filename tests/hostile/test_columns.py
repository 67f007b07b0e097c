"""Columns that nerloop wrote are read as they were, whatever the tokens."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from nerloop.data import read_files
from nerloop.data.escapes import escape, unescape
from nerloop.data.writers import conll_lines
from nerloop.types import Example

COUNTS = {"files": 1000, "tokens": 2000}
CHARACTERS = st.sampled_from("␛\\ste0nrb -#OB\t\n\r\0\ufeff\u00a0é") | st.characters(exclude_categories=["Cs"])
TOKENS = st.text(CHARACTERS, max_size=6) | st.sampled_from(("-DOCSTART-", "#", "# id", "O", "B-PER", "1", "", "␛"))
TAGS = st.sampled_from(("O", "B-PER", "I-PER", "E-x", "S-a-b"))


def test_what_is_escaped_is_unescaped(feed):
    def one(token):
        written = escape(token)
        assert not set(" \t\r\n\0\ufeff") & set(written)
        assert written not in ("", "-DOCSTART-")
        assert unescape(written) == token
        return written == token

    assert set(feed(COUNTS["tokens"], TOKENS, one)) == {True, False}


def test_written_columns_are_read_as_they_were(feed, folder, monkeypatch):
    monkeypatch.chdir(folder)

    def one(sentences):
        examples = [Example(tuple(t for t, _ in s), tuple(g for _, g in s), "", d) for s, d in sentences]
        Path("x.conll").write_text("".join(conll_lines((e, [e.tags]) for e in examples)), encoding="utf-8", newline="")
        found = read_files(["x.conll"])[0]
        assert [(e.tokens, e.tags) for e in found] == [(e.tokens, e.tags) for e in examples]
        return "read"

    sentences = st.tuples(st.lists(st.tuples(TOKENS, TAGS), min_size=1, max_size=5), st.sampled_from(("", "a", "b")))
    assert set(feed(COUNTS["files"], st.lists(sentences, min_size=1, max_size=4), one)) == {"read"}
