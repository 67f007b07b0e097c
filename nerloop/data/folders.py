"""Find the column files of a folder or a pattern, which are read as one: `corpus/`, `corpus/*.conll`."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from nerloop.data.column_layout import Layout
from nerloop.data.formats import FORMATS
from nerloop.data.lines import file_errors
from nerloop.data.options import ReadOptions
from nerloop.data.readers.brat import brat_files
from nerloop.errors import DataError

COLUMN_FORMATS = ("conll", "conllu", "conll2012")
COLUMN_SUFFIXES = (".txt", "_conll", *(suffix for name in COLUMN_FORMATS for suffix in FORMATS[name].suffixes))
DATA_SUFFIXES = (*COLUMN_SUFFIXES, ".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".pq")


def is_pattern(path: str) -> bool:
    """Return whether a path has wildcards and is not itself the name of a file."""
    return glob.has_magic(path) and not os.path.lexists(path)


def files_of(path: str, options: ReadOptions) -> list[str]:
    """Return the sorted files of a folder of columns, or those that fit a pattern; for other paths, the path itself.

    Raises DataError for a pattern that no file fits.
    """
    if is_pattern(path):
        with file_errors(path):
            found = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not found:
            raise DataError(f"{path}: found no file that fits this pattern, expected some")
        return found
    if not is_folder(path) or is_brat(path, options):
        return [path]
    with file_errors(path):
        names = [name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    files = [os.path.join(path, name) for name in names if name.lower().endswith(DATA_SUFFIXES)]
    return files if any(file.lower().endswith(COLUMN_SUFFIXES) for file in files) else [path]


def is_brat(path: str, options: ReadOptions) -> bool:
    """Return whether a folder is read as brat's: it has .ann files, or .txt files that need no tags."""
    files = brat_files(path)
    is_text = options.for_prediction or not options.with_tags or options.format == "brat"
    return any(file.endswith(".ann") for file in files) or bool(files and is_text)


def check_layouts(files: Sequence[str], options: ReadOptions) -> None:
    """Raise DataError, which names two files, unless tokens and tags are in the same columns in all files."""
    layouts = [Layout.of(file, options) for file in files]
    for layout in layouts[1:]:
        first, found = ((one.token_index, one.tag_index) for one in (layouts[0], layout))
        if found != first:
            raise DataError(
                f"{layout.path}: found tokens and tags in columns {found[0]} and {found[1]} (from 0), expected "
                f"{first[0]} and {first[1]} as in {layouts[0].path}; set data.token_column and data.tag_column"
            )


def is_folder(path: str) -> bool:
    """Return whether a path is an existing folder."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False
