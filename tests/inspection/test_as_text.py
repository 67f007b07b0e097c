"""The text for the terminal, and the lines on the log of a training."""

import pytest

from nerloop.config import DataSettings
from nerloop.inspection.as_text import as_text, counts_line, inspect_command
from nerloop.inspection.inspection import Inspection


def test_all_of_it(make_part):
    parts = [
        make_part("train", *[f"Anna/B-PER Smith{i}/I-PER came/O" for i in range(12)]),
        make_part("test", "x/O Rome/I-LOC"),
    ]
    parts[0].taken_by = "by its position"
    assert (
        as_text(Inspection.of(parts))
        == """\
split  file         sentences  tokens  spans  documents
train  train.jsonl         12      36     12          -
test   test.jsonl           1       2      1          -
train.jsonl is taken as train by its position; --train, --validation and --test say otherwise

spans of type  train  test
LOC                0     1
PER               12     0
all               12     1

tags are IOB2, but 1 tag violates it

                          50%  90%  95%  99%  longest
tokens a sentence, train    3    3    3    3        3
tokens a sentence, test     2    2    2    2        2

as it was read (a bar separates tokens):
  train train.jsonl:1: Anna | Smith0 | came; spans: PER Anna Smith0
  test test.jsonl:1: x | Rome; spans: LOC Rome

findings: 0 errors, 3 warnings, 0 info

warning: test.jsonl: tags are IOB1 here, and IOB2 in all files together
  nerloop reads spans as conlleval does, which takes both; trains on the tags as written, and decodes IOB2. \
Better write all files in one scheme

warning: test.jsonl:1: 1 tag of the test split violates IOB2: I-LOC after O (1)
  test.jsonl:1: 'Rome' (token 2): I-LOC after O
  nerloop reads the spans as conlleval does (an I- that continues nothing starts a span); Viterbi decoding never \
writes such tags

warning: test.jsonl:1: the test split has tags that the training split does not have: I-LOC (1)
  test.jsonl:1: 'Rome' (token 2): I-LOC
  nerloop gives the model an output for each and counts them as gold; without an example it hardly finds one
"""
    )


def test_no_findings_are_told(make_part):
    part = make_part("train", *[f"Anna/B-PER Smith{i}/I-PER came/O" for i in range(12)])
    assert as_text(Inspection.of([part])).endswith("\n\nno findings\n")


def test_no_more_than_a_few_places_are_listed(make_part):
    part = make_part("train", *["b/O Eve/B-PER"] * 30)
    text = as_text(Inspection.of([part]))
    assert text.count("(also train.jsonl:1)") == 5
    assert "\n  and 24 more\n" in text


def test_the_line_of_a_split(make_part):
    part = make_part("train", "Anna/B-PER saw/O Rome/B-LOC", "Eve/B-PER")
    assert counts_line(part) == "train           2 sentences        4 tokens       3 entities: PER 2, LOC 1"


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (DataSettings(train="a.conll"), "--train a.conll"),
        (DataSettings(train=["a.conll", "b c.conll"], test="t"), "--train a.conll 'b c.conll' --test t"),
        (
            DataSettings(train="a", format="conll", token_column="1", tag_column="-2", labels=["O", "B-X"]),
            "--train a --format conll --token_column 1 --tag_column -2 --labels O B-X",
        ),
        (
            DataSettings(train="a", tokenizer="whitespace", offsets="utf16", overlaps="error", discontinuous="skip"),
            "--train a --tokenizer whitespace --offsets utf16 --overlaps error --discontinuous skip",
        ),
        (DataSettings(dataset="a/b", dataset_config="en"), "--dataset a/b --dataset_config en"),
    ],
)
def test_the_command_that_says_more(data, flags):
    from nerloop.inspect import _arguments

    assert inspect_command(data) == f"python -m nerloop.inspect {flags}"
    import shlex

    parsed = _arguments(shlex.split(flags))
    assert (parsed.tag_column, parsed.labels, parsed.format) == (data.tag_column, data.labels, data.format)
