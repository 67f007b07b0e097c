"""Read texts with character spans from JSON: records of Prodigy and doccano, and pairs of spaCy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nerloop.data.column_names import SPAN_COLUMNS, TEXT_COLUMNS, find_texts, pick_column
from nerloop.data.json_records import MAX_RECORDS, formats_of, has_ubiai_spans, read_records
from nerloop.data.lines import look_ahead
from nerloop.data.offsets import Slice, Stated, to_code_points
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import MODEL_VERSION, TextRecord, as_offset, as_text, as_type
from nerloop.errors import DataError, shorten

STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
LABELS = ("label", "tag", "type", "entity_type", "entityLabel")  # the second is LightTag's, the last UBIAI's
REFUSED = ("reject", "ignore")


def read_spans(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the records, objects with a text and its spans, in JSON lines, an array, or the list in one object.

    Spans are objects with start (or start_offset), end (or end_offset) and label, or triples [start, end, label]. They
    are under "spans", "entities", "label" or "labels", unless `tag_column` names another key. A record or span that was
    rejected or ignored (Prodigy's `answer`) is not gold. A record without spans counts as annotated, without entities,
    if it has an answer or an `annotation_id` of Label Studio. A task that nerloop predicted counts as not annotated
    until it has an answer. Errors start with file:line.
    """
    head, records = look_ahead(read_records(path, options, warnings), MAX_RECORDS)
    texts = TextNames.of([record for _, record in head], options, head[0][0] if head else path, warnings)
    reader = SpanReader(options, warnings, texts)
    found = warnings.each(lambda pair: reader.record(pair[1], pair[0]), records)
    yield from (record for record in found if record is not None)


@dataclass(frozen=True)
class TextNames:
    """The keys that may hold the text of a record."""

    names: tuple[str, ...]

    @staticmethod
    def of(records: Sequence[Any], options: ReadOptions, where: str, warnings: ReadWarnings) -> TextNames:
        """Return the usual names, or the one found in the first records. Raises DataError if two are possible."""
        records = [record for record in records if isinstance(record, dict)]
        if options.token_column is not None or any(name in record for record in records for name in TEXT_COLUMNS):
            return TextNames(TEXT_COLUMNS)
        if (found := find_texts(records, where)) is None:
            return TextNames(TEXT_COLUMNS)
        warnings.note(f"files whose texts are under {shorten(found)}", where)
        return TextNames((found,))


@dataclass
class SpanReader:
    """Reads records with a text and its spans. It remembers the Label Studio tasks that it has read."""

    options: ReadOptions
    warnings: ReadWarnings
    texts: TextNames
    tasks: dict[Any, Any] = field(default_factory=dict)  # the id of a task -> that of its annotation

    def record(self, value: Any, where: str) -> TextRecord | None:
        """Return the text and spans of a record, or None if it is left out. Raises DataError, starting with `where`."""
        options, warnings = self.options, self.warnings
        if not isinstance(value, dict):
            raise DataError(f"{where}: found {shorten(value)}, expected an object such as {{'text': ..., 'spans': []}}")
        text_name = pick_column(options.token_column, self.texts.names, value, "data.token_column", where)
        text = as_text(value[text_name], text_name, where)
        if options.with_tags and value.get("answer") in REFUSED:
            warnings.note("records that were rejected or ignored are left out", where)
            return None
        if self._is_another_annotation(value):
            warnings.add("further annotations of a task are left out: the first one is read", where)
            return None
        if options.with_tags and value.get("_is_binary"):
            warnings.add(
                "records are answers about a single span (Prodigy's binary view) and may have more entities", where
            )
        is_predicted = "answer" not in value and value.get("model_version") == MODEL_VERSION
        is_scored = "answer" not in value and _has_scored_span(value.get("spans"))
        if options.with_tags and is_scored and not is_predicted:
            warnings.add("records with a score and no answer are read as gold; leave out what a model predicted", where)
        if isinstance(value.get("relations"), list) and value["relations"]:
            warnings.lose("records with relations", where)
        tokens = [] if has_ubiai_spans(value) else _tokens_of(value, where)
        has_gold = options.with_tags and not is_predicted
        if options.with_tags and is_predicted and value.get("spans"):
            warnings.lose("tasks with spans that a model predicted and nobody answered", where)
        stated = _spans_of(value, options.tag_column, where, warnings) if has_gold else None
        spans, places = to_code_points(text, stated or [], where, unit=options.offsets, others=tokens)
        # Prodigy's tokens come from spaCy's tokenizer, which makes tokens of white space, too. Leave these out.
        places = [place for place in places if text[slice(*place)].strip()]
        if any(end > start for (_, end), (start, _) in itertools.pairwise(places)):
            raise DataError(f"{where}: found 'tokens' that overlap or go back, expected them from left to right")
        found = None if stated is None else tuple(spans)
        return TextRecord(text, found, where, where, tuple(places), source=self._source(value))

    def _is_another_annotation(self, record: Mapping[str, Any]) -> bool:
        """Return whether this is a further annotation of a task: Label Studio's short forms have one in each record."""
        task, annotation = record.get("id"), record.get("annotation_id")
        if annotation is None or not isinstance(task, int | str):
            return False
        return bool(self.tasks.setdefault(task, annotation) != annotation)

    def _source(self, record: dict[str, Any]) -> dict[str, Any] | None:
        if not self.options.for_prediction:
            return None
        name = self.options.format
        if name == "auto":
            name = next((f for f in formats_of(record, self.options) if f in ("prodigy", "doccano")), "prodigy")
        return {"format": name, "record": record}


def _spans_of(record: dict[str, Any], name: str | None, where: str, warnings: ReadWarnings) -> list[Stated] | None:
    """Return the spans of a record, or None if nobody annotated it."""
    if name is None and has_ubiai_spans(record):
        name = "tokens"
    is_annotated = any(column in record for column in ("answer", "annotation_id"))
    if name is None and is_annotated and not any(column in record for column in SPAN_COLUMNS):
        return []
    filled = [column for column in SPAN_COLUMNS if name is None and _has_spans(record.get(column))]
    if len(filled) > 1:
        raise DataError(
            f"{where}: found spans in {filled[0]!r} and in {filled[1]!r}; set data.tag_column to one of them"
        )
    spans = record[filled[0] if filled else pick_column(name, SPAN_COLUMNS, record, "data.tag_column", where)]
    if spans is None:
        return None
    if not isinstance(spans, list):
        raise DataError(f"{where}: found the spans {shorten(spans)}, expected a list of them")
    if spans and all(isinstance(span, str) for span in spans):
        raise DataError(f"{where}: found {shorten(spans)}: labels of a whole text (classification), expected spans")
    stated = []
    for i, span in enumerate(spans):
        if isinstance(span, dict) and span.get("answer") in REFUSED:
            warnings.note("spans that were rejected or ignored are left out", f"{where}: span {i + 1}")
        else:
            stated.append(as_span(span, f"{where}: span {i + 1}", warnings))
    return stated


def _has_scored_span(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(span, dict) and "score" in span for span in value)


def _has_spans(value: Any) -> bool:
    """Return whether a value is a list of spans. doccano has names under the same keys: labels of a whole text."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict | list) for item in value)


def as_span(value: Any, where: str, warnings: ReadWarnings) -> Stated:
    """Return a span, given as an object or a triple. Raises DataError, starting with `where`."""
    if isinstance(value, list) and len(value) >= 3:
        start, end, label = value[:3]
        text = None
    elif isinstance(value, dict):
        for names in (STARTS, ENDS):
            if not any(name in value for name in names):
                raise DataError(f"{where}: found the keys {', '.join(value)}, expected {' or '.join(names)}")
        start, end = (next(value[n] for n in names if n in value) for names in (STARTS, ENDS))
        labels = value.get("labels")
        if isinstance(labels, list) and len(labels) > 1:
            warnings.add("spans with several labels: the first one is read", f"{where} {shorten(labels)}")
        first = labels[0] if isinstance(labels, list) and labels else None
        label = next((value[name] for name in LABELS if name in value), first)
        text = value.get("text", value.get("value"))
    else:
        raise DataError(f"{where}: found {shorten(value)}, expected start, end and label, as an object or a triple")
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where}: its 'text' is {shorten(text)}, expected a text")
    return Stated(as_offset(start, where), as_offset(end, where), as_type(label, where, warnings), text)


def _tokens_of(record: Mapping[str, Any], where: str) -> list[Slice]:
    """Return the tokens in a record, [] unless they have offsets."""
    tokens = record.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, dict) for token in tokens):
        return []
    slices = []
    for i, token in enumerate(tokens):
        at = f"{where}: token {i + 1}"
        text = token.get("text")
        if text is not None and not isinstance(text, str):
            raise DataError(f"{at}: its 'text' is {shorten(text)}, expected a text")
        slices.append(Slice(as_offset(token.get("start"), at), as_offset(token.get("end"), at), text))
    return slices


def read_spacy(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the records of spaCy's training data as JSON: one array, or a record a line.

    A record is [text, {"entities": [[start, end, label], ...]}]. If entities are null or missing, it counts as not
    annotated. The records may also be in an object with "classes" and "annotations". Errors start with file:line.
    """

    def record(found: tuple[str, Any]) -> TextRecord | None:
        where, value = found
        if value is None:  # exports of the NER annotator for spaCy contain nulls
            warnings.note("records that nobody annotated are left out", where)
            return None
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], dict | None):
            raise DataError(f'{where}: found {shorten(value)}, expected ["text", {{"entities": [[0, 4, "PER"]]}}]')
        text = as_text(value[0], "text", where)
        entities = (value[1] or {}).get(name) if options.with_tags else None
        if not isinstance(entities, list | None):
            raise DataError(f"{where}: {name!r} is {shorten(entities)}, expected a list of [start, end, label]")
        stated = [as_span(span, f"{where}: entity {i + 1}", warnings) for i, span in enumerate(entities or [])]
        spans, _ = to_code_points(text, stated, where, unit=options.offsets)
        source = {"format": "spacy", "record": value} if options.for_prediction else None
        return TextRecord(text, None if entities is None else tuple(spans), where, where, source=source)

    name = options.tag_column or "entities"
    found = warnings.each(record, read_records(path, options, warnings))
    yield from (record for record in found if record is not None)
