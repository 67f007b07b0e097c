"""Code points or UTF-16: told by the record's own slices, by the borders of words, or not at all."""

from __future__ import annotations

import pytest

from nerloop.data.offsets import Slice, Stated, to_code_points
from nerloop.errors import DataError

TEXT = "😀😀 Anna in Paris"  # in UTF-16, Anna begins at 5 and Paris at 13


def spans(*stated, text=TEXT, **options) -> list[tuple[int, int]]:
    found, _ = to_code_points(text, [Stated(*s) for s in stated], "x:1", **options)
    return [(span.start, span.end) for span in found]


def message(*stated, text=TEXT, **options) -> str:
    with pytest.raises(DataError) as caught:
        spans(*stated, text=text, **options)
    return str(caught.value)


def test_slices_tell_code_points():
    assert spans((3, 7, "PER", "Anna"), (11, 16, "LOC", "Paris")) == [(3, 7), (11, 16)]


def test_slices_tell_utf_16():
    assert spans((5, 9, "PER", "Anna"), (13, 18, "LOC", "Paris")) == [(3, 7), (11, 16)]


def test_one_slice_tells_for_all():
    assert spans((5, 9, "PER"), (13, 18, "LOC", "Paris")) == [(3, 7), (11, 16)]


def test_the_records_tokens_tell_as_well():
    stated = [Stated(5, 9, "PER")]
    found, others = to_code_points(TEXT, stated, "x:1", others=[Slice(5, 9, "Anna"), Slice(10, 12, "in")])
    assert (found[0].start, found[0].end, others) == (3, 7, [(3, 7), (8, 10)])


@pytest.mark.parametrize("stated", [(3, 7, "PER"), (5, 9, "PER")])
def test_without_slices_the_borders_of_words_tell(stated):
    assert spans(stated) == [(3, 7)]


def test_offsets_that_only_one_reading_can_have_need_no_slice():
    assert spans((13, 18, "LOC")) == [(11, 16)]  # there are 16 code points


def test_two_readings_that_are_as_good_are_refused():
    assert message((2, 3, "X"), text="😀(a)") == (
        "x:1: the text holds an emoji or another character beyond U+FFFF, and the offsets of a span can mean "
        "'a' (codepoints) or '(' (utf16); set data.offsets to codepoints or utf16"
    )


@pytest.mark.parametrize(("unit", "expected"), [("codepoints", (2, 3)), ("utf16", (1, 2))])
def test_the_setting_decides(unit, expected):
    assert spans((2, 3, "X"), text="😀(a)", unit=unit) == [expected]


def test_a_character_in_halves_is_refused():
    assert message((1, 4, "X"), unit="utf16") == (
        "x:1: found offsets 1 to 4 in a text of 16 characters, expected them within it"
    )


def test_without_wide_characters_both_units_are_one():
    assert spans((0, 4, "X"), text="Zoë b", unit="utf16") == [(0, 4)]


def test_windows_line_ends_counted_as_one_are_told_by_the_slices():
    text = "Anna\r\nin\r\nParis"
    assert spans((8, 13, "LOC", "Paris"), text=text) == [(10, 15)]
    assert spans((10, 15, "LOC", "Paris"), text=text) == [(10, 15)]


@pytest.mark.parametrize("stated", ["New York", "New\nYork", "New\\nYork", "New  York "])
def test_white_space_of_a_slice_may_be_written_otherwise(stated):
    assert spans((0, 8, "LOC", stated), text="New\nYork") == [(0, 8)]


def test_a_slice_that_is_not_there_is_refused():
    assert message((0, 2, "X", "ab"), text="ba") == (
        "x:1: the text from 0 to 2 is 'ba', but the record says 'ab': was the text changed after it was annotated?"
    )
