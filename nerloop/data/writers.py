"""Write examples as CoNLL columns and as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nerloop.data.escapes import DOCUMENT, escape
from nerloop.types import Example


def conll_lines(
    sentences: Iterable[tuple[Example, Sequence[Sequence[str]]]], document: str | None = ""
) -> Iterator[str]:
    """Yield the lines of sentences in columns: the escaped token, then one column a sequence of tags.

    A blank line ends each sentence. A -DOCSTART- line and a blank one begin each document that differs from the one of
    the sentence before, which for the first sentence is `document` (None: no such lines).
    """
    for example, columns in sentences:
        if document is not None and example.document != document:
            document = example.document
            yield f"{DOCUMENT}{' O' * len(columns)}\n\n"
        for token, *tags in zip(example.tokens, *columns, strict=True):
            yield f"{' '.join((escape(token), *tags))}\n"
        yield "\n"


def token_lines(examples: Iterable[Example]) -> Iterator[str]:
    """Yield a JSON object a sentence: tokens, tags and, where known, the id of the document."""
    for example in examples:
        record = {"tokens": example.tokens, "tags": example.tags}
        yield _json(record | ({"document": example.document} if example.document else {}))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
