"""Signals as they are noted, agreed on and obeyed; real trainings get them in tests/launch/test_interruption.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerloop.errors import Interrupted
from nerloop.run.signals import SIGNALS, Interruption

is_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes follow their launcher on Linux")


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def handlers() -> list:
    return [signal.getsignal(getattr(signal, name)) for name in SIGNALS]


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment(**variables)
    )


def environment(**variables: str) -> dict[str, str]:
    launcher = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
    return {name: value for name, value in os.environ.items() if name not in launcher} | variables


def raise_all(*numbers: int) -> None:
    for number in numbers:
        signal.raise_signal(number)


# Noted


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_noted_by_its_name(name):
    if name == "SIGHUP":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
    with Interruption() as interruption:
        assert (interruption.signal, interruption.is_agreed()) == ("", False)
        signal.raise_signal(getattr(signal, name))
        assert (interruption.signal, interruption.is_agreed()) == (name, True)


def test_the_first_signal_is_the_reason():
    with Interruption() as interruption:
        raise_all(signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
        assert interruption.signal == "SIGUSR1"


def test_a_second_ctrl_c_ends_it_at_once():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interruption.signal == "SIGINT"


def test_ctrl_c_and_the_launchers_sigterm_are_no_second_ctrl_c():
    with Interruption() as interruption:
        raise_all(signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
        assert interruption.signal == "SIGINT"
    with Interruption() as interruption:
        raise_all(signal.SIGTERM, signal.SIGINT, signal.SIGINT)
        assert interruption.signal == "SIGTERM"


def test_check_raises_what_was_noted():
    with Interruption() as interruption:
        interruption.check()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match=r"^SIGTERM: stopped$") as caught:
            interruption.check()
    assert caught.value.exit_code == 130


# Handlers


@pytest.mark.parametrize("error", [None, Interrupted, KeyboardInterrupt])
def test_handlers_are_those_of_before_when_it_is_left(error):
    def handler(number, frame):
        raise AssertionError

    for name in SIGNALS:
        signal.signal(getattr(signal, name), handler)
    interruption = Interruption()
    assert handlers() == [handler] * 4
    try:
        with interruption:
            assert handler not in handlers()
            if error is not None:
                raise error
    except (Interrupted, KeyboardInterrupt):
        pass
    assert handlers() == [handler] * 4


def test_nohup_stays():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGHUP)
        assert interruption.signal == ""
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_outside_the_main_thread_it_sets_no_handlers():
    found = []

    def work() -> None:
        before = handlers()
        with Interruption() as interruption:
            found.extend([handlers() == before, interruption.is_agreed()])
            interruption.check()
        found.append(handlers() == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True, False, True]


@pytest.mark.parametrize("name", SIGNALS)
def test_before_the_loop_each_signal_stops_the_process_at_once(tmp_path, name):
    # As in the middle of an import that makes a dataclass: with -m, Python ends itself with SIGINT where a
    # KeyboardInterrupt came out of an exec, even if that was caught.
    done = run_main(tmp_path, f"exec('signal.raise_signal(signal.{name})')")
    assert (done.stderr, done.returncode) == (STOPPED_AT_ONCE.format(name), 130)


def test_before_the_loop_no_library_turns_a_signal_into_its_own_error(tmp_path):
    # As tqdm does with what is raised while it makes its lock.
    done = run_main(tmp_path, "try: signal.raise_signal(signal.SIGTERM)\n    finally: signal.no_such_name")
    assert (done.stderr, done.returncode) == (STOPPED_AT_ONCE.format("SIGTERM"), 130)


def test_signals_do_not_disturb_the_end_of_a_process(tmp_path):
    end = "for name in interruption.SIGNALS: atexit.register(signal.raise_signal, getattr(signal, name))"
    done = run_main(tmp_path, f"{end}\n    raise Interrupted('SIGTERM: stopped')")
    assert (done.stderr, done.returncode) == ("nerloop: SIGTERM: stopped\n", 130)
    done = run_main(tmp_path, end)
    assert (done.stderr, done.returncode) == ("", 0)


STOPPED_AT_ONCE = (
    "nerloop: stopped at once by {}; nothing was saved just now, --run.resume auto goes on from the last checkpoint\n"
)


def run_main(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run nerloop.train's main in a process of its own, with another function in place of the training."""
    (folder / "other.py").write_text(f"""
import atexit, importlib, signal
from nerloop.run import signals as interruption
from nerloop.errors import Interrupted

train = importlib.import_module("nerloop.train")

class Nothing:
    def report(self, config):
        return ""

def other(config, started=None):
    {body}
    return Nothing()

signal.signal(signal.SIGHUP, signal.SIG_DFL)
train.train = other
train.main()
""")
    return subprocess.run(
        [sys.executable, "-m", "other"], cwd=folder, capture_output=True, text=True, timeout=60, env=environment()
    )


# Several processes


@pytest.fixture
def _group(tmp_path) -> Iterator[None]:
    """Make this process a group of its own."""
    from torch import distributed

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("_group")
def test_a_group_agrees_on_what_was_asked_one_call_before():
    with Interruption(num_processes=2) as interruption:
        assert [interruption.is_agreed(), interruption.is_agreed()] == [False, False]
        signal.raise_signal(signal.SIGTERM)
        assert [interruption.is_agreed(), interruption.is_agreed()] == [False, True]


@pytest.mark.usefixtures("_group")
def test_a_group_checks_at_once():
    with Interruption(num_processes=2) as interruption:
        interruption.check()
        assert interruption.is_agreed() is False
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Interrupted, match=r"^SIGUSR1: stopped$"):
            interruption.check()


# Launchers

TELL = """
import ctypes
from nerloop.run.signals import follow_launcher
follow_launcher()
asked = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(asked), 0, 0, 0)  # PR_GET_PDEATHSIG
print(asked.value)
"""


@is_linux
@pytest.mark.parametrize("name", ["TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"])
def test_a_launched_process_asks_for_sigterm_when_its_launcher_dies(name):
    assert run_python(TELL, **{name: "no"}).stdout == "15\n"


@is_linux
def test_without_a_launcher_nothing_is_asked_for():
    assert run_python(TELL).stdout == "0\n"


@is_linux
def test_what_a_shell_started_may_outlive_it():
    done = subprocess.run(
        ["bash", "-c", '"$@"; true', "bash", sys.executable, "-c", TELL],
        capture_output=True, text=True, timeout=60, env=environment(ACCELERATE_MIXED_PRECISION="no"),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


@is_linux
def test_an_orphan_gets_sigterm(tmp_path):
    orphan = """
import pathlib, signal, sys, time
from nerloop.run.signals import Interruption, follow_launcher
with Interruption() as interruption:
    follow_launcher()
    pathlib.Path("ready").touch()
    while not interruption.signal:
        time.sleep(0.01)
    pathlib.Path("obeyed.tmp").write_text(interruption.signal)
    pathlib.Path("obeyed.tmp").rename("obeyed")
"""
    launcher = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", orphan],
        cwd=tmp_path, env=environment(TORCHELASTIC_RUN_ID="none"),
    )  # fmt: skip
    wait_for(tmp_path / "ready")
    launcher.kill()
    launcher.wait()
    wait_for(tmp_path / "obeyed")
    assert (tmp_path / "obeyed").read_text() == "SIGTERM"


@is_linux
def test_a_launcher_that_has_died_already_is_noticed():
    code = """
import os, signal
parents = iter([10, 11])
os.getppid = lambda: next(parents)
from nerloop.run.signals import Interruption, follow_launcher
with Interruption() as interruption:
    follow_launcher()
print(interruption.signal)
"""
    assert run_python(code, TORCHELASTIC_RUN_ID="none").stdout == "SIGTERM\n"


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.01)


# Imports

IMPORT = """
import signal, sys
{before}
handlers = [signal.getsignal(number) for number in signal.valid_signals()]
import nerloop.run.signals, nerloop.run.lock
assert handlers == [signal.getsignal(number) for number in signal.valid_signals()]
print(*(name for name in ("ctypes", "fcntl", "torch") if sys.modules.get(name)))
"""


def test_the_import_does_nothing():
    assert run_python(IMPORT.format(before="")).stdout == "\n"


def test_the_package_imports_and_is_interrupted_where_there_are_fewer_signals_and_no_locks():
    """As on Windows, which has SIGINT and SIGTERM, and neither fcntl nor prctl."""
    code = (
        IMPORT.format(before="import pathlib, tempfile\nsys.platform = 'win32'\nsys.modules['fcntl'] = None\n"
                             "sys.modules['ctypes'] = None\ndel signal.SIGUSR1, signal.SIGHUP")
        + """
from nerloop.run.signals import Interruption, follow_launcher
from nerloop.run.lock import FolderLock
follow_launcher()
with Interruption() as interruption:
    signal.raise_signal(signal.SIGTERM)
print(interruption.signal)
with FolderLock() as lock:
    lock.take(pathlib.Path(tempfile.gettempdir()))
print("no lock taken")
"""
    )  # fmt: skip
    done = run_python(code, TORCHELASTIC_RUN_ID="none")
    assert done.stdout == "\nSIGTERM\nno lock taken\n"
    assert done.returncode == 0
