"""Rows on disk, more than memory holds if need be: Arrow files that are written once and mapped; the cache of them.

An entry of the cache is a folder `<name>-<key>`: `rows.arrow`, and `about.json` with the size of that and what else was
found out on the way. It is written beside, synced and renamed, so that an entry is whole or not there; one that is
damaged all the same is made anew. The key is a fingerprint of everything that the rows depend on. Small values are
files `<name>-<key>.json`. What no run has used for KEPT_DAYS goes: the last use is the time of change of `about.json`
or of a value's file, and a lock on `about.json` says that the entry is in use.
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
"""Rows of a record batch (the last of a file has fewer): what a writer holds in memory."""
ARROW, ABOUT = "rows.arrow", "about.json"
ENTRY = r"(examples|features)-[0-9a-f]{40}|(digest|look)-[0-9a-f]{40}\.json"
"""Names of what `prune` may remove, in a folder that may have been somebody's before."""
FORGOTTEN_SECONDS = 24 * 3600.0
"""Age at which a half-written entry is taken for one that a killed process left."""
KEPT_DAYS = 30.0
"""Days after its last use for which an entry is kept."""
SETTLED_SECONDS = 2.0
"""Age at which a file's times tell whether it changed: a change within one tick of its clock would not show."""


class Table:
    """An Arrow file, mapped: nothing of it is read before it is asked for, and the pages are the system's to drop."""

    def __init__(self, folder: Path) -> None:
        """Map the file of an entry. Raises ValueError or OSError where it is not whole."""
        import pyarrow as pa

        descriptor = os.open(folder / ABOUT, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)  # and with it goes the lock
        with contextlib.suppress(OSError):  # a file system without locks
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
        """Yield the batches, of ROWS rows each but the last."""
        return (self.batch(i) for i in range(self._reader.num_record_batches))

    def batch(self, index: int) -> pa.RecordBatch:
        """Return one batch; what is kept of it are places in the file."""
        if (batch := self._batches.get(index)) is None:
            batch = self._batches[index] = self._reader.get_batch(index)
        return batch


@dataclass(frozen=True)
class Cache:
    """A folder of entries. Where it is not `kept`, each entry goes with the table that was opened from it."""

    folder: Path
    is_kept: bool = True

    @staticmethod
    def at(setting: str | None) -> Cache:
        """Return the cache of `data.cache_dir`, else of NERLOOP_CACHE, else in the user's cache folder.

        Raises ConfigError where a folder that was asked for can't be used; without the usual one nothing is kept.
        """
        asked = setting or os.environ.get("NERLOOP_CACHE")
        try:
            folder = Path(asked) if asked else _users_folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            tempfile.TemporaryFile(dir=folder).close()
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a user without a home
            reason = getattr(error, "strerror", None) or str(error)
            if asked:
                raise ConfigError(f"data.cache_dir {asked}: can't be used: {reason}; name another folder") from error
            log.warning("warning: no cache: %s; set data.cache_dir to a folder to keep what is read", reason)
            return Cache.temporary()
        return Cache(folder)

    @staticmethod
    def temporary() -> Cache:
        """Return one that keeps nothing."""
        return Cache(Path(tempfile.gettempdir()), is_kept=False)

    def table(
        self, name: str, key: str | None, schema: pa.Schema, write: Callable[[Callable[[pa.RecordBatch], None]], Any]
    ) -> Table:
        """Return the table of an entry; where there is none that is whole, `write` makes it.

        `write` is given a function that takes a batch of ROWS rows (the last may have fewer), and returns what else
        to note as JSON under "facts". Without a key the entry is not kept. Any number of processes may ask at once:
        each that finds nothing writes one of its own, and the first stays. Raises DataError where there is no room.
        """
        if key is None or not self.is_kept:
            folder = self._write(name, schema, write)  # to be gone, whatever becomes of this process
            table = Table(folder)
            if os.name == "nt":  # where what is mapped can't be removed
                weakref.finalize(table, shutil.rmtree, folder, ignore_errors=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            return table
        entry = self.folder / f"{name}-{key[:40]}"
        if (table_there := _open(entry, schema)) is not None:
            return table_there
        beside = self._write(name, schema, write)
        for path in (beside / ARROW, beside / ABOUT, beside):
            _sync(path)
        try:
            beside.rename(entry)
        except OSError:  # another process was as quick
            if (table_there := _open(entry, schema)) is not None:
                shutil.rmtree(beside, ignore_errors=True)
                return table_there
            raise
        log.info("cached %s in %s", name, entry)
        return Table(entry)

    def digest(self, paths: Sequence[str]) -> str:
        """Return `digest_of` some files.

        It is remembered by name, size, times and inode of the files, and believed where those are still the same.
        """
        files = list(_files_of(paths))
        names = [str(f.resolve()) for f in files]
        state = [_state_of(f) for f in files]
        key = fingerprint(names, list(paths))
        found = self._read_value("digest", key)
        if isinstance(found, dict) and found.get("state") == state and isinstance(found.get("sha256"), str):
            return str(found["sha256"])
        sha256 = digest_of(paths)
        newest = max((max(modified, changed) for _, modified, changed, _ in state), default=0)
        if newest < time.time_ns() - SETTLED_SECONDS * 1e9:
            self._write_value("digest", key, {"state": state, "sha256": sha256})
        return sha256

    def value(self, name: str, key: str | None, make: Callable[[], T]) -> T:
        """Return a plain value that is kept as JSON, where there is none what `make` returns, which is then kept.

        Without a key it is not kept. A folder that can't be written to any more is nobody's loss.
        """
        if key is None:
            return make()
        found: T | None = self._read_value(name, key)
        if found is None:
            found = make()
            self._write_value(name, key, found)
        return found

    def prune(self) -> None:
        """Remove what no run has used for KEPT_DAYS and none is using now."""
        if not self.is_kept:
            return
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        for path in self.folder.iterdir():
            if re.fullmatch(ENTRY, path.name):
                with contextlib.suppress(OSError):  # another process is as quick, or may and we may not
                    _remove_unused(path, oldest)

    def _read_value(self, name: str, key: str) -> Any:
        """Return what is kept, None where there is nothing or it can't be read."""
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
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=self.folder, prefix=f".{name}-") as beside:
            written = Path(beside, "value.json")
            written.write_text(json.dumps(value), encoding="utf-8")
            written.replace(self._file(name, key))

    def _file(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:40]}.json"

    def _write(self, name: str, schema: pa.Schema, write: Callable[[Callable[[pa.RecordBatch], None]], Any]) -> Path:
        """Write an entry beside its place and return where."""
        import pyarrow as pa

        _remove_forgotten(self.folder, name)
        try:
            beside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
        except OSError as error:
            raise DataError(self._cannot(error)) from error
        num_rows = 0
        try:
            with pa.OSFile(str(beside / ARROW), "wb") as file, pa.ipc.new_file(file, schema) as writer:

                def add(batch: pa.RecordBatch) -> None:
                    nonlocal num_rows
                    assert num_rows % ROWS == 0, "only the last batch may be short"
                    num_rows += batch.num_rows
                    writer.write_batch(batch)

                facts = write(add)
            about = {"num_bytes": (beside / ARROW).stat().st_size, "num_rows": num_rows, "facts": facts}
            (beside / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(error, OSError):
                raise DataError(self._cannot(error)) from error
            raise
        return beside

    def _cannot(self, error: OSError) -> str:
        return (
            f"data.cache_dir {self.folder}: can't be written: {error.strerror or error}; "
            "make room there, or set it to another folder"
        )


def fingerprint(*parts: Any) -> str:
    """Return a SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def code_fingerprint(*names: str) -> str:
    """Return a SHA-256 of the source of some of nerloop's files and packages: what they wrote, another may not."""
    package = Path(__file__).parents[1]
    return digest_of([str(path) for path in _files_of([str(package / name) for name in names]) if path.suffix == ".py"])


def digest_of(paths: Sequence[str]) -> str:
    """Return the SHA-256 of the bytes of a file; of several, or of a folder, of the digests and names of all files.

    The name is that in the folder ("" of a file that is given by its own path). So it tells, too, what stands in which.
    """
    if len(paths) == 1 and not Path(paths[0]).is_dir():
        return _digest_of_file(Path(paths[0]))
    files = [(path, file) for path in map(Path, paths) for file in _files_of([str(path)])]
    return fingerprint([(file.relative_to(path).as_posix(), _digest_of_file(file)) for path, file in files])


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
    """Return size, the times of change (ctime can't be set back, as mtime can) and inode."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _open(entry: Path, schema: pa.Schema) -> Table | None:
    """Return the table of an entry, None where there is none; a damaged one is removed."""
    import pyarrow as pa

    if not entry.exists():
        return None
    _note_use(entry / ABOUT)  # before it is opened: `prune` looks at it once more when it has the lock
    try:
        table = Table(entry)
        if not table.schema.equals(schema):
            raise ValueError("other columns")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        if not entry.exists():  # another process removed it meanwhile
            return None
        log.warning("warning: %s is damaged (%s) and is made anew", entry, " ".join(str(error).split())[:200])
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return table


def _note_use(path: Path) -> None:
    with contextlib.suppress(OSError):  # of another user
        os.utime(path)


def _lock(descriptor: int, *, exclusive: bool) -> None:
    """Lock a file until it is closed. Raises OSError where another lock is against it, or there are no locks."""
    if fcntl is not None:  # elsewhere what is mapped can't be removed
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _remove_unused(path: Path, oldest: float) -> None:
    """Remove an entry or a value that was last used before a time and is not in use now. Raises OSError."""
    used = path if path.is_file() else path / ABOUT
    if used.stat().st_mtime >= oldest:
        return
    if path.is_file():
        path.unlink()
        return
    with used.open("r+") as file:  # network file systems want it open for writing
        _lock(file.fileno(), exclusive=True)
        if used.stat().st_mtime < oldest:
            gone = path.with_name(f".{path.name}-{os.getpid()}")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _remove_forgotten(folder: Path, name: str) -> None:
    for path in folder.glob(f".{name}-*"):
        with contextlib.suppress(OSError):
            last = max(p.stat().st_mtime for p in (path, *path.iterdir()))
            if time.time() - last > FORGOTTEN_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # folders can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
