"""Escape text of the data for HTML."""

from __future__ import annotations

from html import escape

JOINERS = "\u200c\u200d"
"""Invisible characters that stay as they are: Persian, Hindi and emoji need them, and they reorder nothing."""


def text(value: str) -> str:
    """Return text of the data as HTML: escaped, and with control characters (such as U+202E) shown as escapes."""
    return escape("".join(c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in value))
