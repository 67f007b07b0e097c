"""What follows from counts of neighbouring tags, against counting by hand."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nerloop.data.arrow_cache import Cache
from nerloop.data.cached_examples import store_examples
from nerloop.data.tag_counts import TagCounts
from nerloop.tags import to_spans
from nerloop.types import Example

EXAMPLES = [Example(("a", "b", "c"), ("B-X", "I-X", "O")), Example(("d",), ("B-Y",)), Example(("e",)), Example(())]
TAGS = st.sampled_from(["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y"])


def test_statistics_literal():
    found = TagCounts.of(EXAMPLES)
    assert (found.num_sentences, found.num_tokens, found.num_spans) == (4, 5, 2)
    assert found.num_without_document == 4
    assert TagCounts.of([Example(("a",), document="x"), Example(("b",))]).num_without_document == 1
    assert found.tags == {"B-X": 1, "I-X": 1, "O": 1, "B-Y": 1}
    assert found.pairs == {
        ("O", "B-X"): 1, ("B-X", "I-X"): 1, ("I-X", "O"): 1, ("O", "O"): 3, ("O", "B-Y"): 1, ("B-Y", "O"): 1
    }  # fmt: skip


@given(st.lists(st.lists(TAGS, max_size=8), max_size=6))
def test_statistics_count_what_the_tags_hold(sentences):
    found = TagCounts.of([Example(("x",) * len(tags), tuple(tags)) for tags in sentences])
    assert found.tags == Counter(tag for tags in sentences for tag in tags)
    assert found.num_spans == sum(len(to_spans(tags)) for tags in sentences)
    assert found.pairs == Counter(p for tags in sentences for p in itertools.pairwise(["O", *tags, "O"]))
    assert TagCounts.from_json(found.to_json()) == found


def test_statistics_of_stored_examples_were_noted(tmp_path):
    found = store_examples(lambda: EXAMPLES, Cache.at(str(tmp_path)), "key")
    assert TagCounts.of(found) is found.statistics
    assert found.statistics == TagCounts.of(EXAMPLES)
