"""Refuse formats that are recognised but not read, with the name of the format and how to convert it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nerloop.errors import DataError

CONVERT_SPANS = 'write a record {"text": ..., "spans": [{"start": 0, "end": 4, "label": "PER"}]} a line'
MARKUP = rb"\s*(?:<!DOCTYPE|<([A-Za-z][\w-]*)(?:\s[^<>\n]*)?>(?![^\n]*[ \t](?:O|[BIES]-\S+)\s*\n).*</[A-Za-z])"
"""Matches text that begins with an opening tag and has a closing one, but not columns whose first token is a tag."""
PAIRS = rb"\s*(?:\S+[/_](?:O|[BIES]-\w+)[ \t\r\n]+){3}"
"""Matches three tokens with their tags."""
BEGINNINGS: list[tuple[bytes, str, str]] = [
    (rb"SQLite format 3\0", "a database of SQLite, such as Prodigy's", "export it: prodigy db-out NAME > data.jsonl"),
    (
        rb"\x80[\x02-\x05].*\.",
        "a Python pickle, which can run any code",
        "load it where it comes from; write JSON lines",
    ),
    (rb"PK\x03\x04", "a ZIP archive, as .xlsx and .docx files are", "unpack it, or export the sheet as CSV"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ", "a compressed file", "unpack it first"),
    (rb"ARROW1", "an Arrow file", "name its folder as data.dataset, if save_to_disk wrote it"),
    (rb"%PDF", "a PDF", "extract its text first"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?<xmi:XMI", "UIMA XMI (INCEpTION, WebAnno)", "export as CoNLL 2002 or CoNLL-U instead"),
    (rb"(?s)\s*<.{0,300}<GateDocument|\s*<GateDocument", "GATE XML", f"for each document, {CONVERT_SPANS}"),
    (rb"(?s)\s*<.{0,300}<TEI|\s*<TEI", "TEI", f"for each text, {CONVERT_SPANS}"),
    (rb"\s*<\?xml", "XML", CONVERT_SPANS),
    (rb"\{\\rtf", "RTF", "save it as plain text first"),
    (rb"#FORMAT=WebAnno TSV", "WebAnno TSV (INCEpTION)", "export as CoNLL 2002 or CoNLL-U instead"),
]  # fmt: skip
"""A pattern for the first bytes of a file, what the file is, and what to do."""
TEXTS: list[tuple[bytes, str, str]] = [
    (rb"\s*\[\s*\(\s*['\"(]", "Python's literals", "write the same data with json.dump"),
    (MARKUP, "text with tags of XML or HTML", f"remove them first, or {CONVERT_SPANS}; "
     "to read the tags as tokens, set data.format to text"),
    (PAIRS, "tokens with their tags after / or _", "write a token a line, its tag after a tab, and a blank line "
     "between sentences"),
]  # fmt: skip
"""The same for text that nerloop would read as another format; only tried if the suffix names no format."""

Test = Callable[[Mapping[str, Any]], bool]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _has(value: Any, *names: str) -> bool:
    return isinstance(value, Mapping) and all(name in value for name in names)


def _is_numbered(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(key.isdigit() for key in value)


RECORDS: list[tuple[Test, str, str]] = [
    (lambda r: bool(r) and all(map(_is_numbered, r.values())), "pandas' JSON by columns",
     "write it with df.to_json(path, orient='records', lines=True)"),
    (lambda r: _has(r, "columns", "index", "data") and isinstance(r["columns"], list), "pandas' JSON, split",
     "write it with df.to_json(path, orient='records', lines=True)"),
    (lambda r: isinstance(_first(r.get("entities")), list) and isinstance(_first(r["entities"][0][2:3]), list),
     "brat's JSON", "name the folder with its .txt and .ann files"),
    (lambda r: any(name in r for name in ("%FEATURE_STRUCTURES", "_referenced_fss", "_views")),
     "UIMA's JSON (INCEpTION)", "export as CoNLL 2002 or CoNLL-U instead"),
    (lambda r: _has(r, "annotatable", "entities"), "tagtog's ann.json",
     f"it has no text: join it with its document, and {CONVERT_SPANS}"),
    (lambda r: _has(_first(r.get("Entities")), "BeginOffset", "EndOffset"), "what AWS Comprehend found",
     f"it has no text: join it with its lines, and {CONVERT_SPANS}"),
    (lambda r: _has(_first(r.get("annotation")), "points"), "Dataturks' JSON",
     f"its spans are in annotation[].points[] and end with their last character: {CONVERT_SPANS}, with end + 1"),
    (lambda r: _has(_first(r.get("entities")), "start", "end", "type") and isinstance(_first(r.get("tokens")), str)
     and "text" not in r, "JSON of SpERT",
     'its spans end after their last token: write {"tokenized_text": tokens, "ner": [[start, end - 1, type]]} a line'),
    (lambda r: _has(r, "context", "qas") or _has(_first(r.get("paragraphs")), "qas"), "SQuAD's JSON",
     "it has questions and answers, not entities"),
    (lambda r: isinstance(r.get("entities"), Mapping) and isinstance(r.get("text"), str), "GATE's JSON",
     f"its spans are in entities.TYPE[].indices: {CONVERT_SPANS}"),
    (lambda r: _has(r, "features", "splits") or any(_has(v, "features", "splits") for v in r.values()),
     "a description of a data set (dataset_infos.json), not its rows", "name the data set as data.dataset"),
]  # fmt: skip
"""A test for a JSON object, what the object is, and what to do."""

COMPREHEND = re.compile(r'"?file"?,"?line"?,"?begin offset', re.IGNORECASE)


def refuse_bytes(head: bytes, path: str, *, may_be_any_text: bool) -> None:
    """Raise DataError if the first bytes of a file are those of a format that is recognised but not read."""
    for beginning, name, advice in (*BEGINNINGS, *(TEXTS if may_be_any_text else ())):
        if re.match(beginning, head, re.DOTALL):
            raise _refusal(path, name, advice)


def refuse_record(value: Any, where: str) -> None:
    """Raise DataError if a JSON value is one of a format that is recognised but not read."""
    if isinstance(value, dict):
        for test, name, advice in RECORDS:
            if test(value):
                raise _refusal(where, name, advice)


def refuse_header(line: str, path: str) -> None:
    """Raise DataError if the first row of a table is one of AWS Comprehend's annotations."""
    if COMPREHEND.match(line):
        advice = f"it has no text: join it with the lines of its files, and {CONVERT_SPANS}"
        raise _refusal(path, "a table of annotations for AWS Comprehend", advice)


class RefusedError(DataError):
    """A file in a format that is recognised but not read."""


def _refusal(where: str, name: str, advice: str) -> RefusedError:
    return RefusedError(f"{where}: found {name}, which nerloop does not read; {advice}")
