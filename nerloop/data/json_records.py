"""Find the records of a JSON file, also those in a list of an object, and the formats that a record fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nerloop.data.column_names import SPAN_COLUMNS, TAG_COLUMNS, TEXT_COLUMNS, TOKEN_COLUMNS, USUAL_TEXTS, is_text
from nerloop.data.json_stream import read_values
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import DataError, shorten

TOKENS = "tokens"
"""What `formats_of` calls records with lists of tokens and tags. Their format is "json" in an array, else "jsonl"."""
MAX_RECORDS = 100
"""Records that are searched for one that fits a format."""


def read_records(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[tuple[str, Any]]:
    """Yield file:line and value of each record of a JSON file. An object may hold a list of them."""
    for where, value in read_values(path, options.encoding, warnings.bad_record):
        try:
            yield from unwrapped(value, where, options)
        except DataError as error:
            warnings.bad_record(error)


def unwrapped(value: Any, where: str, options: ReadOptions) -> Iterator[tuple[str, Any]]:
    """Yield the records in the list of an object such as {"data": [...]}; without such a list, the value itself.

    Raises DataError, starting with `where`, for an object with several such lists.
    """
    lists = {}
    if isinstance(value, dict) and not formats_of(value, options):
        lists = {key: found for key, found in value.items() if isinstance(found, list) and _has_records(found, options)}
    if len(lists) > 1:
        names = " and in ".join(map(shorten, lists))
        raise DataError(f"{where}: found records in {names}, expected one list of them; write each to its own file")
    if not lists:
        yield where, value
    for records in lists.values():
        yield from ((f"{where} (record {number})", record) for number, record in enumerate(records, start=1))


def _has_records(values: list[Any], options: ReadOptions) -> bool:
    return any(formats_of(value, options) for value in values[:MAX_RECORDS])


def formats_of(value: Any, options: ReadOptions) -> list[str]:
    """Return the formats that a JSON value fits: none, one, or both TOKENS and one for texts with spans."""
    if isinstance(value, list):
        return ["spacy"] if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict | None) else []
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("tokenized_text"), list) or _is_list_of(value.get("sentences"), list, at_least=1):
        return ["gliner"]
    if any("sentences" in paragraph for paragraph in _objects_in(value.get("paragraphs"))):
        return ["spacy_json"]
    if isinstance(data := value.get("data"), dict) and any(isinstance(text, str) for text in data.values()):
        return ["label_studio"]
    found = []
    if _has_tokens(value, options):
        found.append(TOKENS)
    spans = SPAN_COLUMNS if options.tag_column is None else (options.tag_column,)
    if _has_text(value, options):
        has_spans = any(_is_list_of(value.get(name), dict | list) for name in spans) or "answer" in value
        has_spans = has_spans or has_ubiai_spans(value)
        # A text without spans counts too, unless the record has tokens.
        if has_spans or not any(isinstance(value.get(name), list) for name in TOKEN_COLUMNS):
            found.append("doccano" if "label" in value or "entities" in value or "labels" in value else "prodigy")
    return found


def _has_text(value: Mapping[str, Any], options: ReadOptions) -> bool:
    if options.token_column is not None:
        return isinstance(value.get(options.token_column), str)
    if any(isinstance(value.get(name), str) for name in TEXT_COLUMNS):
        return True
    if any(_is_list_of(value.get(name), str, at_least=1) for name in TOKEN_COLUMNS):
        return False  # other strings, such as the name of a document, describe the tokens
    texts = {name.lower() for name, text in value.items() if isinstance(text, str)}
    return not texts.isdisjoint(USUAL_TEXTS) or any(is_text(t) for t in value.values() if isinstance(t, str))


def _has_tokens(value: Mapping[str, Any], options: ReadOptions) -> bool:
    tokens = TOKEN_COLUMNS if options.token_column is None else (options.token_column,)
    tags = TAG_COLUMNS if options.tag_column is None else (options.tag_column,)
    has_tags = any(_is_list_of(value.get(name), str | int) for name in tags)
    has_text = any(isinstance(value.get(name), str) for name in TEXT_COLUMNS)
    return any(_is_list_of(value.get(name), str) for name in tokens) and (has_tags or not has_text)


def has_ubiai_spans(record: Mapping[str, Any]) -> bool:
    """Return whether the "tokens" of a record are spans, as in UBIAI's exports."""
    tokens = record.get("tokens")
    return isinstance(tokens, list) and bool(tokens) and all(isinstance(t, dict) and "entityLabel" in t for t in tokens)


def _is_list_of(value: Any, kind: Any, at_least: int = 0) -> bool:
    return isinstance(value, list) and len(value) >= at_least and all(isinstance(item, kind) for item in value[:3])


def _objects_in(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
