"""The table of formats: the name of each, its reader, and the suffixes of its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.brat import read_brat
from nerloop.data.readers.columns import read_columns
from nerloop.data.readers.conll2012 import read_conll2012
from nerloop.data.readers.conllu import read_conllu
from nerloop.data.readers.docbin import read_docbin
from nerloop.data.readers.jsonl import read_jsonl
from nerloop.data.readers.label_studio import read_label_studio
from nerloop.data.readers.spans import read_spacy, read_spans
from nerloop.data.readers.tables import read_csv, read_parquet
from nerloop.data.readers.text import read_text
from nerloop.data.readers.token_spans import read_gliner, read_spacy_json
from nerloop.data.records import TextRecord
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean
from nerloop.types import Example


class Reader(Protocol):
    """Read a file (or brat folder); yield its sentences, or its texts with character spans.

    Counts in `warnings` everything that is changed or left out. Raises DataError that starts with file:line.
    """

    def __call__(  # noqa: D102
        self, path: str, options: ReadOptions, warnings: ReadWarnings
    ) -> Iterator[Example] | Iterator[TextRecord]: ...


@dataclass(frozen=True)
class Format:
    """A format of files. One without suffixes is recognised by content (see `nerloop.data.detect`)."""

    read: Reader
    suffixes: tuple[str, ...] = ()
    has_texts: bool = False  # the reader yields texts with character spans


FORMATS: dict[str, Format] = {
    "conll": Format(read_columns, (".conll", ".bio", ".iob", ".iob2", ".tsv")),
    "conllu": Format(read_conllu, (".conllu", ".conllup")),
    "conll2012": Format(read_conll2012, (".gold_conll", ".v4_gold_conll", ".auto_conll", ".v4_auto_conll")),
    "jsonl": Format(read_jsonl),
    "json": Format(read_jsonl),
    "csv": Format(read_csv, (".csv",)),
    "csv_texts": Format(read_csv, has_texts=True),
    "parquet": Format(read_parquet, (".parquet", ".pq")),
    "parquet_texts": Format(read_parquet, has_texts=True),
    "prodigy": Format(read_spans, has_texts=True),
    "doccano": Format(read_spans, has_texts=True),
    "spacy": Format(read_spacy, has_texts=True),
    "spacy_json": Format(read_spacy_json),
    "docbin": Format(read_docbin, (".spacy",), has_texts=True),
    "gliner": Format(read_gliner),
    "label_studio": Format(read_label_studio, has_texts=True),
    "brat": Format(read_brat, has_texts=True),
    "text": Format(read_text, has_texts=True),
}


def format_named(name: str) -> Format:
    """Return the format of a name. Raises DataError for an unknown one."""
    if name not in FORMATS:
        raise DataError(
            f"data.format: found {shorten(name)}{did_you_mean(name, FORMATS)}, expected auto, {', '.join(FORMATS)}"
        )
    return FORMATS[name]
