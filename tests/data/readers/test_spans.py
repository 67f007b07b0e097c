"""Prodigy's, doccano's and spaCy's records, with what turns up in real exports."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.spans import read_spans
from nerloop.errors import DataError
from nerloop.evaluators import count_examples
from nerloop.evaluators.seqeval import Seqeval
from nerloop.types import Span

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def read(*records, name="x.jsonl", **options):
    Path(name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return read_files([name], ReadOptions(**options))[0]


def message(*records, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(*records, **options)
    return str(caught.value)


def pairs(examples) -> list[str]:
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


ANNA = "Anna lives in Paris."
GOLD = ["Anna/B-PER lives/O in/O Paris/B-LOC ./O"]

SHAPES = {
    "prodigy": {"text": ANNA, "_input_hash": 7, "_task_hash": -3, "meta": {"source": "x"}, "answer": "accept",
                "spans": [{"start": 14, "end": 19, "label": "LOC", "token_start": 3, "token_end": 3},
                          {"start": 0, "end": 4, "label": "PER"}]},
    "doccano": {"id": 5, "text": ANNA, "label": [[14, 19, "LOC"], [0, 4, "PER"]], "Comments": []},
    "doccano, relations": {"id": 5, "text": ANNA, "relations": [], "Comments": ["unsure"], "entities": [
        {"id": 1, "label": "LOC", "start_offset": 14, "end_offset": 19},
        {"id": 2, "label": "PER", "start_offset": 0, "end_offset": 4}]},
    "doccano of old": {"id": 5, "text": ANNA, "labels": [[0, 4, "PER"], [14, 19, "LOC"]], "meta": {}},
    "Label Studio, JSON_MIN": {"id": 5, "text": ANNA, "label": [
        {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]},
        {"start": 14, "end": 19, "text": "Paris", "labels": ["LOC"]}]},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_record_is_found_out_and_read(shape):
    examples = read(SHAPES[shape])
    assert pairs(examples) == GOLD
    assert examples[0].offsets == ((0, 4), (5, 10), (11, 13), (14, 19), (19, 20))
    assert (examples[0].location, examples[0].document) == ("x.jsonl:1", "x.jsonl:1")
    assert format_of("x.jsonl") in ("prodigy", "doccano")


def test_an_array_of_records_is_read_with_its_lines():
    Path("x.json").write_text(json.dumps([SHAPES["prodigy"], SHAPES["doccano"]], indent=1))
    examples = read_files(["x.json"])[0]
    assert pairs(examples) == GOLD * 2
    assert [e.location for e in examples] == ["x.json:2", "x.json:25"]


def test_rejected_and_ignored_records_are_not_gold_and_counted(caplog):
    right = SHAPES["prodigy"]
    with caplog.at_level(logging.WARNING):
        examples = read({**right, "answer": "reject"}, right, {**right, "answer": "ignore"})
    assert [e.location for e in examples] == ["x.jsonl:2"]
    assert caplog.messages == [
        "note: x.jsonl: 2 records that were rejected or ignored are left out: x.jsonl:1; x.jsonl:3"
    ]


def test_scored_spans_that_nobody_answered_are_told(caplog):
    """Tasks that another tool predicted, say: unannotated, they teach a model its errors."""
    predicted = {"text": "Anna left.", "spans": [{"start": 0, "end": 4, "label": "PER", "score": 0.4}]}
    found = read(predicted, predicted | {"answer": "accept"})
    assert [example.tags for example in found] == [("B-PER", "O", "O")] * 2
    assert (
        "warning: x.jsonl: 1 records with a score and no answer are read as gold; leave out what a model predicted: "
        "x.jsonl:1"
    ) in caplog.text


def test_a_task_that_nerloop_predicted_is_not_annotated_before_it_has_an_answer(caplog):
    task = {"text": "Anna left.", "spans": [], "model_version": "nerloop"}
    scored = task | {"spans": [{"start": 0, "end": 4, "label": "PER", "score": 0.4}]}
    found = read(task, scored, scored | {"answer": "accept"}, task | {"text": "Bo", "model_version": "of others"})
    assert [(example.location, example.tags) for example in found] == [
        ("x.jsonl:3", ("B-PER", "O", "O")), ("x.jsonl:4", ("O",))
    ]  # fmt: skip
    assert caplog.messages == ["note: x.jsonl: 2 records that nobody annotated are left out: x.jsonl:1; x.jsonl:2"]


def test_an_accepted_record_without_spans_has_none():
    assert pairs(read({"text": "Nobody.", "answer": "accept"}, SHAPES["prodigy"])) == ["Nobody/O ./O", *GOLD]


def test_an_empty_list_is_gold_and_null_is_not():
    assert pairs(read({"text": "a", "label": []}, {"text": "b", "label": None})) == ["a/O"]


def test_without_tags_every_record_is_read():
    examples = read({"text": "Anna", "answer": "reject"}, {"text": "Bo"}, format="prodigy", with_tags=False)
    assert [(e.tokens, e.tags) for e in examples] == [(("Anna",), ()), (("Bo",), ())]


def test_prodigys_own_tokens_are_used_but_for_white_space():
    places = [("New", 0, 3), (" ", 3, 4), ("York", 4, 8), ("-", 8, 9), ("based", 9, 14)]
    tokens = [{"text": t, "start": s, "end": e, "id": i, "ws": False} for i, (t, s, e) in enumerate(places)]
    record = {"text": "New York-based", "tokens": tokens, "spans": [{"start": 0, "end": 8, "label": "LOC"}]}
    assert pairs(read(record)) == ["New/B-LOC York/I-LOC -/O based/O"]


def test_own_tokens_are_cut_into_sentences_by_the_rule():
    starts = [(0, 4), (4, 5), (6, 8), (8, 9)]
    tokens = [{"start": s, "end": e} for s, e in starts]
    examples = read({"text": "Anna. Bo.", "tokens": tokens, "spans": [{"start": 6, "end": 8, "label": "PER"}]})
    assert pairs(examples) == ["Anna/O ./O", "Bo/B-PER ./O"]
    assert examples[1].offsets == ((6, 8), (8, 9))


def test_a_span_off_the_tokens_is_widened_for_training_and_missed_in_evaluation(caplog):
    text = "New York-based Anna"
    with caplog.at_level(logging.WARNING):
        (example,) = read({"text": text, "label": [[0, 8, "LOC"], [15, 19, "PER"]]}, tokenizer="words1")
    assert pairs([example]) == ["New/B-LOC York-based/I-LOC Anna/B-PER"]
    assert example.widened == (Span(0, 2, "LOC"),)
    assert example.missed == (Span(0, 8, "LOC"),)
    assert caplog.messages == [
        "warning: x.jsonl: 1 spans off the borders of tokens are widened to them for training and count as missed in "
        "evaluation: x.jsonl:1 LOC 'New York' at 0"
    ]


def test_two_spans_in_one_token_are_both_missed(caplog):
    with caplog.at_level(logging.WARNING):
        (example,) = read({"text": "Paris-London", "label": [[6, 12, "LOC"], [0, 5, "LOC"]]}, tokenizer="words1")
    assert "1 spans off the borders of tokens are widened" in caplog.text
    assert "1 spans in a token that another span has already can't be trained on" in caplog.text
    assert (example.tokens, example.tags) == (("Paris-London",), ("B-LOC",))
    assert example.missed == (Span(0, 5, "LOC"), Span(6, 12, "LOC"))
    assert example.widened == (Span(0, 1, "LOC"),)


def test_a_span_over_a_sentence_end_is_missed_once_and_trained_on_in_pieces():
    first, second = read({"text": "Yahoo! Inc. Bo", "label": [[0, 11, "ORG"], [12, 14, "PER"]]})
    assert pairs([first, second]) == ["Yahoo/B-ORG !/I-ORG", "Inc/B-ORG ./I-ORG Bo/B-PER"]
    assert (first.missed, second.missed) == ((Span(0, 11, "ORG"),), ())
    assert (first.widened, second.widened) == ((Span(0, 2, "ORG"),), (Span(0, 2, "ORG"),))


def test_the_outermost_of_nested_spans_is_kept_and_the_others_counted(caplog):
    record = {"text": "Bank of China", "label": [[8, 13, "LOC"], [0, 13, "ORG"], [0, 4, "ORG"]]}
    with caplog.at_level(logging.WARNING):
        (example,) = read(record)
    assert pairs([example]) == ["Bank/B-ORG of/I-ORG China/I-ORG"]
    assert example.missed == ()
    assert "2 nested or overlapping spans left out" in caplog.text
    assert pairs(read(record, overlaps="innermost")) == ["Bank/B-ORG of/O China/B-LOC"]
    assert message(record, overlaps="error") == (
        "x.jsonl:1 LOC 'China' at 8 in ORG 'Bank of China' at 0: found spans that overlap, expected none; "
        "set data.overlaps to outermost"
    )


def test_no_token_of_a_sentence_of_641_is_lost():
    text = " ".join(["word"] * 640) + " Anna"
    examples = read({"text": text, "label": [[3200, 3204, "PER"]]})
    assert [len(e.tokens) for e in examples] == [160, 160, 160, 160, 1]
    assert [e.tags[-1] for e in examples] == ["O", "O", "O", "O", "B-PER"]


SPACES = {"text": "\u200e Anna  met\n Bo Li\u00a0, \u3000", "label": [
    [0, 7, "PER"], [11, 18, "PER"], [12, 18, "PER"], [20, 22, "X"]]}  # fmt: skip


def test_white_space_at_the_edges_of_spans_is_trimmed_counted_and_listed(caplog):
    with caplog.at_level(logging.WARNING):
        examples = read(SPACES)
    assert pairs(examples) == ["Anna/B-PER met/O", "Bo/B-PER Li/I-PER ,/O"]
    assert [m.partition(": ")[2][9:] for m in caplog.messages] == [
        "3 spans read without the white space at their edges: x.jsonl:1 PER '\\u200e Anna ' at 0; "
        "x.jsonl:1 PER '\\n Bo Li' at 11; x.jsonl:1 PER ' Bo Li' at 12",
        "1 records with spans that are empty or written twice: x.jsonl:1",
        "1 spans of white space alone can't be trained on and count as missed in evaluation: "
        "x.jsonl:1 X ' \\u3000' at 20",
    ]
    assert [e.missed for e in examples] == [(), (Span(20, 22, "X"),)]


def test_predicting_the_tags_of_spans_with_white_space_is_perfect():
    examples = read({"text": "Anna  met Bo. \n", "label": [[0, 6, "PER"], [9, 12, "PER"]]})
    counts = count_examples(Seqeval(), examples, [e.tags for e in examples])
    assert Seqeval().metrics(counts)["f1"] == 1.0


def test_the_record_keeps_the_white_space_for_conversions():
    read(SPACES)
    (record,) = read_spans("x.jsonl", ReadOptions(), ReadWarnings())
    assert record.spans[0] == Span(0, 7, "PER")


def test_a_type_with_a_space_is_written_with_an_underscore(caplog):
    with caplog.at_level(logging.WARNING):
        assert pairs(read({"text": "Anna", "label": [[0, 4, "Job Title"]]})) == ["Anna/B-Job_Title"]
    assert "1 types written with _ for white space" in caplog.text


def test_columns_can_be_named():
    record = {"body": "Anna", "marks": [[0, 4, "PER"]]}
    assert pairs(read(record, token_column="body", tag_column="marks")) == ["Anna/B-PER"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"text": "Anna", "label": [[0, 9, "PER"]]},
         "x.jsonl:1: found offsets 0 to 9 in a text of 4 characters, expected them within it"),
        ({"text": "Anna", "label": [[3, 1, "PER"]]},
         "x.jsonl:1: found offsets 3 to 1, expected a start before its end"),
        ({"text": "Anna", "label": [[0, 4.0, "PER"]]},
         "x.jsonl:1: span 1: found the offset 4.0, expected a whole number"),
        ({"text": "Anna", "label": [[0, 4]]},
         "x.jsonl:1: span 1: found [0, 4], expected start, end and label, as an object or a triple"),
        ({"text": "Anna", "label": [[0, 4, None]]},
         "x.jsonl:1: span 1: found the type None, expected a name such as 'PER'"),
        ({"text": "Anna", "spans": [{"start": 0, "end": 3, "text": "Bob", "label": "PER"}]},
         "x.jsonl:1: the text from 0 to 3 is 'Ann', but the record says 'Bob': was the text changed after it was "
         "annotated?"),
        ({"text": "\ud83d", "spans": []}, "x.jsonl:1: 'text' is '\\ud83d': half a surrogate pair is no character"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(record, expected):
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError) as caught:
        read_files(["x.jsonl"])
    assert str(caught.value) == expected


# spaCy

ENTITIES = {"entities": [[14, 19, "LOC"], [0, 4, "PER"]]}


@pytest.mark.parametrize("indent", [None, 1])
def test_spacys_array_is_read(indent):
    Path("x.json").write_text(json.dumps([[ANNA, ENTITIES], ["Bo", {"entities": []}]], indent=indent))
    assert format_of("x.json") == "spacy"
    assert pairs(read_files(["x.json"])[0]) == [*GOLD, "Bo/O"]


def test_spacys_lines_are_read():
    assert pairs(read([ANNA, ENTITIES], ["Bo", {"entities": []}])) == [*GOLD, "Bo/O"]


def test_spacys_missing_entities_are_not_gold(caplog):
    with caplog.at_level(logging.WARNING):
        assert pairs(read(["x", {"entities": None}], ["y", None], ["z", {"cats": {}}], [ANNA, ENTITIES])) == GOLD
    assert "3 records that nobody annotated are left out: x.jsonl:1; x.jsonl:2; x.jsonl:3" in caplog.text


def test_spacys_record_of_another_shape_is_told_by_line():
    assert message([ANNA, ENTITIES], ["x"]) == (
        'x.jsonl:2: found [\'x\'], expected ["text", {"entities": [[0, 4, "PER"]]}]'
    )


def test_rejected_spans_of_an_accepted_record_are_left_out_and_counted(caplog):
    spans = [{"start": 0, "end": 4, "label": "PER", "answer": "reject"},
             {"start": 14, "end": 19, "label": "LOC", "answer": "accept"}]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        assert pairs(read({"text": ANNA, "spans": spans, "answer": "accept"})) == [
            "Anna/O lives/O in/O Paris/B-LOC ./O"
        ]
    assert caplog.messages == ["note: x.jsonl: 1 spans that were rejected or ignored are left out: x.jsonl:1: span 1"]


def test_answers_about_one_span_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        read({**SHAPES["prodigy"], "_is_binary": True})
    assert caplog.messages == [
        "warning: x.jsonl: 1 records are answers about a single span (Prodigy's binary view) and may have more "
        "entities: x.jsonl:1"
    ]


def test_a_file_of_rejected_records_alone_says_so():
    assert message({**SHAPES["prodigy"], "answer": "reject"}) == (
        "x.jsonl: found no sentence (1 records that were rejected or ignored are left out), expected at least one. "
        "Is this the right file?"
    )


def test_of_two_columns_the_one_with_spans_is_read():
    triples = [[0, 4, "PER"], [14, 19, "LOC"]]
    entities = [{"id": 1, "label": "PER", "start_offset": 0, "end_offset": 4},
                {"id": 2, "label": "LOC", "start_offset": 14, "end_offset": 19}]  # fmt: skip
    assert pairs(read({"text": ANNA, "entities": [], "label": triples})) == GOLD
    assert pairs(read({"text": ANNA, "entities": entities, "label": ["news"]})) == GOLD
    both = {"text": ANNA, "entities": entities[:1], "label": triples}
    assert message(both) == "x.jsonl:1: found spans in 'entities' and in 'label'; set data.tag_column to one of them"
    assert pairs(read(both, tag_column="label")) == GOLD


def test_label_studios_short_form_leaves_the_label_out_where_there_is_none():
    short = {"id": 2, "text": "Nobody.", "annotator": 1, "annotation_id": 2}
    assert pairs(read(SHAPES["Label Studio, JSON_MIN"], short)) == [*GOLD, "Nobody/O ./O"]


def test_records_on_one_line_are_documents_of_their_own():
    Path("x.json").write_text(json.dumps([SHAPES["doccano"]] * 3))
    examples = read_files(["x.json"])[0]
    assert [e.document for e in examples] == ["x.json:1", "x.json:1 (record 2)", "x.json:1 (record 3)"]


def test_the_one_object_of_the_annotator_for_spacy():
    records = [[ANNA, {"entities": [[14, 19, "LOC"], [0, 4, "PER"]]}], None, ["Bo", {"entities": []}]]
    Path("x.json").write_text(json.dumps({"classes": ["PER", "LOC"], "annotations": records}))
    examples = read_files(["x.json"])[0]
    assert pairs(examples) == [*GOLD, "Bo/O"]
    assert examples[1].location == "x.json:1 (record 3)"


EMOJI = "😀👩‍👩‍👧 Anna met Bo in Paris."


@pytest.mark.parametrize("unit", ["utf-32-le", "utf-16-le"])
def test_emoji_before_spans_out_of_order_in_either_unit(unit):
    width = 4 if unit == "utf-32-le" else 2

    def place(word: str) -> list[int]:
        start = len(EMOJI[: EMOJI.index(word)].encode(unit)) // width
        return [start, start + len(word)]

    (example,) = read(
        {"text": EMOJI, "label": [[*place("Paris"), "LOC"], [*place("Bo"), "X"], [*place("Anna"), "PER"]]}
    )
    tagged = [(t, g) for t, g in zip(example.tokens, example.tags, strict=True) if g != "O"]
    assert tagged == [("Anna", "B-PER"), ("Bo", "B-X"), ("Paris", "B-LOC")]


@pytest.mark.parametrize("label", ["O", "B-PER", "U-PER"])
def test_types_that_look_like_tags_are_told(caplog, label):
    read({"text": ANNA, "spans": [{"start": 0, "end": 4, "label": label}]})
    assert caplog.messages == [
        "warning: x.jsonl: 1 types of spans that look like tags; expected names such as 'PER': "
        f"x.jsonl:1: span 1 {label!r}"
    ]


def test_several_labels_of_a_span_are_told(caplog):
    (first,) = read({"text": ANNA, "spans": [{"start": 0, "end": 4, "labels": ["PER", "HUMAN"]}]})
    assert first.tags[0] == "B-PER"
    assert "1 spans with several labels: the first one is read: x.jsonl:1: span 1 ['PER', 'HUMAN']" in caplog.text


def test_a_span_without_offsets_is_told_by_its_keys():
    assert message({"text": ANNA, "spans": [{"begin": 0, "finish": 4, "label": "PER"}]}) == (
        "x.jsonl:1: span 1: found the keys begin, finish, label, expected start or start_offset"
    )
