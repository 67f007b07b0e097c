"""The first sentence as it was read."""

from __future__ import annotations

from nerloop.inspection.first_sentence import describe_sentence, first_sentences
from nerloop.types import Example

EU = Example(("EU", "rejects", "New York"), ("B-ORG", "O", "B-LOC"), "x.conll:3")


def test_tokens_and_spans_on_one_line():
    assert describe_sentence(EU) == "x.conll:3: EU | rejects | New York; spans: ORG EU, LOC New York"
    assert describe_sentence(Example(("a",), ("O",))) == "a; spans: none"
    assert describe_sentence(Example(("a", "\n"))) == r"a | \n"


def test_what_is_long_is_cut():
    example = Example(("x" * 50,) * 100, ("B-P",) * 100)
    x = "x" * 40 + "..."
    assert describe_sentence(example) == (
        " | ".join([x] * 16) + " | ... 84 more; spans: " + ", ".join([f"P {x}"] * 5) + ", ... 95 more"
    )


def test_the_first_sentence_with_a_span_is_shown_too():
    none = Example(("a",), ("O",))
    assert first_sentences([none, none, EU, EU]) == [none, EU]
    assert first_sentences([EU, none]) == [EU]
    assert first_sentences([none] * 101 + [EU]) == [none]
    assert first_sentences([]) == []
