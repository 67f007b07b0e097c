"""Files and data sets in, examples out; one reader a format, and every error says file:line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nerloop.data.columns import read_columns
from nerloop.data.jsonl import read_jsonl
from nerloop.data.lines import open_lines
from nerloop.errors import DataError
from nerloop.types import Example

READERS = {"conll": read_columns, "jsonl": read_jsonl}
SUFFIXES = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".bio", ".iob", ".tsv"), "conll"),
}


@dataclass
class Dataset:
    """Examples by split ("train", "validation", "test"), and what tells this data from other data."""

    name: str
    splits: dict[str, list[Example]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split


def read_files(
    paths: Sequence[str],
    *,
    format: str = "auto",  # noqa: A002 (the setting's name)
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
) -> tuple[list[Example], str]:
    """Return the examples of some files, in order, and a SHA-256 of their bytes.

    Raises DataError where a file is missing, empty, or not what its format says.
    """
    examples: list[Example] = []
    digest = hashlib.sha256()
    for path in paths:
        found = format_of(path) if format == "auto" else format
        if found not in READERS:
            raise DataError(f"data.format: found {found!r}, expected auto, {', '.join(READERS)}")
        sentences = READERS[found](
            path, token_column=token_column, tag_column=tag_column, labels=labels, with_tags=with_tags
        )
        if not sentences:
            raise DataError(f"{path}: found no sentence, expected at least one. Is this the right file?")
        examples += sentences
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return examples, digest.hexdigest()


def format_of(path: str) -> str:
    """Return the name of a file's format: by its suffix, else JSON lines where the first line opens an object."""
    if suffix := SUFFIXES.get(Path(path).suffix.lower()):
        return suffix
    first = next((text for _, text in open_lines(path) if text.strip(" \t")), "")
    return "jsonl" if re.match(r"[ \t]*{\s*[\"}]", first) else "conll"  # "{ O" is a token with its tag
