"""Write the output of a command to a file or to standard output: either all of it, or an error that says why not."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from nerloop.errors import DataError


def refuse_input_as_output(inputs: Sequence[str], flag: str, output: str) -> None:
    """Raise DataError if a command would write over one of the files that it reads, or into a folder that it reads."""
    for path in inputs:
        if not (os.path.exists(path) and os.path.exists(output)):
            continue
        if os.path.samefile(path, output):
            raise DataError(f"{flag}{output}: is the input, expected another name for the output")
        real, folder = os.path.realpath(output), os.path.realpath(path)
        if os.path.isdir(folder) and os.path.commonpath([real, folder]) == folder:
            raise DataError(f"{flag}{output}: is in the folder {path}, which is the input; expected another place")


@contextlib.contextmanager
def writing(path: str) -> Iterator[Callable[[Iterable[str]], None]]:
    """Give a function that writes lines to a file or to standard output ("-").

    The file appears at the end of the block, when it is complete. Raises DataError if it can't be written.
    """
    if path == "-":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        with _output_errors():
            yield sys.stdout.writelines
            sys.stdout.flush()
        return
    is_file = not os.path.exists(path) or os.path.isfile(path)
    beside = f"{path}.{os.getpid()}.part" if is_file else path
    with write_errors(path):
        file = open(beside, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed below)

    def write(lines: Iterable[str]) -> None:
        with write_errors(path):
            file.writelines(lines)

    try:
        try:
            yield write
        finally:
            with write_errors(path):  # closing writes what is buffered, which a full disk refuses
                file.close()
        if is_file:
            with write_errors(path):
                os.replace(beside, path)
    finally:
        if is_file and os.path.exists(beside):
            os.unlink(beside)


@contextlib.contextmanager
def write_errors(path: str) -> Iterator[None]:
    """Raise DataError instead of an OSError, such as that of a full disk, while `path` is written."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}") from error


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError as error:
        # What is still buffered can't be written either. Python would try again at exit, so send it to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise DataError(f"standard output: can't be written: {error.strerror}") from error
