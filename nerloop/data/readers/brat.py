"""brat's folders: a text in each .txt, its annotations beside it in a .ann of the same name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from nerloop.data.lines import file_errors, open_lines, read_whole
from nerloop.data.offsets import Slice, to_code_points
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.records import TextRecord, as_type
from nerloop.errors import DataError, shorten
from nerloop.types import Span

SKIPPED = "RENAM*#"
"""First letters of lines without a span: relations, events, normalisations, attributes, equivalences, notes."""
ENTITY = re.compile(r"(\S+) (\d{1,12} \d{1,12}(?:;\d{1,12} \d{1,12})*)")


def brat_files(path: str) -> list[str]:
    """Return the .txt and .ann files of a folder and of those within it, sorted. Raises DataError where one lacks."""
    found = []
    with file_errors(path):
        for folder, folders, names in os.walk(path):
            folders.sort()
            found += [os.path.join(folder, name) for name in names if name.endswith((".txt", ".ann"))]
    return sorted(found)


def read_brat(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the texts of a folder with the spans of their T lines, sorted by the files' names.

    A text without .ann was not annotated; an empty .ann says that there is nothing. Raises DataError with file:line.
    """
    files = brat_files(path) if Path(path).is_dir() else [path]
    there = set(files)
    for name in files:
        text_name = str(Path(name).with_suffix(".txt"))
        if name.endswith(".ann"):
            if text_name not in there:
                raise DataError(f"{name}: found no {Path(text_name).name} beside it, expected the text it annotates")
            continue
        annotations = str(Path(name).with_suffix(".ann"))
        text = read_whole(name)
        spans = None
        if options.with_tags and (annotations in there or Path(annotations).is_file()):
            spans = tuple(_read_spans(annotations, text, options, warnings))
        yield TextRecord(text, spans, name, name, is_file=True)


def _read_spans(path: str, text: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Span]:
    """Yield the spans of a .ann file in code points of its text."""
    pieces: list[Slice] = []
    types: list[tuple[str, int]] = []  # and the number of pieces, by entity
    where: list[str] = []
    for number, line in open_lines(path):
        at = f"{path}:{number}"
        if not line.strip() or line[0] in SKIPPED:
            continue
        name, _, rest = line.partition("\t")
        entity, _, stated = rest.partition("\t")
        match = ENTITY.fullmatch(entity)
        if not name.startswith("T") or match is None:
            raise DataError(f"{at}: found {shorten(line)}, expected a line such as 'T1<tab>PER 0 4<tab>Anna'")
        borders = [tuple(map(int, piece.split(" "))) for piece in match[2].split(";")]
        types.append((as_type(match[1], at, warnings), len(borders)))
        where.append(at)
        pieces += _slices(borders, stated)
    located = _locate(text, pieces, path, where, types, options)
    at_piece = 0
    for (type_, number), at in zip(types, where):
        places = located[at_piece : at_piece + number]
        at_piece += number
        if number > 1:
            is_skipped = options.discontinuous == "skip"
            warnings.add(f"discontinuous spans {'left out' if is_skipped else 'read as their hull'}", f"{at} {type_}")
            if is_skipped:
                continue
        yield Span(min(start for start, _ in places), max(end for _, end in places), type_)


def _slices(borders: list[tuple[int, ...]], stated: str) -> list[Slice]:
    """Return the pieces of an entity with the text of each; brat writes them one after the other, spaces between."""
    if not stated:
        return [Slice(start, end) for start, end in borders]
    if len(borders) == 1:
        return [Slice(borders[0][0], borders[0][1], stated)]
    slices, at = [], 0
    for start, end in borders:
        slices.append(Slice(start, end, stated[at : at + end - start]))
        at += end - start + 1
    return slices if at == len(stated) + 1 else [Slice(start, end) for start, end in borders]


def _locate(
    text: str, pieces: list[Slice], path: str, where: list[str], types: list[tuple[str, int]], options: ReadOptions
) -> list[tuple[int, int]]:
    """Return the pieces in code points; where that fails, the error names the line of the first wrong one."""
    try:
        return to_code_points(text, [], path, unit=options.offsets, others=pieces)[1]
    except DataError:
        lines = [at for at, (_, number) in zip(where, types) for _ in range(number)]
        for at, piece in zip(lines, pieces):
            to_code_points(text, [], at, unit=options.offsets, others=[piece])
        raise
