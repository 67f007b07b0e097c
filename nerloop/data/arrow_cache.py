"""A cache of Arrow files on disk. They are written once and memory-mapped, so they may be larger than memory.

An entry is a folder `<name>-<key>` with `rows.arrow` and `about.json`, which holds the size of the former and further
facts. The key is a fingerprint of everything that the rows depend on, so an entry never has to be updated. It is
written to a temporary folder in the cache, synced and renamed, so other processes see a whole entry or none. If an
entry is damaged later on, it is written again. Small values are files `<name>-<key>.json`.

Entries and values that no run has used for KEPT_DAYS are deleted. The modification time of `about.json`, or of a
value's file, is the time of its last use. A shared lock on `about.json` marks an entry that is in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nerloop.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

log = logging.getLogger(__name__)

ROWS = 10_000
"""Rows of a record batch; the last one of a file may have fewer. A writer holds one batch in memory."""
ARROW, ABOUT = "rows.arrow", "about.json"
ENTRY = r"(examples|features|teacher)-[0-9a-f]{40}|(digest|look)-[0-9a-f]{40}\.json"
"""Pattern of names that `prune` may delete. The folder may hold files of others, which must stay."""
FORGOTTEN_SECONDS = 24 * 3600.0
"""Age at which an unfinished entry is assumed to be left over from a killed process."""
KEPT_DAYS = 30.0
"""Days after its last use at which an entry is deleted."""
SETTLED_SECONDS = 2.0
"""Age from which a file's times show every change. Two changes within one clock tick have the same time."""


class Table:
    """A memory-mapped Arrow file. Pages are read on access, and the system may drop them at any time."""

    def __init__(self, folder: Path) -> None:
        """Map the file of an entry. Raises ValueError or OSError if it is incomplete."""
        import pyarrow as pa

        descriptor = os.open(folder / ABOUT, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)  # closing releases the lock, too
        with contextlib.suppress(OSError):  # some file systems have no locks; then an entry in use may be deleted
            _lock(descriptor, exclusive=False)
        self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        path = folder / ARROW
        if path.stat().st_size != self.about["num_bytes"]:
            raise ValueError(f"{ARROW} has {path.stat().st_size} bytes, expected {self.about['num_bytes']}")
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches: dict[int, pa.RecordBatch] = {}
        self.num_rows: int = self.about["num_rows"]
        if self._reader.num_record_batches != -(-self.num_rows // ROWS):
            raise ValueError(f"{ARROW} has {self._reader.num_record_batches} batches for {self.num_rows} rows")
        self.schema: pa.Schema = self._reader.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches; each has ROWS rows, except the last one."""
        return (self.batch(i) for i in range(self._reader.num_record_batches))

    def batch(self, index: int) -> pa.RecordBatch:
        """Return one batch. It is remembered, which costs little memory: its columns point into the mapped file."""
        if (batch := self._batches.get(index)) is None:
            batch = self._batches[index] = self._reader.get_batch(index)
        return batch


@dataclass(frozen=True)
class Cache:
    """A folder of entries. If `is_kept` is false, each entry is deleted together with its table."""

    folder: Path
    is_kept: bool = True

    @staticmethod
    def at(setting: str | None) -> Cache:
        """Return the cache in `data.cache_dir`, else in NERLOOP_CACHE, else in the user's cache folder.

        Raises ConfigError if a folder that was named can't be used. If only the default can't, nothing is kept.
        """
        named = setting or os.environ.get("NERLOOP_CACHE")
        try:
            folder = Path(named) if named else _users_folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            tempfile.TemporaryFile(dir=folder).close()
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a user without a home
            reason = getattr(error, "strerror", None) or str(error)
            if named:
                raise ConfigError(f"data.cache_dir {named}: can't be used: {reason}; name another folder") from error
            log.warning("warning: no cache: %s; set data.cache_dir to a folder to keep what is read", reason)
            return Cache.temporary()
        return Cache(folder)

    @staticmethod
    def temporary() -> Cache:
        """Return a cache that keeps nothing."""
        return Cache(Path(tempfile.gettempdir()), is_kept=False)

    def table(
        self, name: str, key: str | None, schema: pa.Schema, write: Callable[[Callable[[pa.RecordBatch], None]], Any]
    ) -> Table:
        """Return the table of an entry. If there is no whole one, `write` creates it.

        `write` gets a function that adds a batch of ROWS rows (the last may have fewer). It returns JSON values that
        are stored as "facts". Without a key the entry is not kept.

        Any number of processes may call this at the same time. Each one that finds no entry writes its own; the first
        one to finish is kept, and all use it. Raises DataError if it can't be written.
        """
        if key is None or not self.is_kept:
            folder = self._write(name, schema, write)
            table = Table(folder)
            # Delete it at once, so that nothing is left even if this process is killed. The mapped file stays readable.
            if os.name == "nt":  # Windows can't delete a mapped file
                weakref.finalize(table, shutil.rmtree, folder, ignore_errors=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            return table
        entry = self.folder / f"{name}-{key[:40]}"
        if (existing := _open(entry, schema)) is not None:
            return existing
        unfinished = self._write(name, schema, write)
        # Sync the files, then the folder, before the rename: after a crash no entry may have its name but not its data.
        for path in (unfinished / ARROW, unfinished / ABOUT, unfinished):
            _sync(path)
        try:
            unfinished.rename(entry)
        except OSError:  # another process finished first; use its entry
            if (existing := _open(entry, schema)) is not None:
                shutil.rmtree(unfinished, ignore_errors=True)
                return existing
            raise
        log.info("cached %s in %s", name, entry)
        return Table(entry)

    def digest(self, paths: Sequence[str]) -> str:
        """Return `digest_of` some files.

        The result is cached with the size, times and inode of each file, and reused as long as these are the same.
        """
        files = list(_files_of(paths))
        names = [str(f.resolve()) for f in files]
        state = [_state_of(f) for f in files]
        key = fingerprint(names, list(paths))
        cached = self._read_value("digest", key)
        if isinstance(cached, dict) and cached.get("state") == state and isinstance(cached.get("sha256"), str):
            return str(cached["sha256"])
        sha256 = digest_of(paths)
        # A file that was just changed may change again without a new time, so its digest is not cached yet.
        newest = max((max(modified, changed) for _, modified, changed, _ in state), default=0)
        if newest < time.time_ns() - SETTLED_SECONDS * 1e9:
            self._write_value("digest", key, {"state": state, "sha256": sha256})
        return sha256

    def value(self, name: str, key: str | None, make: Callable[[], T]) -> T:
        """Return a cached JSON value. If there is none, call `make` and cache what it returns.

        Without a key the value is not cached. If the folder can't be written, the value is not cached either.
        """
        if key is None:
            return make()
        cached: T | None = self._read_value(name, key)
        if cached is None:
            cached = make()
            self._write_value(name, key, cached)
        return cached

    def prune(self) -> None:
        """Delete entries and values that no run has used for KEPT_DAYS and none is using now."""
        if not self.is_kept:
            return
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        for path in self.folder.iterdir():
            if re.fullmatch(ENTRY, path.name):
                with contextlib.suppress(OSError):  # another process deleted it first, uses it, or owns it
                    _remove_unused(path, oldest)

    def _read_value(self, name: str, key: str) -> Any:
        """Return a cached value, or None if there is none or it can't be read."""
        if not self.is_kept:
            return None
        with contextlib.suppress(OSError, ValueError):
            path = self._file(name, key)
            value = json.loads(path.read_text(encoding="utf-8"))
            _note_use(path)
            return value
        return None

    def _write_value(self, name: str, key: str, value: Any) -> None:
        if not self.is_kept:
            return
        _remove_forgotten(self.folder, name)
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=self.folder, prefix=f".{name}-") as scratch:
            written = Path(scratch, "value.json")
            written.write_text(json.dumps(value), encoding="utf-8")
            written.replace(self._file(name, key))

    def _file(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:40]}.json"

    def _write(self, name: str, schema: pa.Schema, write: Callable[[Callable[[pa.RecordBatch], None]], Any]) -> Path:
        """Write an entry to a temporary folder in the cache and return that folder."""
        import pyarrow as pa

        _remove_forgotten(self.folder, name)
        try:
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
        except OSError as error:
            raise DataError(self._describe(error)) from error
        num_rows = 0
        try:
            with pa.OSFile(str(unfinished / ARROW), "wb") as file, pa.ipc.new_file(file, schema) as writer:

                def add(batch: pa.RecordBatch) -> None:
                    nonlocal num_rows
                    assert num_rows % ROWS == 0, "only the last batch may be short"
                    num_rows += batch.num_rows
                    writer.write_batch(batch)

                facts = write(add)
            about = {"num_bytes": (unfinished / ARROW).stat().st_size, "num_rows": num_rows, "facts": facts}
            (unfinished / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except BaseException as error:  # also Ctrl-C: leave nothing unfinished
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, OSError):
                raise DataError(self._describe(error)) from error
            raise
        return unfinished

    def _describe(self, error: OSError) -> str:
        return (
            f"data.cache_dir {self.folder}: can't be written: {error.strerror or error}; "
            "make room there, or set it to another folder"
        )


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def code_fingerprint(*names: str) -> str:
    """Return the SHA-256 of the source of some of nerloop's files and packages.

    As a part of cache keys it makes sure that no version of the code reads what another version wrote.
    """
    package = Path(__file__).parents[1]
    return digest_of([str(path) for path in _files_of([str(package / name) for name in names]) if path.suffix == ".py"])


def digest_of(paths: Sequence[str]) -> str:
    """Return the SHA-256 of one file's bytes; for several files or a folder, the SHA-256 of all names and digests.

    Names are relative to their folder, and "." for a file that is named itself. So a renamed file changes the result,
    but a moved folder does not.
    """
    if len(paths) == 1 and not Path(paths[0]).is_dir():
        return _digest_of_file(Path(paths[0]))
    files = [(path, file) for path in map(Path, paths) for file in _files_of([str(path)])]
    return fingerprint([(file.relative_to(path).as_posix(), _digest_of_file(file)) for path, file in files])


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def batched(values: Iterable[T], size: int = ROWS) -> Iterator[list[T]]:
    """Yield values in lists of `size`; the last may be shorter."""
    iterator = iter(values)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _users_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return Path(root if root and os.path.isabs(root) else Path.home() / ".cache", "nerloop")


def _files_of(paths: Iterable[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _state_of(path: Path) -> list[int]:
    """Return size, both times and inode of a file. Programs can set mtime back, but not ctime."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _open(entry: Path, schema: pa.Schema) -> Table | None:
    """Return the table of an entry, or None if there is none. A damaged entry is deleted."""
    import pyarrow as pa

    if not entry.exists():
        return None
    _note_use(entry / ABOUT)  # before opening: `prune` checks the time again when it holds the lock
    try:
        table = Table(entry)
        if not table.schema.equals(schema):
            raise ValueError("it has other columns")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        if not entry.exists():  # another process deleted it meanwhile
            return None
        log.warning("warning: %s is damaged (%s) and is written again", entry, " ".join(str(error).split())[:200])
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return table


def _note_use(path: Path) -> None:
    with contextlib.suppress(OSError):  # it may belong to another user
        os.utime(path)


def _lock(descriptor: int, *, exclusive: bool) -> None:
    """Lock a file until it is closed. Raises OSError if another lock excludes this one, or locks are not supported."""
    if fcntl is not None:  # without it (Windows) no lock is needed: a mapped file can't be deleted there
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _remove_unused(path: Path, oldest: float) -> None:
    """Delete an entry or value whose last use is before `oldest`, unless it is in use. Raises OSError."""
    used = path if path.is_file() else path / ABOUT
    if used.stat().st_mtime >= oldest:
        return
    if path.is_file():
        path.unlink()
        return
    with used.open("r+") as file:  # exclusive locks on network file systems need a file open for writing
        _lock(file.fileno(), exclusive=True)
        # A process may have opened the entry since the first look. Rename first: nobody can open half an entry then.
        if used.stat().st_mtime < oldest:
            gone = path.with_name(f".{path.name}-{os.getpid()}")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _remove_forgotten(folder: Path, name: str) -> None:
    """Delete unfinished entries of killed processes; nothing in them has changed for FORGOTTEN_SECONDS."""
    for path in folder.glob(f".{name}-*"):
        with contextlib.suppress(OSError):
            last = max(p.stat().st_mtime for p in (path, *path.iterdir()))
            if time.time() - last > FORGOTTEN_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
