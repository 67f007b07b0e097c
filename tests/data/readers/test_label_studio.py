"""Label Studio's JSON export, with what turns up in real ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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


def read(*tasks, **options) -> list[str]:
    Path("x.json").write_text(json.dumps(tasks, indent=2), encoding="utf-8")
    examples = read_files(["x.json"], ReadOptions(**options))[0]
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
    assert caplog.messages == ["warning: x.json: 1 tasks with cancelled annotations, which are left out: x.json:2"]


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


def test_labels_of_hypertext_are_refused():
    html = {"type": "hypertextlabels", "value": {"start": "/p[1]", "end": "/p[1]", "hypertextlabels": ["X"]}}
    assert message(task(annotation(html))) == (
        "x.json:2: region 1: found a region of type 'hypertextlabels'; nerloop reads 'labels' of plain text (<Text>)"
    )
