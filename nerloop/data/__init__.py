"""Files and data sets in, examples out; one reader a format, and every error says file:line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from nerloop.data.formats import check_format, files_of, format_of, read_format
from nerloop.data.notes import Notes
from nerloop.data.records import TextOptions
from nerloop.errors import DataError
from nerloop.types import Example

__all__ = ["Dataset", "TextOptions", "format_of", "read_files"]


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
    text: TextOptions = TextOptions(),  # noqa: B008 (nobody can change it)
) -> tuple[list[Example], str]:
    """Return the examples of some files (or brat folders), in order, and a SHA-256 of their bytes.

    `text` says how texts with character spans are read; what is changed or left out on the way is told in the log.

    Raises DataError where a file is missing, empty, or not what its format says.
    """
    examples: list[Example] = []
    digest = hashlib.sha256()
    for path in paths:
        found = format_of(path, token_column, tag_column) if format == "auto" else check_format(format)
        notes = Notes()
        before = len(examples)
        examples.extend(
            read_format(
                path, found, text, notes,
                token_column=token_column, tag_column=tag_column, labels=labels, with_tags=with_tags,
            )
        )  # fmt: skip
        notes.report(path)
        if len(examples) == before:
            raise DataError(f"{path}: found no sentence, expected at least one. Is this the right file?")
        for name in files_of(path):
            with open(name, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return examples, digest.hexdigest()
