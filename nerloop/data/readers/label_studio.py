"""Read Label Studio's JSON export: tasks with their annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from nerloop.data.json_records import read_records
from nerloop.data.offsets import Stated, to_code_points
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord, as_offset, as_text, as_type
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean

HYPERTEXT = "hypertextlabels"
OTHER_TEXTS = ("paragraphlabels", "timeserieslabels")
"""Types of regions whose offsets don't count the characters of one text."""
ANSWERS = ("annotations", "completions", "predictions", "drafts")


def read_label_studio(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the texts of tasks, each with the regions of one annotation.

    Of several annotations the ground truth is used, else the first one. Cancelled annotations, drafts, predictions,
    relations, and regions that don't label text are left out. A task without annotations counts as not annotated.

    The text is `data.text` or the only text in `data`; `token_column` names another one. If a task has several sets of
    labels, `tag_column` is the `from_name` of the one to read. In a task with labels of hypertext, the text is that of
    its HTML, in which `globalOffsets` count. Errors start with file:line.
    """

    def record(found: tuple[str, Any]) -> TextRecord:
        where, task = found
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DataError(
                f"{where}: found {shorten(task)}, expected a task of Label Studio's JSON export with 'data'"
            )
        annotation = _annotation_of(task, where, warnings) if options.with_tags else None
        stated = _regions_of(annotation, options.tag_column, where, warnings) if annotation is not None else []
        name = _text_name(task["data"], options.token_column, where)
        text = as_text(task["data"][name], name, where)
        if any(region.get("type") == HYPERTEXT for region in _all_regions(task)):
            text = text_of_html(text)
        spans, _ = to_code_points(text, stated, where, unit=options.offsets)
        source = _source(task) if options.for_prediction else None
        return TextRecord(text, None if annotation is None else tuple(spans), where, where, source=source)

    yield from warnings.each(record, read_records(path, options, warnings))


def text_of_html(html: str) -> str:
    """Return the text of HTML in which Label Studio's globalOffsets count: all text nodes, and a line break for <br>.

    "<p>Anna&amp;Bo<br>left</p>" -> "Anna&Bo\\nleft"
    """
    parser = _TextOfHtml()
    parser.feed(html)
    parser.close()
    return "".join(parser.parts)


class _TextOfHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "br":
            self.parts.append("\n")


def _all_regions(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the regions of all annotations and predictions of a task, as far as they are well formed."""
    for answers in (task.get(name) for name in ANSWERS):
        for answer in answers if isinstance(answers, list) else []:
            regions = answer.get("result") if isinstance(answer, dict) else None
            yield from (r for r in regions if isinstance(r, dict)) if isinstance(regions, list) else ()


def _source(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is needed to write predictions back: the task without annotations, and the names in its regions."""
    record = {name: value for name, value in task.items() if name not in ANSWERS}
    regions = (r for r in _all_regions(task) if r.get("type") in ("labels", HYPERTEXT))
    names = next(({name: r[name] for name in ("from_name", "to_name", "type") if name in r} for r in regions), {})
    return {"format": "label_studio", "record": record, **names}


def _annotation_of(task: Mapping[str, Any], where: str, warnings: ReadWarnings) -> Mapping[str, Any] | None:
    """Return the gold annotation of a task, or None if it has none."""
    annotations = task.get("annotations", task.get("completions", []))  # completions: before version 1.0
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise DataError(f"{where}: 'annotations' is {shorten(annotations)}, expected a list of objects")
    finished = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
    if len(finished) < len(annotations):
        warnings.note("tasks with cancelled annotations, which are left out", where)
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
            raise DataError(f"{at}: found a region of type {kind!r}; nerloop reads labels of <Text> and <HyperText>")
        if kind not in ("labels", HYPERTEXT) or (name is not None and region.get("from_name") != name):
            if kind == "relation":
                warnings.lose("relations", at)
            else:
                warnings.add("regions that are no labels of the text are left out", f"{at} {shorten(kind)}")
            continue
        value = region.get("value")
        if not isinstance(value, dict):
            raise DataError(f"{at}: 'value' is {shorten(value)}, expected an object with start, end and labels")
        labels, text = value.get(str(kind)), value.get("text")
        if not isinstance(labels, list | None) or not isinstance(text, str | None):
            raise DataError(f"{at}: found {shorten(value)}, expected 'labels' to be a list and 'text' a text")
        if not labels:
            warnings.add("regions without a label are left out", at)
        place: Any = value
        if kind == HYPERTEXT and not isinstance(place := value.get("globalOffsets"), dict):
            raise DataError(
                f"{at}: found a region of HTML without 'globalOffsets'; open the task in a newer Label Studio, "
                "save its annotation, and export it again"
            )
        start, end = as_offset(place.get("start"), at), as_offset(place.get("end"), at)
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
