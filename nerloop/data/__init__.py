"""Files and data sets in, examples out; one reader a format, and every error says file:line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nerloop.data.arrow_cache import Cache, digest_of
from nerloop.data.cached_examples import examples_key, store_examples
from nerloop.data.formats import check_format, format_of, read_format
from nerloop.data.read_warnings import Notes, log
from nerloop.data.records import TextOptions
from nerloop.errors import DataError
from nerloop.types import Example

__all__ = ["Dataset", "TextOptions", "format_of", "iterate_files", "read_files"]


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
    text: TextOptions = TextOptions(),  # noqa: B008 (nobody can change it)
    cache: Cache | None = None,
) -> tuple[Sequence[Example], str]:
    """Return the examples of some files (or brat folders), in order, and what `digest_of` says of them.

    They are a list in memory, or, with a cache, mapped from there, and read only where they are not there yet. `text`
    says how texts with character spans are read; what is changed or left out on the way is told in the log. Raises
    DataError where a file is missing, empty, or not what its format says.
    """
    options = {"token_column": token_column, "tag_column": tag_column, "labels": labels, "with_tags": with_tags}
    remarks: list[str] = []
    if cache is None or not all(map(os.path.exists, paths)):  # what is not there, its reader has words for
        examples: Sequence[Example] = list(_iterate(paths, format, text, options, remarks))
        digest = digest_of(paths)
    else:
        digest = cache.digest(paths)

        def read() -> Iterator[Example]:
            yield from _iterate(paths, format, text, options, remarks)
            if cache.digest(paths) != digest:
                raise DataError(f"{paths[0]}: changed while it was read; start again when it is whole")

        # The paths as they were given: the examples say where they come from.
        key = examples_key(list(paths), format, options, asdict(text), digest)
        # What a tokenizer of the user's own does may change under its name.
        stored = store_examples(read, cache, key if text.has_built_in_tokenizer else None, remarks)
        examples, remarks = stored, stored.remarks
    for remark in remarks:
        log.warning("%s", remark)
    return examples, digest


def iterate_files(
    paths: Sequence[str],
    *,
    format: str = "auto",  # noqa: A002
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
    with_tags: bool = True,
    text: TextOptions = TextOptions(),  # noqa: B008
    remarks: list[str],
) -> Iterator[Example]:
    """Yield the examples of some files as they are read; put into `remarks` what was changed or left out.

    Raises DataError as `read_files` does, when it gets to what is wrong.
    """
    options = {"token_column": token_column, "tag_column": tag_column, "labels": labels, "with_tags": with_tags}
    yield from _iterate(paths, format, text, options, remarks)


def _iterate(
    paths: Sequence[str],
    format: str,  # noqa: A002
    text: TextOptions,
    options: dict[str, Any],
    remarks: list[str],
) -> Iterator[Example]:
    """Yield the examples of some files; put into `remarks` what was changed or left out."""
    for path in paths:
        columns = options["token_column"], options["tag_column"]
        found = format_of(path, *columns) if format == "auto" else check_format(format)
        notes, is_empty = Notes(), True
        for example in read_format(path, found, text, notes, **options):
            is_empty = False
            yield example
        remarks += notes.lines(path)
        if is_empty:
            left_out = f" ({notes.summary})" if notes.counts else ""
            raise DataError(f"{path}: found no sentence{left_out}, expected at least one. Is this the right file?")
