"""Tags and spans, held against conlleval's reading, seqeval's own code, and tables written by hand."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from nerloop.tags import Scheme, is_legal, labels_of, scheme_of, split_tag, to_spans, to_tags
from nerloop.types import Span


def find_scheme(sentences) -> tuple[Scheme, int]:
    return scheme_of(Counter(pair for tags in sentences for pair in itertools.pairwise(["O", *tags, "O"])))


IOB1, IOB2, IOE1, IOE2, BIOES = Scheme.IOB1, Scheme.IOB2, Scheme.IOE1, Scheme.IOE2, Scheme.BIOES
O, B, I, E, S = ("O", ""), ("B", "X"), ("I", "X"), ("E", "X"), ("S", "X")  # noqa: E741 (what tags are called)
B2, I2, E2, S2 = ("B", "Y"), ("I", "Y"), ("E", "Y"), ("S", "Y")

# What conlleval.pl counts as chunks, by hand from its startOfChunk and endOfChunk.
CONLLEVAL = [
    ("", []),
    ("O", []),
    ("B-X", [(0, 1, "X")]),
    ("I-X", [(0, 1, "X")]),
    ("E-X", [(0, 1, "X")]),
    ("S-X", [(0, 1, "X")]),
    ("B-X I-X", [(0, 2, "X")]),
    ("B-X B-X", [(0, 1, "X"), (1, 2, "X")]),
    ("I-X B-X", [(0, 1, "X"), (1, 2, "X")]),
    ("I-X I-X", [(0, 2, "X")]),
    ("I-X I-Y", [(0, 1, "X"), (1, 2, "Y")]),
    ("B-X I-Y", [(0, 1, "X"), (1, 2, "Y")]),
    ("B-X O I-X", [(0, 1, "X"), (2, 3, "X")]),
    ("O B-X I-X O", [(1, 3, "X")]),
    ("B-X E-X", [(0, 2, "X")]),
    ("B-X I-X E-X I-X", [(0, 3, "X"), (3, 4, "X")]),
    ("E-X E-X", [(0, 1, "X"), (1, 2, "X")]),
    ("I-X E-X", [(0, 2, "X")]),
    ("S-X I-X", [(0, 1, "X"), (1, 2, "X")]),
    ("S-X S-X", [(0, 1, "X"), (1, 2, "X")]),
    ("B-X S-X E-X", [(0, 1, "X"), (1, 2, "X"), (2, 3, "X")]),
    ("B-X E-Y", [(0, 1, "X"), (1, 2, "Y")]),
    ("O E-X O", [(1, 2, "X")]),
]

TAGS = ["O", *(f"{prefix}-{type_}" for prefix in "BIES" for type_ in ("X", "Y", "CLUB-NAME"))]


def seqeval_spans(tags: list[str]) -> list[Span]:
    """Return the spans that seqeval finds, in our shape: its ends are inclusive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Span(start, end + 1, type_) for type_, start, end in get_entities(tags)]


@pytest.mark.parametrize(("tags", "spans"), CONLLEVAL)
def test_to_spans_reads_tags_as_conlleval(tags, spans):
    assert to_spans(tags.split()) == spans


@given(st.lists(st.sampled_from(TAGS), max_size=12))
@example(["E-X", "E-X", "I-Y", "S-Y", "B-X", "E-Y"])
def test_to_spans_equals_seqeval_on_any_tags(tags):
    assert to_spans(tags) == seqeval_spans(tags)


def test_to_spans_equals_seqeval_on_all_short_sequences():
    tags = ["O", *(f"{prefix}-{type_}" for prefix in "BIES" for type_ in "XY")]
    sequences = [[a, b, c] for a in tags for b in tags for c in tags]
    assert len(sequences) == 729
    assert [s for s in sequences if to_spans(s) != seqeval_spans(s)] == []


@pytest.mark.parametrize("scheme", list(Scheme))
@given(data=st.data())
def test_to_spans_equals_seqeval_on_legal_tags(scheme, data):
    tags, previous = [], ("O", "")
    for _ in range(data.draw(st.integers(0, 10))):
        allowed = [t for t in TAGS if is_legal(previous, split_tag(t), scheme)]
        tags.append(data.draw(st.sampled_from(allowed)))
        previous = split_tag(tags[-1])
    assert to_spans(tags) == seqeval_spans(tags)


def test_to_spans_keeps_a_type_with_hyphens_whole():
    tags = ["B-CLUB-NAME", "I-CLUB-NAME", "O", "I-B-CLUB"]
    assert to_spans(tags) == [Span(0, 2, "CLUB-NAME"), Span(3, 4, "B-CLUB")]


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("O", ("O", "")),
        ("B-PER", ("B", "PER")),
        ("E-a-b", ("E", "a-b")),
        ("I--", ("I", "-")),
        ("I-O", ("I", "O")),
    ],
)
def test_split_tag_parts_at_the_first_hyphen(tag, parts):
    assert split_tag(tag) == parts


@pytest.mark.parametrize(
    "tag",
    ["", "o", "B", "B-", "-PER", "X-PER", "b-PER", "BI-PER", "PER", "B_PER", "U-PER", "OO", "O-X", "B-a b", "B-\0"],
)
def test_split_tag_refuses_what_is_no_tag(tag):
    with pytest.raises(ValueError) as caught:
        split_tag(tag)
    assert str(caught.value) == (f"{tag!r} is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'")


def test_to_tags_writes_iob2():
    spans = [Span(0, 2, "PER"), Span(2, 3, "PER"), Span(4, 7, "CLUB-NAME")]
    assert to_tags(spans, 8) == ["B-PER", "I-PER", "B-PER", "O", "B-CLUB-NAME", "I-CLUB-NAME", "I-CLUB-NAME", "O"]


def test_to_tags_of_no_span_is_all_outside():
    assert to_tags([], 2) == ["O", "O"]


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_to_tags_gives_back_the_spans(tags):
    spans = to_spans(tags)
    written = to_tags(spans, len(tags))
    assert to_spans(written) == spans
    assert {tag[0] for tag in written} <= set("OBI")


@pytest.mark.parametrize(
    ("sentences", "found"),
    [
        ([], (IOB2, 0)),
        (["O O"], (IOB2, 0)),
        (["I-X O"], (IOB1, 0)),
        (["I-X I-X B-X"], (IOB1, 0)),
        (["B-X I-X B-X"], (IOB2, 0)),
        (["B-X", "B-Y", "I-X"], (IOB2, 1)),
        (["I-X", "I-Y", "B-X"], (IOB1, 1)),
        (["I-X", "B-Y"], (IOB2, 1)),  # as many: the commoner scheme
        (["I-X B-X"], (IOB1, 0)),
        (["B-X I-Y", "B-X"], (IOB2, 1)),
        (["S-X O", "B-X E-X"], (BIOES, 0)),
        (["S-X", "B-X I-X O"], (BIOES, 1)),
        (["S-X", "B-X"], (BIOES, 1)),
        (["B-X E-X", "I-X E-X"], (BIOES, 1)),
        (["I-X E-X O E-X"], (IOE2, 0)),
        (["I-X E-X E-Y"], (IOE2, 0)),
        (["I-X E-X", "I-X O", "E-Y"], (IOE2, 1)),
        (["I-X O I-Y", "E-X I-X"], (IOE1, 0)),
        (["I-X O I-Y", "E-X O"], (IOE1, 1)),
        (["I-X", "E-Y"], (IOE2, 1)),  # as many: the commoner scheme
        (["B-X I-X", "B-X", "B-Y", "S-X"], (IOB2, 1)),  # a slip does not turn all else into another scheme
        (["I-X E-X", "E-X", "E-Y", "B-X"], (IOE2, 1)),
        (["B-X I-X", "B-X", "B-Y", "E-X"], (IOB2, 1)),
    ],
)
def test_scheme_of_counts_the_tags_that_violate_it(sentences, found):
    assert find_scheme(s.split() for s in sentences) == found


def test_scheme_of_sentences_without_tokens():
    assert find_scheme([[], []]) == (IOB2, 0)


# previous tag (rows), current tag (columns); "1": legal. O stands for both borders as well.
COLUMNS = [O, B, B2, I, I2, E, E2, S, S2]
LEGAL = {
    IOB1: {O: "100111111", B: "110111111", I: "110111111", B2: "101111111", I2: "101111111"},
    IOB2: {O: "111001111", B: "111101111", I: "111101111", B2: "111011111", I2: "111011111"},
    BIOES: {
        O: "111000011",
        B: "000101000",
        I: "000101000",
        B2: "000010100",
        I2: "000010100",
        E: "111000011",
        S: "111000011",
        E2: "111000011",
        S2: "111000011",
    },
    IOE2: {O: "100111100", E: "100111100", E2: "100111100", I: "000101000", I2: "000010100"},
    IOE1: {O: "111111111", I: "111111111", I2: "111111111", E: "010101010", E2: "001010101"},
}


@pytest.mark.parametrize("scheme", list(Scheme))
def test_is_legal_table(scheme):
    # E and S are no tags of IOB1 and IOB2, B and S none of IOE1 and IOE2: their own rows are left out there, and what
    # their columns say is of no account.
    for previous, row in LEGAL[scheme].items():
        found = "".join("01"[is_legal(previous, current, scheme)] for current in COLUMNS)
        assert (previous, found) == (previous, row)


def write(chunks: list[tuple[int, bool, str]], scheme: Scheme) -> list[str]:
    """Return the tags of (length, whether it is a span, type) in IOB1, IOB2 or BIOES."""
    tags, last_type = [], ""
    for length, is_span, type_ in chunks:
        if not is_span:
            tags += ["O"] * length
            last_type = ""
            continue
        first = {IOB1: "B" if last_type == type_ else "I", IOB2: "B", BIOES: "B" if length > 1 else "S"}[scheme]
        last = {IOB1: "I", IOB2: "I", BIOES: "E"}[scheme]
        prefixes = [first, *("I" * (length - 2)), last][: max(length, 1)] if length > 1 else [first]
        tags += [f"{prefix}-{type_}" for prefix in prefixes]
        last_type = type_
    return tags


@pytest.mark.parametrize("scheme", list(Scheme))
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.sampled_from(["X", "Y"])), max_size=5))
def test_is_legal_accepts_every_span_written_in_the_scheme(scheme, chunks):
    if scheme in (IOE1, IOE2):  # IOB1 and IOB2, read from right to left
        backwards = write(chunks, {IOE1: IOB1, IOE2: IOB2}[scheme])
        tags = [tag.replace("B-", "E-") for tag in reversed(backwards)]
    else:
        tags = write(chunks, scheme)
    found, against = find_scheme([tags])
    assert against == 0, found
    parts = [O, *map(split_tag, tags), O]
    assert all(is_legal(before, after, scheme) for before, after in itertools.pairwise(parts))


def test_labels_of_puts_outside_first_and_sorts_the_rest():
    assert labels_of([["I-X", "O"], ["B-Y", "B-X"]]) == ("O", "B-X", "B-Y", "I-X")


def test_labels_of_has_outside_even_where_no_token_has():
    assert labels_of([["B-X"]]) == ("O", "B-X")
