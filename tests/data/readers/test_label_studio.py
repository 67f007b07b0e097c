"""Label Studio's JSON export, with what turns up in real ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files, read_records
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError
from nerloop.types import Example

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def region(start, end, label, text=None, **more):
    value = {"start": start, "end": end, "labels": [label]} | ({} if text is None else {"text": text})
    return {"id": f"r{start}", "from_name": "label", "to_name": "text", "type": "labels", "value": value} | more


def task(*annotations, text="Anna lives in Paris", **more):
    others = {"drafts": [{"result": [region(0, 1, "X")]}], "predictions": [{"result": [region(0, 1, "X")]}]}
    return {"id": 7, "data": {"text": text}, "annotations": list(annotations)} | others | more


def annotation(*regions, **more):
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": list(regions)} | more


PER, LOC = region(0, 4, "PER", "Anna"), region(14, 19, "LOC", "Paris")
GOLD = ["Anna/B-PER lives/O in/O Paris/B-LOC"]


def read_raw(*tasks, **options) -> Sequence[Example]:
    Path("x.json").write_text(json.dumps(tasks, indent=2), encoding="utf-8")
    return read_files(["x.json"], ReadOptions(**options))[0]


def read(*tasks, **options) -> list[str]:
    examples = read_raw(*tasks, **options)
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(*tasks, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(*tasks, **options)
    return str(caught.value)


def test_regions_come_in_any_order_and_other_ones_are_left_out():
    relation = {"from_id": "r0", "to_id": "r14", "type": "relation", "direction": "right"}
    choice = {"id": "c", "from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}}
    assert read(task(annotation(relation, LOC, choice, PER))) == GOLD
    assert format_of("x.json") == "label_studio"


def test_cancelled_annotations_are_skipped(caplog):
    with caplog.at_level(logging.WARNING):
        assert read(task(annotation(region(0, 1, "X"), was_cancelled=True), annotation(PER, LOC))) == GOLD
    assert caplog.messages == ["note: x.json: 1 tasks with cancelled annotations, which are left out: x.json:2"]


def test_of_several_annotators_the_ground_truth_counts_else_the_first(caplog):
    first, second = annotation(PER, LOC), annotation(PER)
    with caplog.at_level(logging.WARNING):
        assert read(task(first, second)) == GOLD
        assert read(task(second, {**first, "ground_truth": True})) == GOLD
    assert "1 tasks with several annotations: the ground truth is used, else the first one" in caplog.text


def test_an_empty_result_is_gold_and_no_annotation_is_not():
    assert read(task(annotation(), text="Bo"), task(), task(annotation(PER, LOC))) == ["Bo/O", *GOLD]


def test_completions_of_old_exports_are_read():
    old = {"id": 1, "data": {"text": "Anna lives in Paris"}, "completions": [{"result": [PER, LOC]}]}
    assert read(old) == GOLD


def test_the_only_text_is_found_under_any_key():
    data = {"data": {"article": "Anna lives in Paris", "id": 12}}
    assert read(task(annotation(PER, LOC), **data)) == GOLD


def test_of_several_texts_one_has_to_be_named():
    data = {"data": {"title": "x", "body": "Anna lives in Paris"}}
    assert message(task(annotation(PER), **data)) == (
        "x.json:2: found no text 'text' in 'data'; set data.token_column to one of: ['title', 'body']"
    )
    assert read(task(annotation(PER, LOC), **data), token_column="body") == GOLD


def test_utf_16_offsets_are_told_by_the_slice():
    found = read(task(annotation(region(3, 7, "PER", "Anna")), text="😀 Anna"))
    assert found == ["😀/O Anna/B-PER"]


def test_code_point_offsets_are_told_by_the_slice():
    assert read(task(annotation(region(2, 6, "PER", "Anna")), text="😀 Anna")) == ["😀/O Anna/B-PER"]


def test_a_region_without_label_is_left_out(caplog):
    bare = region(5, 10, "X")
    del bare["value"]["labels"]
    with caplog.at_level(logging.WARNING):
        assert read(task(annotation(bare, PER, LOC))) == GOLD
    assert "1 regions without a label are left out: x.json:2: region 1" in caplog.text


def test_of_two_kinds_of_labels_one_can_be_named():
    other = region(0, 10, "NP", from_name="syntax")
    assert read(task(annotation(other, PER, LOC)), tag_column="label") == GOLD


def test_labels_of_hypertext_without_global_offsets_are_refused():
    html = {"type": "hypertextlabels", "value": {"start": "/p[1]", "end": "/p[1]", "hypertextlabels": ["X"]}}
    assert message(task(annotation(html))) == (
        "x.json:2: region 1: found a region of HTML without 'globalOffsets'; open the task in a newer Label Studio, "
        "save its annotation, and export it again"
    )


# HTML

HTML = "<div><p>Anna &amp; Bo<br/>live in</p>\n<!-- x --><p><b>Par</b>is 😀 and <i>Oslo</i></p></div>"
# Anna & Bo\nlive in\nParis 😀 and Oslo


def html_region(start, end, label, text):
    value = {"start": "/div[1]/p[1]/text()[1]", "end": "/div[1]/p[1]/text()[1]", "startOffset": 0, "endOffset": 4,
             "globalOffsets": {"start": start, "end": end}, "text": text, "hypertextlabels": [label]}  # fmt: skip
    return {"id": "h", "from_name": "ner", "to_name": "html", "type": "hypertextlabels", "value": value}


def html_task(*regions):
    return {"id": 1, "data": {"html": HTML}, "annotations": [{"result": list(regions)}]}


def test_labels_of_hypertext_are_read_from_the_text_of_the_html():
    regions = [
        html_region(18, 23, "LOC", "Paris"),
        html_region(0, 4, "PER", "Anna"),
        html_region(30, 34, "LOC", "Oslo"),
    ]
    assert read(html_task(*regions)) == [
        "Anna/B-PER &/O Bo/O", "live/O in/O", "Paris/B-LOC 😀/O and/O Oslo/B-LOC",
    ]  # fmt: skip


def test_offsets_that_do_not_fit_the_text_of_the_html_are_refused():
    assert message(html_task(html_region(1, 5, "PER", "Anna"))) == (
        "x.json:2: the text from 1 to 5 is 'nna ', but the record says 'Anna': was the text changed after it was "
        "annotated?"
    )


def test_without_tags_html_is_read_as_its_text_too():
    (first, *_) = read_raw(html_task(html_region(0, 4, "PER", "Anna")), with_tags=False)
    assert first.tokens == ("Anna", "&", "Bo")


# One task, bad records, the way back


@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_task_needs_no_array(indent):
    Path("x.json").write_text(json.dumps(task(annotation(PER, LOC)), indent=indent))
    assert format_of("x.json") == "label_studio"
    assert read_files(["x.json"])[0][0].tags == ("B-PER", "O", "O", "B-LOC")


def test_bad_tasks_are_told_together_or_left_out():
    bad = [task(annotation(region(0, 99, "X"))), task(annotation(region(3, 1, "X")))]
    Path("x.jsonl").write_text("".join(json.dumps(t) + "\n" for t in [bad[0], task(annotation(PER, LOC)), bad[1]]))
    with pytest.raises(DataError) as caught:
        read_files(["x.jsonl"])
    assert str(caught.value).splitlines() == [
        "x.jsonl:1: found offsets 0 to 99 in a text of 19 characters, expected them within it",
        "x.jsonl:3: found offsets 3 to 1, expected a start before its end",
    ]
    assert len(read_files(["x.jsonl"], ReadOptions(on_bad_record="skip"))[0]) == 1


def test_for_predictions_a_task_keeps_what_leads_back():
    Path("x.json").write_text(json.dumps([task(annotation(PER), meta={"a": 1})]))
    (found,) = read_records("x.json", ReadOptions(for_prediction=True), ReadWarnings())
    assert found.source == {
        "format": "label_studio",
        "record": {"id": 7, "data": {"text": "Anna lives in Paris"}, "meta": {"a": 1}},
        "from_name": "label", "to_name": "text", "type": "labels",
    }  # fmt: skip


def test_tasks_that_nobody_annotated_can_be_tagged():
    Path("x.json").write_text(json.dumps([{"data": {"text": "Anna left"}}]))
    (found,) = read_records("x.json", ReadOptions(for_prediction=True, with_tags=False), ReadWarnings())
    assert (found.text, found.source) == (
        "Anna left", {"format": "label_studio", "record": {"data": {"text": "Anna left"}}},
    )  # fmt: skip
