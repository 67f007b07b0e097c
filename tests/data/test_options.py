"""The options of the readers: the same as settings, as flags and in a saved model."""

from __future__ import annotations

import argparse
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from nerloop import cli
from nerloop.config import DataSettings
from nerloop.data import ReadOptions
from nerloop.data.formats import FORMATS
from nerloop.data.options import SETTINGS
from nerloop.errors import DataError

NAMES = ["format", "token_column", "tag_column", "labels", "tokenizer", "offsets", "overlaps", "discontinuous"]
NAMES += ["encoding", "token_prefix", "on_bad_record"]


def flags(*argv: str, **options) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.add_read_flags(parser, **options)
    return parser.parse_args(argv)


def test_every_option_is_a_setting_of_the_same_default_and_choices():
    assert [setting.name for setting in SETTINGS] == NAMES
    hints = get_type_hints(DataSettings)
    for setting in SETTINGS:
        assert getattr(DataSettings, setting.name) == setting.default
        choices = get_args(hints[setting.name]) if get_origin(hints[setting.name]) is Literal else ()
        assert choices == setting.metadata["choices"]


def test_a_flag_may_have_the_name_that_messages_give_it():
    named = flags("--data.tag_column", "ner", "--data.labels", "O", "B-X", "--data.format", "csv")
    assert named == flags("--tag_column", "ner", "--labels", "O", "B-X", "--format", "csv")
    assert flags("--data.tag_column", "ner", for_saved_model=True).tag_column == "ner"
    assert vars(flags()) == vars(flags("--format", "auto"))


def test_settings_become_options():
    settings = DataSettings(labels=["O", "B-X"], tag_column="ner", overlaps="innermost")
    assert ReadOptions.of(settings) == ReadOptions(labels=["O", "B-X"], tag_column="ner", overlaps="innermost")
    assert ReadOptions.of(DataSettings()) == ReadOptions()


def test_flags_become_options():
    parsed = flags("--format", "csv", "--labels", "O", "B-X", "--offsets", "utf16", "--tokenizer", "whitespace")
    expected = ReadOptions(format="csv", labels=["O", "B-X"], offsets="utf16", tokenizer="whitespace")
    assert ReadOptions.of(parsed) == expected
    assert ReadOptions.of(flags()) == ReadOptions()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_flag_of_its_own(name):
    assert flags("--format", name).format == name
    with pytest.raises(argparse.ArgumentError, match="invalid choice: 'xml'"):
        flags("--format", "xml")


def test_flags_that_a_model_decides_are_none_unless_given():
    parsed = flags("--overlaps", "error", for_saved_model=True)
    assert (parsed.overlaps, parsed.offsets, parsed.labels, parsed.format) == ("error", None, None, "auto")


def test_options_go_into_json_and_back():
    options = ReadOptions(labels=("O", "B-X"), token_column="1", discontinuous="skip")
    values = options.to_dict()
    assert values == {
        "format": "auto", "token_column": "1", "tag_column": None, "labels": ["O", "B-X"], "tokenizer": "words",
        "offsets": "auto", "overlaps": "outermost", "discontinuous": "skip", "encoding": "utf-8",
        "token_prefix": None, "on_bad_record": "stop",
    }  # fmt: skip
    assert ReadOptions.from_dict(values) == ReadOptions(labels=["O", "B-X"], token_column="1", discontinuous="skip")
    assert ReadOptions.from_dict({}) == ReadOptions()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": "error"}, "found 'overlap' (did you mean 'overlaps'?), expected a read option"),
        ({"overlaps": "all"}, "data.overlaps: found 'all', expected one of outermost, innermost, error"),
        ({"offsets": None}, "data.offsets: found None, expected a text"),
        ({"labels": "O"}, "data.labels: found 'O', expected a list of texts"),
        ({"labels": ["O", 1]}, "data.labels: found ['O', 1], expected a list of texts"),
        ({"tag_column": 3}, "data.tag_column: found 3, expected a text"),
        ({"with_tags": False}, "found 'with_tags', expected a read option"),
    ],
)
def test_what_no_options_can_be_is_refused(values, message):
    with pytest.raises(DataError) as caught:
        ReadOptions.from_dict(values)
    assert str(caught.value) == message
