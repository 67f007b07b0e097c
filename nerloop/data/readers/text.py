"""Read plain text: each line is a text of its own, and a blank line ends a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from nerloop.data.lines import decoded_lines, opened
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord


def read_text(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the lines of a file, without blank ones. Raises DataError with file:line."""
    with opened(path, options.encoding) as file:
        lines = (line for _, line in decoded_lines(file, path, keep_ends=True))
        yield from records_of(lines, path, with_source=options.for_prediction)


def records_of(lines: Iterable[str], name: str, *, with_source: bool = False) -> Iterator[TextRecord]:
    """Yield a text for each line that is not blank, given lines with their ends. Offsets count from the first line.

    Consecutive lines are a document, named `name`:<number of its first line>. The source of a text also has the blank
    lines after it, and that of the first text those before it. So all sources, end to end, are the whole file.
    """
    document, at, start = "", 0, 0
    held: TextRecord | None = None  # until the blank lines after it are known
    around: list[str] = []  # the lines of `held` and the blank ones around it
    place = {"folder": str(Path(name).parent), "name": Path(name).name}

    def finished(record: TextRecord) -> TextRecord:
        source = {"format": "text", **place, "start": start, "text": "".join(around)}
        return replace(record, source=source) if with_source else record

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            document = ""
        else:
            if held is not None:
                yield finished(held)
                around, start = [], at
            document = document or f"{name}:{number}"
            held = TextRecord(line, None, f"{name}:{number}", document, start=at)
        around.append(line)
        at += len(line)
    if held is not None:
        yield finished(held)
