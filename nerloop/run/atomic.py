"""Write files and folders so that each is whole or absent, whenever the process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nerloop.errors import CheckpointError, TrainingError

CHECKSUMS = "checksums.json"


@contextlib.contextmanager
def replacing(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Give a temporary path to write a file or a folder to; at the end of the block it is renamed to `path`.

    An exception inside leaves `path` as it was and removes what was written. If several processes may write the same
    path at once, each must give its own temporary path as `beside`. A device or pipe, such as /dev/null, is written to
    directly: renaming would replace it for the whole machine, if root does it.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    beside = beside or path.with_name(f".{path.name}.tmp")
    remove(beside)
    try:
        yield beside
        _sync(beside)
        if beside.is_dir() and path.exists():  # a rename only replaces files and empty folders
            remove_folder(path)
        beside.replace(path)
        _sync(path.parent)
    finally:
        remove(beside)


def write_text(path: Path, text: str) -> None:
    """Write a file; after a kill it holds either all of the text or what it held before."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value to a file as JSON, as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_folder(
    folder: Path, write: Callable[[Path], None], *, num_bytes: int | None = None, checksums: bool = True
) -> None:
    """Make a folder whole or not at all: `write` fills it under a temporary name, then it is renamed.

    Raises TrainingError if that fails, such as on a full disk; its message says that about `num_bytes` are needed.
    """
    from safetensors import SafetensorError

    try:
        with replacing(folder) as beside:
            beside.mkdir(parents=True)
            write(beside)
            if checksums:
                found = {file.name: _checksum(file) for file in sorted(beside.iterdir())}
                (beside / CHECKSUMS).write_text(json.dumps(found, indent=1), encoding="utf-8")
            for file in beside.iterdir():
                _sync(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(cannot_write(folder, error, num_bytes=num_bytes, free=_free_bytes(folder))) from error


def cannot_write(path: Path, error: Exception, *, num_bytes: int | None = None, free: int | None = None) -> str:
    """Return the line of an error while writing: the path, the reason, the space needed and the space free."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    needs = "" if num_bytes is None else f"; it takes about {_mb(num_bytes)}"
    has = "" if free is None else f"; {_mb(free)} are free there"
    return (
        f"{path}: can't be written: {reason}{needs}{has}. What was saved before is whole: "
        "make room, then go on with --run.resume auto"
    )


def check_folder(folder: Path) -> None:
    """Raise CheckpointError, naming the file, unless every file of a folder has its recorded checksum."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        if not isinstance(checksums, dict) or not checksums:
            raise ValueError("no checksums in it")
        if any(Path(name).name != name for name in checksums):
            raise ValueError("it names a file of another folder")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: found no readable {CHECKSUMS}; this is no whole checkpoint") from error
    for name, expected in checksums.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; the checkpoint is not whole")
        if _checksum(file) != expected:
            raise CheckpointError(f"{file}: its SHA-256 is not the one in {CHECKSUMS}; the checkpoint is damaged")


def remove_folder(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that a kill half-way leaves nothing that looks like a checkpoint."""
    beside = folder.with_name(f".{folder.name}.gone")
    remove(beside)
    folder.rename(beside)
    remove(beside)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _free_bytes(path: Path) -> int | None:
    """Return the free bytes of the file system that a path is on or will be on."""
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't sync folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
