"""Read files and data sets into examples. Each format has one reader; every error says file:line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

from nerloop.data.arrow_cache import Cache, digest_of
from nerloop.data.cached_examples import examples_key, store_examples
from nerloop.data.detect import format_of
from nerloop.data.folders import COLUMN_FORMATS, check_layouts, files_of, is_pattern
from nerloop.data.formats import format_named
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings, log
from nerloop.data.records import TextRecord, read_examples
from nerloop.errors import BadRecordsError, DataError
from nerloop.types import Example

__all__ = ["ReadOptions", "at_least_one", "format_of", "iterate_file", "iterate_files", "read_files", "read_records"]


T = TypeVar("T")


def read_files(
    paths: Sequence[str],
    options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
    *,
    cache: Cache | None = None,
) -> tuple[Sequence[Example], str]:
    """Return the examples of some files (or brat folders), in order, and the files' digest (see `digest_of`).

    Without a cache the examples are a list in memory. With one they are mapped from there; the files are read only if
    the cache does not have them. The log says what the readers changed or left out. Raises DataError for a file that is
    missing, has no sentence, or is not in its format.
    """
    warnings: list[str] = []
    files = [file for path in paths for file in (files_of(path, options) if is_pattern(path) else [path])]
    if cache is None or not all(map(os.path.exists, files)):  # the reader's message for a missing file is better
        examples: Sequence[Example] = list(iterate_files(paths, options, warnings=warnings))
        digest = digest_of(files)
    else:
        digest = cache.digest(files)

        def read() -> Iterator[Example]:
            yield from iterate_files(paths, options, warnings=warnings)
            if cache.digest(files) != digest:
                raise DataError(f"{paths[0]}: changed while it was read; start again when it is whole")

        # The key has the paths as they were given, since examples say where they come from.
        key = examples_key(list(paths), asdict(options), digest)
        # A user's own tokenizer may change while its name stays, so nothing that it cut is kept.
        stored = store_examples(read, cache, key if options.has_built_in_tokenizer else None, warnings)
        examples, warnings = stored, stored.warnings
    for line in warnings:
        log.warning("%s", line)
    return examples, digest


def iterate_files(
    paths: Sequence[str],
    options: ReadOptions = ReadOptions(),  # noqa: B008
    *,
    warnings: list[str],
) -> Iterator[Example]:
    """Yield the examples of some files while reading; append to `warnings` one line for each kind of change.

    Raises DataError as `read_files` does, when it reaches the mistake.
    """
    for path in paths:
        found = ReadWarnings.of(options)
        yield from iterate_file(path, options, found)
        warnings += found.lines(path)


def iterate_file(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the examples of one file while reading, and count in `warnings` what is changed or left out.

    Raises DataError as `read_files` does, when it reaches the mistake.
    """
    yield from at_least_one(read_examples(read_records(path, options, warnings), options, warnings), path, warnings)


def at_least_one(found: Iterable[T], path: str, warnings: ReadWarnings) -> Iterator[T]:
    """Yield what was found in a file. Raises DataError at the end if that was nothing."""
    is_empty = True
    for one in found:
        is_empty = False
        yield one
    if is_empty:
        left_out = f" ({warnings.summary})" if warnings.counts else ""
        raise DataError(f"{path}: found no sentence{left_out}, expected at least one. Is this the right file?")


def read_records(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example | TextRecord]:
    """Yield what the reader of a file's format yields: sentences, or texts with character spans.

    Raises DataError as `read_files` does; for bad records at the end of the file or at the tenth, with a line for each.
    """
    try:
        name = format_of(path, options)
        files = files_of(path, options) if name in COLUMN_FORMATS else [path]
        if len(files) > 1 and name == "conll":
            check_layouts(files, options)
        for file in files:
            yield from format_named(name).read(file, options, warnings)
    except BadRecordsError:
        raise
    except DataError as error:  # not about one record: nothing after it can be read
        warnings.errors.append(error)
    warnings.finish()
