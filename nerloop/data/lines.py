"""Open files and read their lines with numbers. Bytes of another encoding are an error that names the line."""

from __future__ import annotations

import codecs
import itertools
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from nerloop.errors import DataError, shorten

T = TypeVar("T")

BLOCK = 1 << 20
MAX_NAME = 500
"""Characters of a file's name up to which a message shows all of it."""


def open_lines(path: str, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of each line. Lines end at \\n or \\r\\n and nowhere else.

    Raises DataError if the file can't be opened, is not in that encoding, or contains NUL bytes.
    """
    with opened(path, encoding) as file:
        yield from decoded_lines(file, path)


@contextmanager
def opened(path: str, encoding: str = "utf-8") -> Iterator[BinaryIO]:
    """Open a file and give its content in UTF-8; one in another encoding is converted into a temporary file first.

    Raises DataError if the file can't be opened or is not in that encoding (UTF-8 is checked by those who decode).
    """
    with file_errors(path), open(path, "rb") as file:
        if codecs.lookup(encoding).name == "utf-8":
            yield file
            return
        with tempfile.TemporaryFile() as converted:
            number = 1
            decoder = codecs.getincrementaldecoder(encoding)()
            while True:
                block = file.read(BLOCK)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{number}: after this line, found bytes that are not {encoding}") from error
                converted.write(text.encode("utf-8", "surrogatepass"))
                number += text.count("\n")
                if not block:
                    break
            converted.seek(0)
            yield converted


def decoded_lines(file: BinaryIO, path: str, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of an open file, read from its start. Raises DataError."""
    for number, raw in enumerate(file, start=1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        end = raw[len(line) :].decode("ascii") if keep_ends else ""
        yield number, _decode(line, f"{path}:{number}") + end


def look_ahead(values: Iterator[T], number: int) -> tuple[list[T], Iterator[T]]:
    """Return the first few of some values, and an iterator over all of them.

    Nothing is read twice. A DataError among the first values ends the list; the iterator raises it in its place.
    """
    head: list[T] = []
    problem: DataError | None = None
    try:
        for value in itertools.islice(values, number):
            head.append(value)
    except DataError as error:
        problem = error

    def every_value() -> Iterator[T]:
        yield from head
        if problem is not None:
            raise problem
        yield from values

    return head, every_value()


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Raise a DataError for errors of opening or reading a file, and for a pipe or device before it is opened."""
    try:
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise DataError(f"{path}: found a pipe or device, expected a file: it is read more than once")
        yield
    except FileNotFoundError as error:
        parts = [part for part in re.split(r"[,\s]+", path) if part]
        is_list = len(parts) > 1 and all(Path(part).is_file() for part in parts)
        hint = f"; for several files write a list: '[{', '.join(parts)}]'" if is_list else ""
        raise DataError(f"{path}: no such file{hint}") from error
    except IsADirectoryError as error:
        raise DataError(
            f"{path}: found a folder, expected a file (data.dataset takes a save_to_disk folder)"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise DataError(f"{path if len(path) < MAX_NAME else shorten(path)}: can't be read: {reason}") from error


def read_whole(path: str, encoding: str = "utf-8") -> str:
    """Return the text of a file, its line ends as they are. Raises DataError as `open_lines` does, with file:line."""
    with opened(path, encoding) as file:
        raw = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = raw[error.start : error.end]
        raise DataError(
            f"{path}:{line}: found {shorten(found)}, expected UTF-8. Set data.encoding, or is it binary?"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: found a NUL byte, expected text in UTF-8. Is this a binary file?")
    return text


def _decode(raw: bytes, where: str) -> str:
    if b"\0" in raw:
        raise DataError(f"{where}: found a NUL byte, expected text in UTF-8. Is this a binary file?")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = raw[error.start : error.end]
        raise DataError(
            f"{where}: found {shorten(found)} at byte {error.start + 1} of the line, expected UTF-8. "
            "Set data.encoding (such as latin-1), or is this a binary file?"
        ) from error
    if "\r" in text and text.count("\r") > 1 and where.endswith(":1"):
        raise DataError(f"{where}: found lines that end with CR alone, expected LF or CRLF. Convert the file first.")
    return text
