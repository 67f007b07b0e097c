"""Read spaCy's DocBin (.spacy): texts with entities and spaCy's own tokens. Needs spaCy: pip install nerloop[spacy]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nerloop.data.checks import shorten_message
from nerloop.data.lines import file_errors
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord, as_text, as_type
from nerloop.errors import DataError
from nerloop.types import Span


def read_docbin(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the documents of a DocBin, with their entities and spaCy's own tokens.

    Entities are those of `doc.ents`; groups of spans (`doc.spans`) are left out. A document whose entities were never
    set counts as not annotated. Raises DataError, also if spaCy is not installed.
    """
    for number, doc in enumerate(_docs(path), start=1):
        where = f"{path}:{number}"
        tokens = tuple((t.idx, t.idx + len(t.text)) for t in doc if t.text.strip())
        spans = None
        if options.with_tags and doc.has_annotation("ENT_IOB"):
            spans = tuple(Span(e.start_char, e.end_char, as_type(e.label_, where, warnings)) for e in doc.ents)
        if any(len(group) for group in doc.spans.values()):
            warnings.lose("documents with groups of spans (doc.spans)", where)
        yield TextRecord(as_text(doc.text, "text", where), spans, where, where, tokens)


def _docs(path: str) -> Iterator[Any]:
    try:
        import spacy
        from spacy.tokens import DocBin
    except ImportError as error:
        raise DataError(f"{path}: this is spaCy's DocBin, which needs spaCy: pip install nerloop[spacy]") from error
    with file_errors(path), open(path, "rb") as file:
        data = file.read()
    try:
        yield from DocBin().from_bytes(data).get_docs(spacy.blank("xx").vocab)
    except Exception as error:  # damaged bytes raise errors of zlib, msgpack, numpy and spaCy
        raise DataError(f"{path}: not a DocBin, or damaged: {shorten_message(str(error))}") from error
