"""Signals to real trainings and their launchers: the step is finished and saved, and a resumed run ends as undisturbed.

A start takes seconds on one core, so that the scenarios run side by side; each of them is a test.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nerloop.run import atomic, checkpoint
from nerloop.run.lock import LOCK

sys.path.insert(0, str(Path(__file__).parent))
import faulty
from faulty import LONG, TWO_PROCESSES, Launch

SECONDS = 60.0  # in which a signal is obeyed, on a machine that is busy; it is 1 to 3 of them


@dataclass(frozen=True)
class Inputs:
    """What a scenario is given: a folder of its own, flags, and the runs that nobody disturbed."""

    folder: Path
    files: list[str]
    long_validation: str  # a flag; evaluating that split takes some seconds
    undisturbed: dict[int, Future]  # their folders, by the number of processes

    @property
    def arguments(self) -> list[str]:
        """The flags of a training of some seconds."""
        return [*self.files, *LONG]

    @property
    def run(self) -> Path:
        """The folder of the scenario's run."""
        return self.folder / "run"

    def differences(self, num_processes: int) -> list[str]:
        """Return where the run differs from the one that nobody disturbed."""
        return faulty.differences(self.undisturbed[num_processes].result(), self.run)


SCENARIOS: dict[str, Callable[[Inputs], None]] = {}


def scenario(function: Callable[[Inputs], None]) -> Callable[[Inputs], None]:
    SCENARIOS[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def _default_signals() -> Iterator[None]:
    """Start trainings that don't ignore what nohup lets its children ignore."""
    numbers = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM", "SIGUSR1")]
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="module")
def scenarios(tiny_model, files, tmp_path_factory, _default_signals) -> Iterator[dict[str, Future]]:
    """Return the scenarios, each of them running or waiting for its turn."""
    folder = tmp_path_factory.mktemp("interruption")
    undisturbed = tmp_path_factory.getbasetemp() / "undisturbed"
    undisturbed.mkdir(exist_ok=True)
    long_validation = folder / "long.conll"
    long_validation.write_text(Path(files["validation"]).read_text(encoding="utf-8") * 100, encoding="utf-8")
    inputs = Inputs(folder, faulty.input_flags(tiny_model, files), f"--data.validation={long_validation}", {})
    with ThreadPoolExecutor(faulty.num_workers()) as pool:
        for num_processes, profile in ((2, TWO_PROCESSES), (1, None)):
            run = undisturbed / f"long-{num_processes}"
            inputs.undisturbed[num_processes] = pool.submit(
                faulty.train_undisturbed, run, inputs.arguments, profile=profile
            )
        for name in SCENARIOS:
            (folder / name).mkdir()
        yield {
            name: pool.submit(function, replace(inputs, folder=folder / name)) for name, function in SCENARIOS.items()
        }
        pool.shutdown(cancel_futures=True)


def check_interrupted(launch: Launch, reason: str) -> None:
    """Assert that a launch was interrupted between two steps, and has saved the last one."""
    status = faulty.status(launch.run)
    step = status["step"]
    assert (status["state"], status["num_steps"]) == ("interrupted", 300)
    assert launch.first_step < step == faulty.last_step(launch.run)
    atomic.check_folder(launch.run / "checkpoints" / f"step-{step}")
    how_to_go_on = (
        f"; go on with the same command and --run.dir {launch.run} --run.resume auto"
        if not launch.is_plain
        else f"; go on with: python -m nerloop.train --config {launch.run / 'config.yaml'} --run.dir {launch.run} "
        "--run.resume auto"
    )
    # A signal that comes during an evaluation is obeyed there; the signal to one of two is the other one's reason.
    reasons = [f"{r}: stopped{where}{how_to_go_on}" for r in (reason, "a signal to another process")
               for where in ("", f" after step {step}")]  # fmt: skip
    assert status["reason"] in reasons
    assert [line for line in launch.stderr.splitlines() if line.startswith("nerloop:")] == [
        f"nerloop: {status['reason']}"
    ]


def has_open(launch: Launch, file: Path) -> bool:
    """Return whether a rank has a file open."""
    for pid in launch.ranks():
        with contextlib.suppress(OSError):  # closed, or dead, by now: ask again
            if str(file) in [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]:
                return True
    return False


def num_lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


# Evaluations


@scenario
def a_signal_to_one_of_two_during_an_evaluation_does_not_wait_for_its_end(inputs: Inputs) -> None:
    interrupt_evaluation(inputs, profile=TWO_PROCESSES, code=1)


@scenario
def a_signal_during_an_evaluation_does_not_wait_for_its_end_and_a_resumed_run_makes_up_for_it(inputs: Inputs) -> None:
    arguments = interrupt_evaluation(inputs, profile=None, code=130)
    with Launch(inputs.run, arguments, resume="auto") as launch:
        assert launch.wait() == 0
    whole = faulty.train_undisturbed(inputs.folder / "whole", arguments)
    assert faulty.differences(whole, inputs.run) == []


def interrupt_evaluation(inputs: Inputs, *, profile: str | None, code: int) -> list[str]:
    """Train with a long evaluation and send SIGTERM to the last rank in the middle of it; return the flags."""
    steps = ("--train.max_steps=4", "--train.eval_every=2", "--train.save_every=3")  # nothing is saved before step 2
    arguments = [*inputs.files, inputs.long_validation, *steps]
    with Launch(inputs.run, arguments, profile=profile) as launch:
        launch.wait_until(lambda: len(launch.ranks()) == (1 if profile is None else 2))
        last = launch.ranks()[-1]  # now: looking for it takes longer than the evaluation on a busy machine
        launch.wait_until(lambda: num_lines(inputs.run) == 1)  # the loss of step 2; its evaluation comes next
        os.kill(last, signal.SIGTERM)
        assert launch.wait(seconds=SECONDS) == code
    assert num_lines(inputs.run) == 1
    status = faulty.status(inputs.run)
    assert (status["state"], status["step"]) == ("interrupted", 2)
    assert checkpoint.load_state(inputs.run / "checkpoints" / "step-2")["progress"]["evaluated"] == 0
    return arguments


# Launchers


@scenario
def a_launcher_of_one_process_dies_and_the_resumed_training_waits_for_the_orphan(inputs: Inputs) -> None:
    run = inputs.run
    with Launch(run, inputs.arguments, profile="cpu.yaml") as launch:
        launch.wait_for_step()
        launch.process.send_signal(signal.SIGTERM)
        assert launch.wait(seconds=SECONDS) == -signal.SIGTERM
    check_interrupted(launch, "SIGTERM")
    with Launch(run, inputs.arguments, profile="cpu.yaml", resume="auto") as launch:
        launch.wait_for_step()
        (orphan,) = launch.ranks()
        os.kill(orphan, signal.SIGSTOP)  # so that it is still saving when the next one comes
        launch.process.kill()
        with Launch(run, inputs.arguments, profile="cpu.yaml", resume="auto") as resumed:
            resumed.wait_until(lambda: has_open(resumed, run / LOCK))
            os.kill(orphan, signal.SIGCONT)
            assert launch.wait(seconds=SECONDS) == -signal.SIGKILL
            assert resumed.wait() == 0
    (saved,) = re.findall(r"^nerloop: SIGTERM: stopped after step (\d+);", launch.stderr, re.MULTILINE)
    assert f"\nresumed from {run / 'checkpoints' / f'step-{saved}'}\n" in resumed.stderr
    assert inputs.differences(1) == []


@scenario
def two_processes_stop_together_whoever_gets_the_signal(inputs: Inputs) -> None:
    run = inputs.run
    for who, number, code, reason in (
        ("launcher", signal.SIGTERM, 1, "SIGTERM"),
        ("launcher", signal.SIGKILL, -signal.SIGKILL, "SIGTERM"),  # which an orphan gets
        (1, signal.SIGTERM, 1, "SIGTERM"),
        (0, signal.SIGUSR1, 1, "SIGUSR1"),
    ):
        with Launch(run, inputs.arguments, profile=TWO_PROCESSES, resume="auto" if run.exists() else "off") as launch:
            launch.wait_for_step()
            ranks = launch.ranks()
            assert len(ranks) == 2
            os.kill(launch.process.pid if who == "launcher" else ranks[who], number)
            assert launch.wait(seconds=SECONDS) == code
        check_interrupted(launch, reason)
    with Launch(run, inputs.arguments, profile=TWO_PROCESSES, resume="auto") as launch:
        assert launch.wait() == 0
    assert inputs.differences(2) == []


@scenario
def a_killed_rank_ends_the_launch_and_an_elastic_restart_goes_on_by_itself(inputs: Inputs) -> None:
    run = inputs.run
    with Launch(run, inputs.arguments, profile=TWO_PROCESSES) as launch:
        launch.wait_for_step()
        os.kill(launch.ranks()[1], signal.SIGKILL)
        assert launch.wait(seconds=60) == 1
    assert faulty.status(run)["state"] in ("running", "failed")  # running where rank 0 was ended before it could say so
    restarts = ["--max_restarts", "1"]
    with Launch(run, inputs.arguments, profile=TWO_PROCESSES, options=restarts, resume="auto") as launch:
        launch.wait_for_step()
        os.kill(launch.ranks()[0], signal.SIGKILL)
        assert launch.wait() == 0
    assert launch.stderr.count(f"resumed from {run / 'checkpoints'}/step-") == 2
    assert inputs.differences(2) == []


@scenario
def an_elastic_restart_needs_a_folder_to_find(inputs: Inputs) -> None:
    without_folder = [*inputs.arguments, "--run.dir", "null"]
    with Launch(inputs.run, without_folder, profile=TWO_PROCESSES, options=["--max_restarts", "1"]) as launch:
        assert launch.wait() == 1
    line = "nerloop: error: run.dir: found none, expected a folder: --max_restarts has to find the run again\n"
    assert line in launch.stderr
    assert sorted(p.suffix for p in inputs.folder.iterdir()) == [".err", ".out"]


# One process


@scenario
def each_signal_ends_a_training_with_130_and_what_it_did_is_saved(inputs: Inputs) -> None:
    for name in ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"):
        resume = "off" if name == "SIGTERM" else "auto"
        with Launch(inputs.run, inputs.arguments, resume=resume) as launch:
            launch.wait_for_step()
            launch.process.send_signal(getattr(signal, name))
            assert launch.wait(seconds=SECONDS) == 130
        check_interrupted(launch, name)
        assert "Traceback" not in launch.stderr
    with Launch(inputs.run, inputs.arguments, resume="auto") as launch:
        assert launch.wait() == 0
    assert inputs.differences(1) == []


@scenario
def more_signals_while_it_leaves_change_nothing(inputs: Inputs) -> None:
    with Launch(inputs.run, inputs.arguments) as launch:
        launch.wait_for_step()
        launch.process.send_signal(signal.SIGTERM)
        launch.wait_until(lambda: faulty.status(launch.run)["state"] == "interrupted")
        while launch.process.poll() is None:
            faulty.send(launch.process.pid, signal.SIGTERM)
            time.sleep(0.01)
    assert launch.process.returncode == 130
    check_interrupted(launch, "SIGTERM")
    assert "Traceback" not in launch.stderr


@scenario
def a_signal_as_soon_as_it_can_be_caught_ends_it_at_once_with_one_line(inputs: Inputs) -> None:
    stop_during_start_up(inputs, "SIGTERM", loaded=b"")


@scenario
def a_signal_during_an_import_ends_it_at_once_with_one_line(inputs: Inputs) -> None:
    stop_during_start_up(inputs, "SIGINT", loaded=b"libtorch_cpu.so")


def stop_during_start_up(inputs: Inputs, name: str, *, loaded: bytes) -> None:
    """Send a signal as soon as signals are handled and a library is loaded."""

    def has_come_far_enough() -> bool:
        status = faulty.read_process(launch.process.pid, "status").decode()
        caught = next((int(x.split()[1], 16) for x in status.splitlines() if x.startswith("SigCgt:")), 0)
        is_handled = bool(caught >> (signal.SIGUSR1 - 1) & 1)  # SIGINT is by Python itself
        return is_handled and loaded in faulty.read_process(launch.process.pid, "maps")

    with Launch(inputs.run, inputs.arguments) as launch:
        launch.wait_until(has_come_far_enough)
        launch.process.send_signal(getattr(signal, name))
        assert launch.wait(seconds=SECONDS) == 130
    assert launch.stderr == (
        f"nerloop: stopped at once by {name}; nothing was saved just now, "
        "--run.resume auto goes on from the last checkpoint\n"
    )
    assert not inputs.run.exists()


@scenario
def a_signal_just_before_the_first_step_leaves_no_run_that_claims_to_be_running(inputs: Inputs) -> None:
    with Launch(inputs.run, inputs.arguments) as launch:
        launch.wait_until((launch.run / "environment.json").exists)  # which is the first thing behind status.json
        launch.process.send_signal(signal.SIGTERM)
        assert launch.wait(seconds=SECONDS) == 130
    assert faulty.status(launch.run)["state"] == "interrupted"
    assert "Traceback" not in launch.stderr


@scenario
def a_second_training_in_a_folder_is_refused_and_the_first_undisturbed(inputs: Inputs) -> None:
    run = inputs.run
    with Launch(run, inputs.arguments) as first:
        first.wait_for_step()
        os.kill(first.process.pid, signal.SIGSTOP)  # it is in no hurry to end
        with Launch(run, inputs.arguments, resume="auto") as second, Launch(run, inputs.arguments) as third:
            second.wait_until(lambda: has_open(second, run / LOCK))
            assert third.wait() == 2
            assert second.wait() == 2  # after the seconds that it waits
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.wait() == 0
    assert third.stderr == (
        f"nerloop: error: run.dir {run}: holds another run (running); choose another folder, "
        "or --run.resume auto to go on with that one\n"
    )
    assert second.stderr == (
        f"nerloop: error: run.dir {run}: another process is training in it; "
        "wait for its end, or choose another folder\n"
    )
    assert inputs.differences(1) == []


@pytest.mark.processes
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SCENARIOS)
def test_signals(scenarios, name):
    scenarios[name].result()
