"""Lines of a text file, with numbers; what is not text is refused by line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nerloop.errors import DataError, shorten

LONGEST_NAME = 500
"""Characters of a file's name that are told whole."""


def open_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of each line. Lines end at \\n or \\r\\n and nowhere else.

    Raises DataError where the file can't be opened, is not UTF-8, or holds NUL bytes.
    """
    with file_errors(path), open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield number, _decode(raw.removesuffix(b"\n").removesuffix(b"\r"), f"{path}:{number}")


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Raise DataError where a file can't be opened or read, and before it is opened where it can be read only once."""
    try:
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise DataError(f"{path}: found a pipe or device, expected a file: it is read more than once")
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(
            f"{path}: found a folder, expected a file (data.dataset takes a save_to_disk folder)"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise DataError(f"{path if len(path) < LONGEST_NAME else shorten(path)}: can't be read: {reason}") from error


def read_whole(path: str) -> str:
    """Return the text of a file, its line ends as they are. Raises DataError as `open_lines` does, with file:line."""
    with file_errors(path), open(path, "rb") as file:
        raw = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = raw[error.start : error.end]
        raise DataError(
            f"{path}:{line}: found {shorten(found)}, expected UTF-8. Convert the file with iconv, or is it binary?"
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
            "Convert the file with iconv, or is this a binary file?"
        ) from error
    if "\r" in text and text.count("\r") > 1 and where.endswith(":1"):
        raise DataError(f"{where}: found lines that end with CR alone, expected LF or CRLF. Convert the file first.")
    return text
