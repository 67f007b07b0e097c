"""Files and data sets in, examples out; one reader a format, and every error says file:line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerloop.data.columns import iterate_columns
from nerloop.data.jsonl import iterate_jsonl
from nerloop.data.lines import open_lines
from nerloop.data.stored import store_examples
from nerloop.errors import DataError
from nerloop.store import Cache, code_fingerprint, digest_of, fingerprint
from nerloop.types import Example

READERS: dict[str, Callable[..., Iterable[Example]]] = {"conll": iterate_columns, "jsonl": iterate_jsonl}
SUFFIXES = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".bio", ".iob", ".tsv"), "conll"),
}


@dataclass
class Dataset:
    """Examples by split ("train", "validation", "test"), and what tells this data from other data."""

    name: str
    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split


def read_files(
    paths: Sequence[str],
    *,
    format: str = "auto",  # noqa: A002 (the setting's name)
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
    cache: Cache | None = None,
) -> tuple[Sequence[Example], str]:
    """Return the examples of some files, in order, and a SHA-256 of their bytes.

    They are a list in memory, or, with a cache, mapped from there, and read only where they are not there yet. Raises
    DataError where a file is missing, empty, or not what its format says.
    """
    options = {"token_column": token_column, "tag_column": tag_column, "labels": labels, "with_tags": with_tags}
    if cache is None or not all(map(os.path.isfile, paths)):  # what is no file, its reader has words for
        examples = list(_iterate(paths, format, options))
        return examples, digest_of(paths)
    digest = cache.digest(paths)

    def read() -> Iterator[Example]:
        yield from _iterate(paths, format, options)
        if cache.digest(paths) != digest:
            raise DataError(f"{paths[0]}: changed while it was read; start again when it is whole")

    code = code_fingerprint("data", "store.py", "tags.py", "types.py")
    # The paths as they were given: the examples say where they come from.
    return store_examples(read, cache, fingerprint(code, list(paths), format, options, digest)), digest


def _iterate(paths: Sequence[str], format: str, options: dict[str, Any]) -> Iterator[Example]:  # noqa: A002
    for path in paths:
        found = format_of(path) if format == "auto" else format
        if found not in READERS:
            raise DataError(f"data.format: found {found!r}, expected auto, {', '.join(READERS)}")
        is_empty = True
        for example in READERS[found](path, **options):
            is_empty = False
            yield example
        if is_empty:
            raise DataError(f"{path}: found no sentence, expected at least one. Is this the right file?")


def format_of(path: str) -> str:
    """Return the name of a file's format: by its suffix, else JSON lines where the first line opens an object."""
    if suffix := SUFFIXES.get(Path(path).suffix.lower()):
        return suffix
    first = next((text for _, text in open_lines(path) if text.strip(" \t")), "")
    return "jsonl" if re.match(r"[ \t]*{\s*[\"}]", first) else "conll"  # "{ O" is a token with its tag
