"""Count what a split contains in one pass over its sentences: lengths, hashes, tags, spans, and their first places."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nerloop.tags import OUTSIDE, Scheme, scheme_of, to_spans
from nerloop.types import Example

BORDER = ""
"""Marks the start or the end of the sentence in a pair of tags."""
NUM_PLACES = 10
"""Places kept for each kind of finding; the others are only counted."""
KNOWN_SEQUENCES = 20_000
"""Tag sequences whose spans are cached: many short sentences, and those without entities, have the same tags."""


class Place(NamedTuple):
    """Token `token` of sentence `sentence`, both counted from 0."""

    sentence: int
    token: int


@dataclass
class Statistics:
    """What the sentences of a part contain, in some 30 bytes a sentence and 20 bytes a span."""

    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))  # (sentences,) in tokens
    token_hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))  # (sentences,)
    tag_hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))  # (sentences,)
    num_spans: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))  # (sentences,)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)  # a tag and the one before it
    first_pairs: dict[tuple[str, str], list[Place]] = field(default_factory=dict)  # the place of the later one
    spans_per_type: Counter[str] = field(default_factory=Counter)
    span_lengths: Counter[int] = field(default_factory=Counter)  # in tokens
    first_of_type: dict[str, Place] = field(default_factory=dict)  # in the order of `span_types`' numbers
    span_hashes: array[int] = field(default_factory=lambda: array("Q"))  # of the text, (spans,)
    span_types: array[int] = field(default_factory=lambda: array("i"))  # numbers of the types, (spans,)
    span_sentences: array[int] = field(default_factory=lambda: array("i"))  # (spans,)
    span_starts: array[int] = field(default_factory=lambda: array("i"))  # in tokens, (spans,)
    num_empty_tokens: int = 0
    empty_tokens: list[Place] = field(default_factory=list)
    num_documents: int = 0  # 0 where documents are not known
    _type_numbers: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(examples: Sequence[Example]) -> Statistics:
        """Return the statistics of sentences, read once and in order."""
        found = Statistics()
        spans_of = lru_cache(maxsize=KNOWN_SEQUENCES)(to_spans)
        # One array for each chunk. The empty array in front sets the type where there are no chunks.
        lengths, num_spans = [found.lengths], [found.num_spans]
        token_hashes, tag_hashes = [found.token_hashes], [found.tag_hashes]
        document = ""
        for start, chunk in _chunks(examples):
            for i, example in enumerate(chunk, start):
                found._count_pairs(example.tags, i)
                for span in spans_of(example.tags):
                    found._count_span(example.tokens[span.start : span.end], span, i)
                if "" in example.tokens:
                    found._count_empty_tokens(example.tokens, i)
                if example.document != document:
                    document = example.document
                    found.num_documents += bool(document)
            lengths.append(np.array([len(e.tokens) for e in chunk], dtype=np.int32))
            num_spans.append(np.array([len(spans_of(e.tags)) for e in chunk], dtype=np.int32))
            token_hashes.append(_hashes(e.tokens for e in chunk))
            tag_hashes.append(_hashes(e.tags for e in chunk))
        found.lengths, found.num_spans = np.concatenate(lengths), np.concatenate(num_spans)
        found.token_hashes, found.tag_hashes = np.concatenate(token_hashes), np.concatenate(tag_hashes)
        return found

    @property
    def num_sentences(self) -> int:
        """How many sentences there are."""
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """How many tokens there are."""
        return int(self.lengths.sum())

    @property
    def total_spans(self) -> int:
        """How many entities there are."""
        return self.spans_per_type.total()

    @property
    def tags(self) -> Counter[str]:
        """How often each tag is given."""
        counts: Counter[str] = Counter()
        for (_, tag), number in self.pairs.items():
            if tag != BORDER:
                counts[tag] += number
        return counts

    @property
    def scheme(self) -> tuple[Scheme, int]:
        """The scheme that fits best, and how many tags violate it."""
        return scheme_of(written_pairs(self.pairs))

    def first_place_of(self, tag: str) -> Place:
        """Return the first place of a tag."""
        return min(places[0] for (_, later), places in self.first_pairs.items() if later == tag)

    def _count_pairs(self, tags: tuple[str, ...], sentence: int) -> None:
        pairs = list(itertools.pairwise((BORDER, *tags, BORDER)))
        self.pairs.update(pairs)
        for pair in set(pairs):
            places = self.first_pairs.setdefault(pair, [])
            if len(places) < NUM_PLACES:
                places.append(Place(sentence, min(pairs.index(pair), max(0, len(tags) - 1))))

    def _count_span(self, words: tuple[str, ...], span: tuple[int, int, str], sentence: int) -> None:
        start, end, type_ = span
        self.spans_per_type[type_] += 1
        self.span_lengths[end - start] += 1
        self.first_of_type.setdefault(type_, Place(sentence, start))
        self.span_hashes.append(int.from_bytes(_digest(words), "little"))
        self.span_types.append(self._type_numbers.setdefault(type_, len(self._type_numbers)))
        self.span_sentences.append(sentence)
        self.span_starts.append(start)

    def _count_empty_tokens(self, tokens: tuple[str, ...], sentence: int) -> None:
        places = [Place(sentence, i) for i, token in enumerate(tokens) if not token]
        self.num_empty_tokens += len(places)
        self.empty_tokens += places[: NUM_PLACES - len(self.empty_tokens)]


def written_pairs(pairs: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Return pairs of tags with "O" for the borders, as `nerloop.tags` expects them."""
    written: Counter[tuple[str, str]] = Counter()
    for (before, tag), number in pairs.items():
        written[before or OUTSIDE, tag or OUTSIDE] += number
    return written


def _chunks(examples: Sequence[Example]) -> Iterator[tuple[int, Sequence[Example]]]:
    for start in range(0, len(examples), 1_000):
        yield start, examples[start : start + 1_000]


def _hashes(sentences: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Return a 64-bit hash of each sentence, the same in every process."""
    return np.frombuffer(b"".join(map(_digest, sentences)), dtype="<u8")


def _digest(words: tuple[str, ...]) -> bytes:
    """Return an 8-byte hash of words; it differs between ("",) and (), and between ("a b",) and ("a", "b")."""
    return hashlib.blake2b(repr(words).encode("utf-8"), digest_size=8).digest()
