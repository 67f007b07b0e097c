"""Show the first sentence as it was read, tokens and spans, so that a person can check it at a glance."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from nerloop.errors import printable
from nerloop.tags import to_spans
from nerloop.types import Example

MAX_TOKENS, MAX_SPANS = 16, 5
"""Tokens and spans that are shown."""
MAX_LENGTH = 40
"""Characters of a token or span that are shown."""
MAX_SENTENCES = 100
"""How many sentences are searched for one with a span."""


def first_sentences(examples: Sequence[Example]) -> list[Example]:
    """Return the first sentence and, if it has no span, also the first sentence with a span."""
    head = list(itertools.islice(examples, MAX_SENTENCES))
    with_spans = next((example for example in head if to_spans(example.tags)), None)
    return head[:1] + ([with_spans] if with_spans is not None and with_spans is not head[0] else [])


def describe_sentence(example: Example) -> str:
    """Return a sentence on one line: "train.conll:3: EU | rejects | it; spans: ORG EU".

    A bar separates tokens, since a token may contain spaces. Long sentences and tokens are cut.
    """
    tokens = _some([_cut(token) for token in example.tokens], MAX_TOKENS, " | ")
    line = f"{printable(example.location)}: {tokens}" if example.location else tokens
    if not example.tags:
        return line
    spans = [
        f"{_cut(span.type)} {_cut(' '.join(example.tokens[span.start : span.end]))}" for span in to_spans(example.tags)
    ]
    return f"{line}; spans: {_some(spans, MAX_SPANS, ', ') or 'none'}"


def _some(items: Iterable[str], limit: int, separator: str) -> str:
    items = list(items)
    more = [f"... {len(items) - limit:,} more"] if len(items) > limit else []
    return separator.join([*items[:limit], *more])


def _cut(text: str) -> str:
    shown = printable(text[:MAX_LENGTH])
    return shown if len(text) <= MAX_LENGTH else f"{shown}..."
