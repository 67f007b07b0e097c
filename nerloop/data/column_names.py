"""Names of columns and keys that mean tokens, tags, texts, spans or documents, and how a column is picked by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nerloop.data.checks import shorten_message
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "ner")
TEXT_COLUMNS = ("text", "data")
SPAN_COLUMNS = ("spans", "entities", "label", "labels", "annotations", "annotation")
DOCUMENT_COLUMNS = ("document_id", "doc_id", "document")
USUAL_TEXTS = (
    "text", "sentence", "content", "body", "tweet", "review", "abstract", "comment", "message", "description",
    "article", "document", "post", "utterance", "paragraph", "full_text", "tweet_text", "review_text", "raw_text",
)  # fmt: skip
"""Names of columns with texts, in lower case. "title" is not one: a title often has a text column beside it."""
LONGEST_ID = 200

# Letters of scripts without spaces: Thai, Lao, Khmer, Burmese, Chinese and Japanese.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{8}")


def document_of(record: Mapping[str, Any], path: str) -> str | None:
    """Return the id of a record's document, or None if it names none."""
    document = next((record[name] for name in DOCUMENT_COLUMNS if name in record), None)
    if isinstance(document, bool) or not isinstance(document, str | int) or len(str(document)) > LONGEST_ID:
        return None
    return f"{path}#{document}"


def pick_column(
    name: str | None, usual: Sequence[str], columns: Sequence[str] | dict[str, Any], setting: str, where: str
) -> str:
    """Return the name of a column: `name`, or by default the first of `usual` in `columns`. Raises DataError."""
    wanted = [name] if name is not None else list(usual)
    if (column := next((c for c in wanted if c in columns), None)) is not None:
        return column
    near = did_you_mean(name, columns) if name is not None else ""
    raise DataError(
        f"{where}: found no column {' or '.join(map(shorten, wanted))}{near}; "
        f"set {setting} to one of: {shorten_message(', '.join(map(str, columns)))}"
    )


def find_texts(records: Iterable[Mapping[str, Any]], where: str) -> str | None:
    """Return the name of the column that holds texts, or None if there is none; `records` are the first ones.

    It is the one with a usual name, else the only one with several words in most records. Raises DataError if two may
    be meant: of usual names "text" goes first, and of others the only one with several words.
    """
    columns: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, str) and value.strip():
                columns.setdefault(name, []).append(value)
    with_words = [name for name, values in columns.items() if has_words(values)]
    usual = [name for name in columns if name.strip().lower() in USUAL_TEXTS]
    if text := next((name for name in usual if name.strip().lower() == "text"), None):
        return text
    found = usual if len(usual) == 1 else [name for name in usual if name in with_words] or with_words
    if len(found) > 1:
        raise DataError(f"{where}: texts may be in {found[0]!r} or in {found[1]!r}; set data.token_column to one")
    return found[0] if found else None


def has_words(values: Sequence[Any]) -> bool:
    """Return whether most of some values are texts: several words, and not an id, a date or a number."""
    return sum(isinstance(value, str) and is_text(value) for value in values) * 2 > len(values)


def is_text(value: str) -> bool:
    """Return whether a value is a text: "Anna left" but not "Anna", "Sentence: 1" or "Mon Apr 6 22:19 PDT 2009"."""
    parts = value.split()
    num_words = sum(any(map(str.isalpha, part)) and not any(map(str.isdigit, part)) for part in parts)
    return (num_words > 1 and num_words * 2 > len(parts)) or UNSPACED.search(value) is not None
