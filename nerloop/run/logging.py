"""Log lines on the terminal: held back while a run is set up, above the progress bar afterwards."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

HOLD_SECONDS = 10.0


class _AboveTheBar(logging.Handler):
    """Log lines go above the progress bar instead of through it.

    What is said while a run is set up is held back until `let_out`, for some seconds at most: bad input, most of which
    is found by then, is to be told in one line and not behind a page of counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[str] = []
        self._hold_until = time.monotonic() + HOLD_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        self._held.append(self.format(record))
        if time.monotonic() >= self._hold_until:
            self.let_out()

    def let_out(self) -> None:
        """Write what was held back, and from now on at once."""
        from tqdm import tqdm

        self._hold_until = 0.0
        for line in self._held:
            tqdm.write(line, file=sys.stderr)
        self._held.clear()


def release_log() -> None:
    """Let out what was said while the run was set up; the input is good."""
    for handler in logging.getLogger("nerloop").handlers:
        if isinstance(handler, _AboveTheBar):
            handler.let_out()


def set_up_logging(level: str, *, is_main: bool) -> None:
    """Let nerloop's log lines of this level and above through on the main process, and keep the libraries quiet."""
    logger = logging.getLogger("nerloop")
    logger.handlers[:] = [_AboveTheBar()]
    logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    logger.propagate = False
    logger.setLevel(level.upper() if is_main else logging.ERROR)
    quiet_libraries()


def quiet_libraries() -> None:
    """Let transformers and the hub's client say nothing but errors."""
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    # It retries for half a minute with a line each; our own line says how it ended.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextlib.contextmanager
def logging_to_terminal(level: str, *, is_main: bool) -> Iterator[None]:
    """Write nerloop's log lines to the terminal inside, as `set_up_logging` says; afterwards logging is as before."""
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    logger = logging.getLogger("nerloop")
    before = logger.handlers[:], logger.propagate, logger.level
    verbosity, hub_verbosity = transformers.logging.get_verbosity(), hub_logging.get_verbosity()
    has_progress_bars = transformers.logging.is_progress_bar_enabled()
    set_up_logging(level, is_main=is_main)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate, logger.level = before
        transformers.logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if has_progress_bars:
            transformers.logging.enable_progress_bar()
