"""Read JSON values one by one: one on each line of a file, or the elements of one array."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from nerloop.data.checks import shorten_message
from nerloop.data.lines import decoded_lines, opened
from nerloop.errors import DataError, shorten

BLOCK = 1 << 20
SLACK = 1000  # characters: an error earlier than this before the end of the buffer is not just an unfinished value
HEAD = 4096  # bytes
SEPARATOR = re.compile(r"[ \t\r\n]*")


def read_values(path: str, encoding: str = "utf-8") -> Iterator[tuple[str, Any]]:
    """Yield file:line and value of each JSON value of a file: the elements of an array, or one value a line.

    If several elements begin on one line, all but the first are numbered: "x.json:1 (record 2)". If a file begins with
    an array whose first element is a string, each line is a value, as spaCy writes it. Raises DataError with file:line.
    """
    with opened(path, encoding) as file:
        yield from values_in(file, path)


def values_in(file: BinaryIO, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what `read_values` does, from an open file, read from its start."""
    if is_array(file):
        yield from _elements(file, path)
        return
    for number, text in decoded_lines(file, path):
        if text.strip(" \t\r"):
            where = f"{path}:{number}"
            yield where, parse(text, where)


def is_array(file: BinaryIO) -> bool:
    """Return whether a file holds one array of values rather than one value a line. The file is left at its start."""
    file.seek(0)
    head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return re.match(rb"\[\s*([\[{\]]|$)", head) is not None  # not [ "a text", and not the token [ with its tag


def _elements(file: BinaryIO, path: str) -> Iterator[tuple[str, Any]]:
    source = _Source(path, file)
    source.skip_blanks()
    source.at += 1  # [
    source.skip_blanks()
    if source.next_character() == "]":
        return
    line_before = ""
    for number in itertools.count(1):
        line = source.where()
        yield (f"{line} (record {number})" if line == line_before else line), source.value()
        line_before = line
        source.skip_blanks()
        found = source.next_character()
        if found not in (",", "]"):
            raise DataError(f"{source.where()}: found {shorten(found or 'the end')}, expected ',' or ']'")
        source.at += 1
        source.skip_blanks()
        if found == "]":
            break
    if rest := source.next_character():
        raise DataError(f"{source.where()}: found {shorten(rest)} after the end of the array")


class _Source:
    """The part of a file that has been read but not used yet. It grows until it holds a whole value."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.buffer, self.at = "", 0
        self.line, self.counted = 1, 0  # the line number of the character at `counted`
        self.is_whole = False
        self.read_more()
        self.buffer = self.buffer.removeprefix("\ufeff")

    def read_more(self, size: int = BLOCK) -> None:
        block = self.file.read(size)
        self.is_whole = not block
        self.where()
        try:
            text = self.decoder.decode(block, final=self.is_whole)
        except UnicodeDecodeError as error:
            line = self.line + self.buffer.count("\n", self.counted) + error.object.count(b"\n", 0, error.start)
            found = shorten(error.object[error.start : error.end])
            raise DataError(
                f"{self.path}:{line}: found {found}, expected UTF-8. Convert the file with iconv"
            ) from error
        self.buffer, self.at, self.counted = self.buffer[self.at :] + text, 0, 0

    def where(self) -> str:
        """Return file:line of what comes next."""
        self.line += self.buffer.count("\n", self.counted, self.at)
        self.counted = self.at
        return f"{self.path}:{self.line}"

    def next_character(self) -> str:
        return self.buffer[self.at : self.at + 1]

    def skip_blanks(self) -> None:
        while True:
            match = SEPARATOR.match(self.buffer, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.buffer) or self.is_whole:
                return
            self.read_more()

    def value(self) -> Any:
        """Return the value that begins here, and move past it."""
        while True:
            where = self.where()
            decoder = json.JSONDecoder(object_pairs_hook=partial(unique_keys, where=where))
            try:
                value, end = decoder.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                is_unfinished = error.pos > len(self.buffer) - SLACK or error.msg.startswith("Unterminated")
                if self.is_whole or not is_unfinished:
                    line = self.line + self.buffer.count("\n", self.counted, error.pos)
                    raise DataError(f"{self.path}:{line}: not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: JSON that can't be read: {shorten_message(str(error))}") from error
            else:
                # A number may go on in the next block, and the next character is needed anyway.
                if end < len(self.buffer) or self.is_whole:
                    self.at = end
                    return value
            self.read_more(max(BLOCK, len(self.buffer)))


def parse(text: str, where: str) -> Any:
    """Return the value of a JSON text. Raises DataError, starting with `where`, also for a key twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: unique_keys(pairs, where))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON at character {error.pos + 1}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nesting of thousands of levels
        raise DataError(f"{where}: JSON that can't be read: {shorten_message(str(error))}") from error


def unique_keys(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Return the object of some keys and values. Raises DataError, starting with `where`, for a repeated key."""
    record = dict(pairs)
    if len(record) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name, number in times.items() if number > 1)
        raise DataError(f"{where}: found the key {shorten(twice)} twice in one object, expected each once")
    return record
