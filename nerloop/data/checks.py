"""Checks that all readers share: tags, tokens, and that there is one tag a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nerloop.errors import DataError, shorten
from nerloop.tags import split_tag
from nerloop.types import Example


def as_tag(value: Any, labels: Sequence[str] | None, where: str) -> str:
    """Return a tag as a string; whole numbers (also written as text) are looked up in `labels`.

    Raises DataError, starting with `where`, for what is no tag.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: found {shorten(value)}, expected a tag such as 'B-PER'")
    tag = value
    if isinstance(value, int) or (labels and value.isascii() and value.isdigit()):
        if not labels:
            raise DataError(f"{where}: found the integer tag {shorten(value)}; set data.labels to the names, in order")
        if len(str(value)) > 9 or not 0 <= int(value) < len(labels):
            raise DataError(
                f"{where}: found tag {shorten(value)}, expected 0 to {len(labels) - 1}: data.labels has no more"
            )
        tag = labels[int(value)]
    try:
        split_tag(str(tag))
    except ValueError as error:
        raise DataError(f"{where}: {shorten_message(str(error))}") from error
    if _has_surrogate(str(tag)):
        raise DataError(f"{where}: found {shorten(tag)}: half a surrogate pair is no character")
    return str(tag)


def as_example(
    tokens: Any, tags: Any, labels: Sequence[str] | None, where: str, names: tuple[str, str | None],
    document: str = "",
) -> Example:  # fmt: skip
    """Return the example of a record's two lists, without tags where these have no name.

    Raises DataError, starting with `where`.
    """
    token_name, tag_name = names
    if not isinstance(tokens, list | tuple) or not all(isinstance(t, str) for t in tokens):
        raise DataError(f"{where}: {token_name!r} is {shorten(tokens)}, expected a list of strings")
    for i, token in enumerate(tokens):
        if _has_surrogate(token):
            raise DataError(f"{where}: {token_name}[{i}] is {shorten(token)}: half a surrogate pair is no character")
    if tag_name is None:
        return Example(tuple(tokens), (), where, document)
    if not isinstance(tags, list | tuple):
        raise DataError(f"{where}: {tag_name!r} is {shorten(tags)}, expected a list of tags")
    if len(tokens) != len(tags):
        raise DataError(f"{where}: {len(tokens)} in {token_name!r} but {len(tags)} in {tag_name!r}; expected as many")
    gold = tuple(as_tag(t, labels, f"{where}: {tag_name}[{i}]") for i, t in enumerate(tags))
    return Example(tuple(tokens), gold, where, document)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def shorten_message(message: str, limit: int = 200) -> str:
    """Return a message cut to `limit` characters, on one line."""
    line = " ".join(message.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
