"""Show log lines on the terminal: held back while a run is set up, above the progress bar afterwards."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator

from nerloop.errors import NerloopError

HOLD_SECONDS = 10.0
"""Lines of the set-up are held back for at most this long."""


class _AboveTheBar(logging.Handler):
    """Writes log lines above the progress bar instead of through it.

    Lines logged during the set-up are held back until `write_held`. Most bad input is found by then, and its error line
    should not follow a page of counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[str] = []
        self._hold_until = time.monotonic() + HOLD_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        self._held.append(self.format(record))
        if time.monotonic() >= self._hold_until:
            self.write_held()

    def write_held(self) -> None:
        """Write the lines held back; later ones are written at once."""
        from tqdm import tqdm

        self._hold_until = 0.0
        for line in self._held:
            tqdm.write(line, file=sys.stderr)
        self._held.clear()


@contextlib.contextmanager
def logging_to_terminal(level: str, *, is_main: bool) -> Iterator[None]:
    """Show nerloop's log lines inside the `with` block, as `set_up_logging` does; afterwards restore all loggers.

    Lines that are still held back are written at the end of the block, unless it ends with a NerloopError, whose own
    line is enough.
    """
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    logger = logging.getLogger("nerloop")
    before = logger.handlers[:], logger.propagate, logger.level
    verbosity, hub_verbosity = transformers.logging.get_verbosity(), hub_logging.get_verbosity()
    has_progress_bars = transformers.logging.is_progress_bar_enabled()
    set_up_logging(level, is_main=is_main)
    try:
        yield
    except NerloopError:
        raise
    except BaseException:
        release_log()
        raise
    else:
        release_log()
    finally:
        logger.handlers[:], logger.propagate, level_before = before
        logger.setLevel(level_before)
        transformers.logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if has_progress_bars:
            transformers.logging.enable_progress_bar()


def release_log() -> None:
    """Write the lines that were held back, once the set-up has found no bad input."""
    for handler in logging.getLogger("nerloop").handlers:
        if isinstance(handler, _AboveTheBar):
            handler.write_held()


def set_up_logging(level: str, *, is_main: bool) -> None:
    """Show nerloop's log lines of this level and above on the main process, and keep the libraries quiet."""
    logger = logging.getLogger("nerloop")
    logger.handlers[:] = [_AboveTheBar()]
    logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    logger.propagate = False
    logger.setLevel(level.upper() if is_main else logging.ERROR)
    quiet_libraries()


def quiet_libraries() -> None:
    """Make transformers and the hub's client log nothing but errors."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # advice to install torch, given at its import
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    # The client retries for half a minute and logs each try; our own line says how it ended.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
