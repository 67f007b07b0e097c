"""Read the sentences to tag from files in any format, and from standard input, which is read like a file."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nerloop.data import ReadOptions, format_of, iterate_files
from nerloop.data.formats import FORMATS
from nerloop.data.tag_counts import TagCounts
from nerloop.errors import BadRecordsError, DataError
from nerloop.run.output import write_errors
from nerloop.types import Example

log = logging.getLogger(__name__)

STANDARD_INPUT = "<stdin>"
"""The name of standard input in messages and predictions."""


def copy_standard_input(path: str) -> None:
    """Copy standard input to a file. Raises DataError if it is closed, or the disk is full."""
    with write_errors(path), open(path, "wb") as file:
        if sys.stdin is None:
            raise DataError("standard input: it is closed; name a file")
        shutil.copyfileobj(sys.stdin.buffer, file)


@dataclass
class Source:
    """The files to be tagged. Standard input ("-") is copied into a file first, so that it is read like the others."""

    paths: Sequence[str]
    options: ReadOptions
    spooled: str | None = None  # the path of the copy of standard input

    @staticmethod
    @contextlib.contextmanager
    def of(files: Sequence[str], options: ReadOptions, *, is_reader: bool) -> Iterator[Source]:
        """Yield the source for the files of a command line. Only a process with `is_reader` copies standard input."""
        files = files or ["-"]
        if "-" not in files or not is_reader:
            yield Source(files, options)
            return
        with tempfile.TemporaryDirectory(prefix="nerloop-") as folder:
            spooled = os.path.join(folder, "stdin")
            copy_standard_input(spooled)
            yield Source([spooled if path == "-" else path for path in files], options, spooled)

    def is_plain(self) -> bool:
        """Return whether all files are plain text."""
        return all(format_of(path, self.options) == "text" for path in self.paths)

    def is_columns(self) -> bool:
        """Return whether the first file has one token a line."""
        return format_of(self.paths[0], self.options) in ("conll", "conllu")

    def look_through(self) -> TagCounts:
        """Read all files once; return their counts, and decide whether gold tags are read from now on.

        They are read only if all records are annotated. If reading fails with gold tags but not without, the files have
        none. A mistake in a file is found here, before anything is tagged. Raises DataError.
        """
        warnings: list[str] = []
        without_tags = replace(self.options, with_tags=False)
        if self.is_plain():
            self.options = without_tags
        try:
            found = TagCounts.of(self.read(warnings))
            if self.options.with_tags and any(FORMATS[format_of(p, self.options)].has_texts for p in self.paths):
                # Reading with tags leaves out records that nobody annotated, but they are to be tagged as well.
                warnings_of_all: list[str] = []
                everything = TagCounts.of(replace(self, options=without_tags).read(warnings_of_all))
                if everything.num_sentences > found.num_sentences:
                    print("nerloop: not all records are annotated, so no scores", file=sys.stderr)
                    self.options, found, warnings = without_tags, everything, warnings_of_all
        except DataError as error:
            # If the user named a tag column and it is missing, reading without tags would hide that.
            if self.options.tag_column is not None or not self.options.with_tags:
                raise
            self.options = without_tags
            try:
                found = TagCounts.of(self.read(warnings))
            except DataError:
                raise error from None
            first, *others = str(error).split("\n")
            more = f", and {len(others)} more" if others else ""
            print(f"nerloop: no gold tags, so no scores ({first}{more})", file=sys.stderr)
        for line in warnings:
            log.warning("%s", line)
        return found

    def read(self, warnings: list[str] | None = None) -> Iterator[Example]:
        """Yield the sentences; at the end, append warnings about changed or skipped input. Raises DataError."""
        found: list[str] = []
        try:
            for example in iterate_files(self.paths, self.options, warnings=found):
                yield self._named(example)
        except BadRecordsError as error:
            raise BadRecordsError([self._name(line) for line in str(error).split("\n")]) from error
        except DataError as error:
            raise DataError(self._name(str(error))) from error
        if warnings is not None:
            warnings += map(self._name, found)

    def _named(self, example: Example) -> Example:
        """Return an example that names standard input, not its copy, as its origin."""
        if self.spooled is None:
            return example
        source = example.source
        if source is not None and source.get("folder") == os.path.dirname(self.spooled):
            source = {**source, "folder": "."}  # the temporary folder of the copy is gone after this command
        location, document = self._name(example.location), self._name(example.document)
        return replace(example, location=location, document=document, source=source)

    def _name(self, text: str) -> str:
        """Return a text with STANDARD_INPUT in place of the path of its copy."""
        return text if self.spooled is None else text.replace(self.spooled, STANDARD_INPUT)
