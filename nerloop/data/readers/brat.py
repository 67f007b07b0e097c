"""Read folders of brat: each .txt file is a text; the .ann file of the same name holds its annotations."""

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

NO_SPANS = {
    "R": "relations", "E": "events", "N": "normalisations", "A": "attributes", "M": "attributes", "*": "equivalences",
    "#": "notes",
}  # fmt: skip
"""Lines that are no spans: their first character, and what they are."""
ENTITY = re.compile(r"(\S+) (\d{1,12} \d{1,12}(?:;\d{1,12} \d{1,12})*)")


def brat_files(path: str) -> list[str]:
    """Return the .txt and .ann files of a folder and its subfolders, sorted. Raises DataError if it can't be read."""
    paths = []

    def fail(error: OSError) -> None:  # os.walk skips unreadable folders by default, which would lose their texts
        raise error

    with file_errors(path):
        for folder, folders, names in os.walk(path, onerror=fail):
            folders.sort()
            paths += [os.path.join(folder, name) for name in names if name.endswith((".txt", ".ann"))]
    return sorted(paths)


def read_brat(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[TextRecord]:
    """Yield the texts of a folder, sorted by file name, with the spans of their T lines.

    A text without a .ann file counts as not annotated. An empty .ann file means that the text has no entities. Raises
    DataError with file:line.
    """
    files = brat_files(path) if Path(path).is_dir() else [path]
    existing = set(files)
    for name in files:
        text_name = str(Path(name).with_suffix(".txt"))
        if name.endswith(".ann"):
            if text_name not in existing:
                raise DataError(f"{name}: found no {Path(text_name).name} next to it, expected the text it annotates")
            continue
        annotations = str(Path(name).with_suffix(".ann"))
        text = read_whole(name, options.encoding)
        source = None
        if options.for_prediction:
            source = {"format": "brat", "folder": path, "name": os.path.relpath(name, path)}
            if name == path:
                source |= {"folder": str(Path(path).parent), "name": Path(path).name}
        spans, hulls = None, frozenset[Span]()
        if options.with_tags and (annotations in existing or Path(annotations).is_file()):
            found = list(_read_spans(annotations, text, options, warnings))
            spans = tuple(span for span, _ in found)
            hulls = frozenset(span for span, is_hull in found if is_hull)
            hulls -= {span for span, is_hull in found if not is_hull}
        yield TextRecord(text, spans, name, name, is_file=True, hulls=hulls, source=source)


def _read_spans(path: str, text: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[tuple[Span, bool]]:
    """Yield each span of a .ann file, in code points, and whether it is the hull of a discontinuous one."""
    # Whether offsets count code points or UTF-16 units is decided for the whole file, so first collect all of them.
    pieces: list[Slice] = []  # of all entities; a discontinuous entity has several
    types: list[tuple[str, int]] = []  # by entity: type and number of pieces
    where: list[str] = []  # by entity
    for number, line in open_lines(path, options.encoding):
        at = f"{path}:{number}"
        if not line.strip():
            continue
        if line[0] in NO_SPANS:
            warnings.lose(NO_SPANS[line[0]], f"{at} {shorten(line)}")
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
        yield Span(min(start for start, _ in places), max(end for _, end in places), type_), number > 1


def _slices(borders: list[tuple[int, ...]], stated: str) -> list[Slice]:
    """Return the pieces of an entity with their texts. brat writes the texts in one field, separated by spaces."""
    if not stated:
        return [Slice(start, end) for start, end in borders]
    if len(borders) == 1:
        return [Slice(borders[0][0], borders[0][1], stated)]
    slices, at = [], 0
    for start, end in borders:
        slices.append(Slice(start, end, stated[at : at + end - start]))
        at += end - start + 1
    # If the lengths don't add up, the offsets count something else than code points; leave the texts out.
    return slices if at == len(stated) + 1 else [Slice(start, end) for start, end in borders]


def _locate(
    text: str, pieces: list[Slice], path: str, where: list[str], types: list[tuple[str, int]], options: ReadOptions
) -> list[tuple[int, int]]:
    """Return the pieces in code points. If that fails, the error names the line of the first wrong piece."""
    try:
        return to_code_points(text, [], path, unit=options.offsets, others=pieces)[1]
    except DataError:
        # The error above names only the file. Convert the pieces one by one to find the line.
        lines = [at for at, (_, number) in zip(where, types) for _ in range(number)]
        for at, piece in zip(lines, pieces):
            to_code_points(text, [], at, unit=options.offsets, others=[piece])
        raise
