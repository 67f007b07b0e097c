"""Text of the data, safe in HTML."""

from __future__ import annotations

from html import escape

JOINERS = "\u200c\u200d"
"""Can't be seen, but Persian, Hindi and emoji are not right without them; they reorder nothing."""


def text(value: str) -> str:
    """Return text of the data as HTML: escaped, and with controls (such as U+202E) shown as escapes."""
    return escape("".join(c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in value))
