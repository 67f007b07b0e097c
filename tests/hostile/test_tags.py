"""Tags of any text and in any order: refused by a line, or read as spans that lie side by side."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import strategies as st

from nerloop.data.checks import as_tag
from nerloop.errors import NerloopError
from nerloop.tags import Scheme, is_legal, labels_of, scheme_of, split_tag, to_spans, to_tags
from nerloop.types import Span


def pairs_of(sentences: list[list[str]]) -> Counter[tuple[str, str]]:
    return Counter(pair for tags in sentences for pair in itertools.pairwise(["O", *tags, "O"]))


COUNTS = {"values as tags": 1000, "tags in any order": 1000, "spans": 900}
TYPES = ("PER", "LOC", "A-B", "-", "O", "é", "\u200b", "\u2028", "#")
TAGS = ("O", *(f"{prefix}-{type_}" for prefix in "BIES" for type_ in TYPES))
NONSENSE = ("", "o", "B", "B-", "-", "-PER", "X-PER", "BI-PER", "B_PER", "B- PER", "B-\t", "B-\r", "B-\n", "B-\0",
            "B-\ud800", "\ud800", "Β-PER", "B–PER", "B-" + "x" * 100_000, "x" * 100_000, "９", "²", "-0")  # fmt: skip
LABELS = st.sampled_from((None, [], ["O", "B-PER"], ["O", "PER"], ["\ud800", "B-\0"]))


def test_a_value_is_a_tag_or_refused(feed, attempt):
    def one(pair):
        value, labels = pair
        found = attempt(lambda: as_tag(value, labels, "x.jsonl:1: tags[0]"), "x.jsonl:1: tags[0]: ")
        if isinstance(found, NerloopError):
            return "refused"
        assert found == value or found in labels
        found.encode()
        prefix, type_ = split_tag(found)
        assert found == (f"{prefix}-{type_}" if type_ else "O")
        return "tag"

    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.lists(st.none())
    written = st.tuples(st.sampled_from("OBIESX"), st.sampled_from("--_ "), st.text(max_size=3)).map("".join)
    values = st.sampled_from(TAGS) | st.sampled_from(NONSENSE) | written | anything
    outcomes = feed(COUNTS["values as tags"], st.tuples(values, LABELS), one)
    assert min(outcomes["tag"], outcomes["refused"]) > 100


def test_spans_lie_side_by_side_and_are_what_the_tags_say(feed):
    def one(sentences):
        for tags in sentences:
            spans = to_spans(tags)
            assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
            assert all(0 <= span.start < span.end <= len(tags) for span in spans)
            covered = {i for span in spans for i in range(span.start, span.end)}
            assert covered == {i for i, tag in enumerate(tags) if tag != "O"}
            assert all(split_tag(tags[i])[1] == span.type for span in spans for i in range(span.start, span.end))
            assert to_spans(to_tags(spans, len(tags))) == spans
            parts = [split_tag(tag) for tag in ["O", *tags, "O"]]
            assert {is_legal(a, b, scheme) for a, b in itertools.pairwise(parts) for scheme in Scheme} <= {True, False}
        scheme, against = scheme_of(pairs_of(sentences))
        assert scheme_of(pairs_of(sentences[::-1])) == (scheme, against)
        assert 0 <= against <= sum(map(len, sentences))
        labels = labels_of(sentences)
        assert set(labels) == {"O", *itertools.chain(*sentences)}
        assert (labels[0], len(labels)) == ("O", len(set(labels)))
        return str(scheme)

    few = st.sampled_from(("O", "B-X", "I-X", "B-Y", "I-Y"))
    sentence = st.lists(few, max_size=8) | st.lists(st.sampled_from(TAGS), max_size=8)
    outcomes = feed(COUNTS["tags in any order"], st.lists(sentence, max_size=3), one)
    assert len(outcomes) >= 3


def test_spans_written_as_tags_are_read_again(feed):
    def one(pair):
        chunks, more = pair
        spans, at = [], 0
        for gap, length, type_ in chunks:
            spans.append(Span(at + gap, at + gap + length, type_))
            at = spans[-1].end
        tags = to_tags(spans, at + more)
        assert len(tags) == at + more
        assert to_spans(tags) == spans
        return "read"

    chunks = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(TYPES)), max_size=6)
    assert set(feed(COUNTS["spans"], st.tuples(chunks, st.integers(0, 2)), one)) == {"read"}
