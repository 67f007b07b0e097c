r"""Tokens that columns can't hold, written so that a column holds them: "New York" as "␛New\sYork"."""

from __future__ import annotations

import re

DOCUMENT = "-DOCSTART-"
"""First field of the line that begins a document."""
MARK = "\u241b"  # SYMBOL FOR ESCAPE: tokens of other tools' files don't begin with it, so those are never changed
CODES = {"\\": "\\\\", " ": "\\s", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\ufeff": "\\b"}
MEANINGS = {code: character for character, code in CODES.items()}
UNFIT = frozenset(CODES) - {"\\"}  # characters that no column can hold; a backslash is only a code after the mark


def escape(token: str) -> str:
    r"""Return a token as columns can hold it: "New York" -> r"␛New\sYork", "" -> "␛".

    After the mark, \s is a space, \t a tab, \n and \r line ends, \0 NUL, \b a byte order mark, \\ a backslash. Only
    tokens that need the mark get it, among them -DOCSTART- and tokens that begin with the mark: "a\b" stays as it is.
    """
    if token and token != DOCUMENT and token[0] != MARK and UNFIT.isdisjoint(token):
        return token
    return MARK + "".join(CODES.get(c, c) for c in token)


def unescape(text: str) -> str:
    r"""Return the token that `escape` wrote: r"␛New\sYork" -> "New York". Text without the mark stays as it is."""
    if not text.startswith(MARK):
        return text
    return re.sub(r"\\.", lambda match: MEANINGS.get(match[0], match[0]), text[1:], flags=re.DOTALL)
