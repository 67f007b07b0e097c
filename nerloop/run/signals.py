"""Signals that ask a run to stop: noted when they come, agreed on by all processes, obeyed between two steps.

Nothing here runs at import, and what an operating system lacks is left out, so that the package imports everywhere.
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
"""Ctrl-C, a scheduler's or launcher's wish, Slurm's usual warning before the time limit, a closed terminal."""

SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "tmux", "screen", "nohup"}


class Interruption:
    """Whether a run was asked to stop. Inside `with` a signal is only noted; a second Ctrl-C ends the process at once.

    Between two steps each process asks `is_agreed`, and all get the same answer; inside an evaluation they look at
    `signal` to break off, and `check` together at its end.
    """

    def __init__(self, num_processes: int = 1) -> None:
        """Make it for one process, or for all of a process group that stands already."""
        self.signal = ""  # the name of the first one that this process got
        self._before: dict[int, Any] = {}
        self._asked: tuple[Any, Any] | None = None
        self._group: Any = None
        if num_processes > 1:
            from torch import distributed

            # On the host and beside the gradients' group, so that asking waits for no device.
            self._group = distributed.new_group(backend="gloo")

    def is_agreed(self) -> bool:
        """Return whether all processes stop here; each must ask as often as the others.

        With several processes it is the answer to what was asked one call before, so that nobody waits for the network.
        """
        if self._group is None:
            return bool(self.signal)
        asked, self._asked = self._asked, self._ask()
        return asked is not None and _answer(asked)

    def check(self) -> None:
        """Raise Interrupted on every process where any of them was asked to stop; all must call it."""
        if self.signal if self._group is None else _answer(self._ask()):
            raise Interrupted(f"{self.signal or 'a signal to another process'}: stopped")

    def _ask(self) -> tuple[Any, Any]:
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
            _answer(self._asked)  # nothing may be under way when the group is closed
            self._asked = None


def end_at_once_on_signals() -> None:
    """Let every such signal end the process with one line: until there is a run there is nothing to save.

    It does not raise: libraries catch what comes up while they are imported or set up, and turn it into their own.
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
    """Let every such signal pass: the process is about to end by itself."""
    _handle(signal.SIG_IGN)


def follow_launcher() -> None:
    """Ask for SIGTERM when the launcher dies: accelerate's passes no signal on, and an orphan would train on (Linux).

    What a shell started is left alone: it outlives the shell where its user wants that.
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
    """Set the handler of every signal of SIGNALS and return the handlers before; none outside the main thread."""
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
    flag, work = asked
    work.wait()
    return bool(flag.item())
