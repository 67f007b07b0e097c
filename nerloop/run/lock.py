"""Lock a folder, so that one process trains in it at a time. The kernel releases the lock however the process ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from pathlib import Path
from types import TracebackType

from nerloop.errors import ConfigError

LOCK = Path("checkpoints", ".lock")
POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


class FolderLock:
    """A lock on a run's folder, held from `take` to the end of the `with` block."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self, folder: Path, *, wait_seconds: float = 0.0, file: Path = LOCK) -> None:
        """Lock the folder of a run, which must exist; `file` is the file in it that is locked.

        Raises ConfigError if another process still holds the lock after `wait_seconds`. Without support for such locks
        (Windows, some network storage) it logs a warning and goes on.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            log.warning("warning: no lock on this system; make sure that no other run uses %s", folder)
            return
        descriptor = os.open(folder / file, os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    log.warning(
                        "warning: %s can't be locked (%s); make sure that no other run uses it", folder, error.strerror
                    )
                elif time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)
                    continue
                else:
                    os.close(descriptor)
                    raise ConfigError(
                        f"run.dir {folder}: another process is training in it; "
                        "wait for its end, or choose another folder"
                    ) from None
            self._descriptor = descriptor
            return

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that a child process must inherit to hold the lock as well."""
        return () if self._descriptor is None else (self._descriptor,)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                import fcntl

                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing is not enough: a fork may have the file open
            os.close(self._descriptor)
            self._descriptor = None
