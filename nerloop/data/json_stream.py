"""Read JSON values one by one: the elements of one array, or values one after another, each on one line or several."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from nerloop.data.checks import shorten_message
from nerloop.data.lines import decoded_lines, opened
from nerloop.errors import DataError, shorten

BLOCK = 1 << 20
SLACK = 1000  # characters: an error closer to the end of the buffer may only mean that the value goes on after it
HEAD = 4096  # bytes
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
SEPARATOR = re.compile(r"[ \t\r\n]*")


OnError = Callable[[DataError], None]


def stop(error: DataError) -> None:
    """Raise the error: reading ends at the first value that can't be read."""
    raise error


def read_values(path: str, encoding: str = "utf-8", on_error: OnError = stop) -> Iterator[tuple[str, Any]]:
    """Yield file:line and value of each JSON value of a file: the elements of an array, or values one after another.

    A value may have a line to itself or take several lines. If several elements begin on one line, all but the first
    are numbered: "x.json:1 (record 2)". If a file begins with an array whose first element is a string, it holds such
    arrays one after another, as spaCy writes them. `on_error` gets the DataError, with file:line, of each value that
    can't be read, and reading continues with the next one. A mistake between the elements of an array is raised.
    """
    with opened(path, encoding) as file:
        yield from values_in(file, path, on_error)


def values_in(file: BinaryIO, path: str, on_error: OnError = stop) -> Iterator[tuple[str, Any]]:
    """Yield the values of an open file, from its start, as `read_values` does."""
    if is_array(file):
        yield from _elements(file, path)
    else:
        yield from _sequence(decoded_lines(file, path), path, on_error)


def _sequence(lines: Iterator[tuple[int, str]], path: str, on_error: OnError) -> Iterator[tuple[str, Any]]:
    """Yield the values of a file that holds one after another."""
    again: deque[tuple[int, str]] = deque()  # lines that were read as parts of a broken value: they are read once more
    is_broken = False  # after a broken value: lines that can't begin a record are taken for its rest, and skipped
    while (line := again.popleft() if again else next(lines, None)) is not None:
        number, text = line
        if not text.strip(" \t\r") or (is_broken and not text.startswith(("{", "["))):
            continue
        is_broken = False
        where = f"{path}:{number}"
        try:
            value = parse(text, where)
        except DataError as error:
            # The line may hold several values, or begin one that takes several lines. Else it is broken.
            if several := _values_of_line(text, where, error):
                yield from several
                continue
            if not _is_unfinished(text, error):
                on_error(error)
                continue
            value_lines, problem = _lines_of_value(line, again, lines)
            if problem:
                on_error(DataError(f"{where}: not JSON: {problem}") if len(value_lines) > 1 else error)
                again.extendleft(reversed(value_lines[1:]))
                is_broken = len(value_lines) > 1
                continue
            try:
                value = parse("\n".join(text for _, text in value_lines), where)
            except DataError as error_inside:
                on_error(error_inside)
                continue
        yield where, value


def _values_of_line(text: str, where: str, error: DataError) -> list[tuple[str, Any]]:
    """Return the objects or arrays of one line, each with file:line; none if the line has anything else."""
    found: list[tuple[str, Any]] = []
    if not isinstance(error.__cause__, json.JSONDecodeError) or error.__cause__.msg != "Extra data":
        return found
    decoder = json.JSONDecoder(object_pairs_hook=partial(unique_keys, where=where))
    text, at = text.strip(" \t\r"), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError, DataError):
            return []
        if not isinstance(value, dict | list):
            return []
        found.append((f"{where} (record {len(found) + 1})" if found else where, value))
        while text[at : at + 1].isspace():
            at += 1
    return found


def _is_unfinished(text: str, error: DataError) -> bool:
    """Return whether a line is the beginning of a value: nothing is wrong with it but that it ends too early."""
    cause = error.__cause__
    if not text.lstrip().startswith(("{", "[")) or not isinstance(cause, json.JSONDecodeError):
        return False
    return cause.pos >= len(text.rstrip()) and not cause.msg.startswith("Unterminated")


def _lines_of_value(
    first: tuple[int, str], again: deque[tuple[int, str]], lines: Iterator[tuple[int, str]]
) -> tuple[list[tuple[int, str]], str]:
    """Return the lines of a value that `first` begins, and what is wrong if they are not whole.

    The lines then end with one that no JSON can have there: a string without its end, or an object that begins after
    anything but a comma, a colon or a bracket, as after a line of JSON lines that was cut off. Each line is looked at
    once: parsing the value again after each line would take time in the square of its length.
    """
    found, (depth, before) = [first], _depth(first[1])
    while (line := again.popleft() if again else next(lines, None)) is not None:
        found.append(line)
        text = line[1].strip()
        if not text:
            continue
        change, last = _depth(text)
        if last == '"' or (text.startswith("{") and before not in ",:["):
            return found, f"the value that begins here is cut off, or broken in line {line[0]}"
        depth, before = depth + change, last
        if depth <= 0:
            return found, ""
    return found, "the value that begins here has no end"


def _depth(text: str) -> tuple[int, str]:
    """Return by how many brackets a line goes deeper, and its last character, strings aside ('"': one is open)."""
    rest = (STRING.sub("0", text) if '"' in text else text).rstrip()
    opened, closed = rest.count("{") + rest.count("["), rest.count("}") + rest.count("]")
    return opened - closed, '"' if '"' in rest else rest[-1:]


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
        self.where()  # count the lines of what is dropped below
        try:
            text = self.decoder.decode(block, final=self.is_whole)
        except UnicodeDecodeError as error:
            line = self.line + self.buffer.count("\n", self.counted) + error.object.count(b"\n", 0, error.start)
            found = shorten(error.object[error.start : error.end])
            raise DataError(
                f"{self.path}:{line}: found {found}, expected UTF-8. Set data.encoding (such as latin-1)"
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
            # As much again: a value is parsed from its start each time, which must not take time in its square.
            self.read_more(max(BLOCK, len(self.buffer)))


def parse(text: str, where: str) -> Any:
    """Return the value of a JSON text. Raises DataError, starting with `where`, also for a key twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: unique_keys(pairs, where))
    except json.JSONDecodeError as error:
        if (line := error.lineno - 1) > 0:
            path, _, first = where.rpartition(":")
            raise DataError(f"{path}:{int(first) + line}: not JSON: {error.msg}") from error
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
