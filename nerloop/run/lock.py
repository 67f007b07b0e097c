"""One process trains in a folder at a time: the kernel's lock, which goes with the process however that ends."""

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
    """The right to write into a run's folder, held from `take` to the end of the `with` block."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self, folder: Path, *, wait_seconds: float = 0.0) -> None:
        """Lock a run's folder, which has to be there.

        Raises ConfigError where another process still holds it after some seconds. Where the system or the file system
        has no such lock (Windows, some network storage) it warns and does without.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            log.warning("warning: no lock on this system; see that no other run uses %s", folder)
            return
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    log.warning(
                        "warning: %s can't be locked (%s); see that no other run uses it", folder, error.strerror
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

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                import fcntl

                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing leaves it to a fork that has the file open, too
            os.close(self._descriptor)
            self._descriptor = None
