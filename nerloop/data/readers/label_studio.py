"""Read Label Studio's JSON export: tasks with their annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nerloop.data.json_stream import read_values
from nerloop.data.offsets import Stated, to_code_points
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord, as_offset, as_text, as_type
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean

OTHER_TEXTS = ("hypertextlabels", "paragraphlabels", "timeserieslabels")
"""Types of regions whose offsets are not characters of a plain text."""


def read_label_studio(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the texts of tasks, each with the regions of one annotation.

    Of several annotations the ground truth is used, else the first one. Cancelled annotations, drafts, predictions,
    relations, and regions that are no labels of text are left out. A task without annotations was not annotated.

    The text is `data.text` or the only text in `data`; `token_column` names another one. If a task has several kinds of
    labels, `tag_column` is the `from_name` of those to read. Raises DataError with file:line.
    """
    for where, task in read_values(path, options.encoding):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DataError(
                f"{where}: found {shorten(task)}, expected a task of Label Studio's JSON export with 'data'"
            )
        annotation = _annotation_of(task, where, warnings) if options.with_tags else None
        stated = _regions_of(annotation, options.tag_column, where, warnings) if annotation is not None else []
        name = _text_name(task["data"], options.token_column, where)
        text = as_text(task["data"][name], name, where)
        spans, _ = to_code_points(text, stated, where, unit=options.offsets)
        yield TextRecord(text, None if annotation is None else tuple(spans), where, where)


def _annotation_of(task: Mapping[str, Any], where: str, warnings: ReadWarnings) -> Mapping[str, Any] | None:
    """Return the gold annotation of a task, or None if it has none."""
    annotations = task.get("annotations", task.get("completions", []))  # completions: before version 1.0
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise DataError(f"{where}: 'annotations' is {shorten(annotations)}, expected a list of objects")
    finished = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
    if len(finished) < len(annotations):
        warnings.add("tasks with cancelled annotations, which are left out", where)
    if not finished:
        return None
    if len(finished) > 1:
        warnings.add("tasks with several annotations: the ground truth is used, else the first one", where)
    gold: Mapping[str, Any] = next((a for a in finished if a.get("ground_truth")), finished[0])
    return gold


def _regions_of(annotation: Mapping[str, Any], name: str | None, where: str, warnings: ReadWarnings) -> list[Stated]:
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        raise DataError(f"{where}: 'result' is {shorten(result)}, expected a list of regions")
    stated = []
    for i, region in enumerate(result):
        at = f"{where}: region {i + 1}"
        kind = region.get("type")
        if kind in OTHER_TEXTS:
            raise DataError(f"{at}: found a region of type {kind!r}; nerloop reads 'labels' of plain text (<Text>)")
        if kind != "labels" or (name is not None and region.get("from_name") != name):
            if kind != "relation":
                warnings.add("regions that are no labels of the text are left out", f"{at} {shorten(kind)}")
            continue
        value = region.get("value")
        if not isinstance(value, dict):
            raise DataError(f"{at}: 'value' is {shorten(value)}, expected an object with start, end and labels")
        labels, text = value.get("labels"), value.get("text")
        if not isinstance(labels, list | None) or not isinstance(text, str | None):
            raise DataError(f"{at}: found {shorten(value)}, expected 'labels' to be a list and 'text' a text")
        if not labels:
            warnings.add("regions without a label are left out", at)
        start, end = as_offset(value.get("start"), at), as_offset(value.get("end"), at)
        stated += [Stated(start, end, as_type(label, at, warnings), text) for label in labels or []]
    return stated


def _text_name(data: Mapping[str, Any], name: str | None, where: str) -> str:
    if name is None:
        texts = [key for key, value in data.items() if isinstance(value, str)]
        name = texts[0] if len(texts) == 1 else "text"
    if name not in data:
        raise DataError(
            f"{where}: found no text {shorten(name)} in 'data'{did_you_mean(name, data)}; "
            f"set data.token_column to one of: {shorten(list(data), 200)}"
        )
    return name
