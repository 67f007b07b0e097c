"""Handle signals that ask a run to stop: record them, agree on them among all processes, stop between two steps.

Signals that an operating system lacks are skipped, so the package works everywhere.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from nerloop.distributed.threads import is_launched
from nerloop.errors import Interrupted
from nerloop.run.malloc import signal_when_parent_dies

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
"""Sent by Ctrl-C; by a scheduler or launcher; by Slurm before the time limit; by a terminal that closes."""

SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "tmux", "screen", "nohup"}
"""Names of parent processes that are no launchers."""


class Interruption:
    """Tells whether a run was asked to stop. Inside `with`, signals are only recorded; a second Ctrl-C stops at once.

    Between two steps each process calls `is_agreed`, and all get the same answer. During an evaluation, each process
    breaks off if its own `signal` is set, and all call `check` at the end.
    """

    def __init__(self, num_processes: int = 1) -> None:
        """Prepare for one process, or for all processes of the group that torch.distributed has."""
        self.signal = ""  # the name of the first signal of this process
        self._before: dict[int, Any] = {}
        self._asked: tuple[Any, Any] | None = None
        self._group: Any = None
        if num_processes > 1:
            from torch import distributed

            # A group of its own, on the host: the exchange waits neither for a device nor for the gradients.
            self._group = distributed.new_group(backend="gloo")

    def is_agreed(self) -> bool:
        """Return whether all processes stop here. All must call it equally often.

        With several processes this returns the result of the previous call's exchange, so that no step waits for the
        network: they stop one step after a signal.
        """
        if self._group is None:
            return bool(self.signal)
        asked, self._asked = self._asked, self._ask()
        return asked is not None and _answer(asked)

    def check(self) -> None:
        """Raise Interrupted on every process if any of them got a signal. All must call it."""
        if self.signal if self._group is None else _answer(self._ask()):
            raise Interrupted(f"{self.signal or 'a signal to another process'}: stopped")

    def _ask(self) -> tuple[Any, Any]:
        """Start the exchange: whether any process got a signal. `_answer` waits for the result."""
        import torch
        from torch import distributed

        flag = torch.tensor(int(bool(self.signal)))
        return flag, distributed.all_reduce(flag, distributed.ReduceOp.MAX, group=self._group, async_op=True)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == "SIGINT":
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number).name

    def __enter__(self) -> Interruption:
        self._before = _handle(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asked is not None and kind is None:
            _answer(self._asked)  # no exchange may be pending when the group is closed
            self._asked = None


def end_at_once_on_signals() -> None:
    """Make every signal of SIGNALS end the process with one line. For the start-up, when there is nothing to save yet.

    The handler does not raise, because libraries catch exceptions during their import and replace them.
    """

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        os.write(2, (
            f"nerloop: stopped at once by {name}; nothing was saved just now, "
            "--run.resume auto goes on from the last checkpoint\n"
        ).encode())  # fmt: skip
        os._exit(Interrupted.exit_code)

    _handle(end)


def ignore_signals() -> None:
    """Ignore every signal of SIGNALS, since the process is about to end by itself."""
    _handle(signal.SIG_IGN)


def follow_launcher() -> None:
    """Ask the kernel for SIGTERM when the launcher dies (Linux): accelerate forwards no signal to its processes.

    A process that a shell started is left alone: its user may want it to outlive the shell.
    """
    if sys.platform != "linux" or not is_launched():
        return
    parent = os.getppid()
    try:
        name = Path(f"/proc/{parent}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        name = ""
    if name in SHELLS:
        return
    signal_when_parent_dies(signal.SIGTERM)
    if os.getppid() != parent:  # it died just before
        os.kill(os.getpid(), signal.SIGTERM)


def _handle(handler: Any) -> dict[int, Any]:
    """Set the handler of every signal of SIGNALS and return the previous ones. Outside the main thread: do nothing."""
    before = {}
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):  # nohup
            continue
        try:
            before[number] = signal.signal(number, handler)
        except ValueError:  # only the main thread may
            break
    return before


def _answer(asked: tuple[Any, Any]) -> bool:
    """Wait for the exchange that `_ask` started, and return its result."""
    flag, work = asked
    work.wait()
    return bool(flag.item())
