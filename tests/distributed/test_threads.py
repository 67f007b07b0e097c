"""CPU threads: as many as a process may use, whatever the launcher says; idle ones sleep soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nerloop.distributed import threads

ROOT = Path(__file__).parents[2]
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
             *threads.LAUNCHER_VARIABLES)  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Hide the environment's own settings, and put torch's threads back."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "num_cores", lambda: 8)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def launched(monkeypatch, **variables: str) -> None:
    for name, value in {"ACCELERATE_MIXED_PRECISION": "no", **variables}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("asked", "variables", "expected"),
    [
        (None, {}, 8),
        (None, {"OMP_NUM_THREADS": "1"}, 8),  # the launcher's own
        (None, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 4),
        (None, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "3"}, 2),
        (None, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "16"}, 1),
        (None, {"OMP_NUM_THREADS": "3"}, 3),
        (None, {"OMP_NUM_THREADS": "3,2", "LOCAL_WORLD_SIZE": "2"}, 3),
        (None, {"OMP_NUM_THREADS": "many"}, 8),
        (1, {"OMP_NUM_THREADS": "3"}, 1),
        (2, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 2),
    ],
)
def test_a_launched_process_has_its_share_of_the_cores_unless_told_otherwise(monkeypatch, asked, variables, expected):
    launched(monkeypatch, **variables)
    assert threads.set_threads(asked) == expected
    assert torch.get_num_threads() == expected


def test_a_process_by_itself_keeps_the_threads_that_torch_has(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(3)
    assert threads.set_threads() == torch.get_num_threads() == 3
    assert threads.set_threads(2) == torch.get_num_threads() == 2


def test_hyper_threads_of_a_core_are_one(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(threads, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert threads.num_cores() == 4  # nothing is known of them
    for processor in range(4):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{processor % 2},{processor % 2 + 2}\n")
    assert threads.num_cores() == 2


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_says_about_spinning_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "ACTIVE")
    threads.limit_spinning()
    assert {n: os.environ.get(n) for n in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == {
        "OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None, name: "ACTIVE",
    }  # fmt: skip


@pytest.mark.parametrize("module", ["train", "predict", "evaluate", "serve"])
def test_a_command_limits_spinning_before_torch_is_imported(module):
    """The runtime, libgomp, reads its environment when torch loads it."""
    code = (
        f"import sys, os, nerloop.{module} as command\n"
        "from nerloop.distributed import threads\n"
        "threads.limit_spinning = lambda: print('torch' in sys.modules)\n"
        "sys.argv = ['x', '--help']\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"


def test_importing_nerloop_changes_no_thread_and_no_environment():
    code = (
        "import os, torch\n"
        "before = dict(os.environ), torch.get_num_threads()\n"
        "import nerloop.train, nerloop.predict, nerloop.distributed.launch\n"
        "print(before == (dict(os.environ), torch.get_num_threads()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.processes
def test_the_main_command_of_the_readme_computes_on_all_cores(tmp_path, tiny_model, files):
    """`accelerate launch` without a profile; what counts is who computes, not what torch was told."""
    script = tmp_path / "probe.py"
    script.write_text(
        "import json, os, torch\n"
        "from nerloop.distributed.launch import make_accelerator\n"
        "def seconds():\n"
        "    stats = [open(f'/proc/self/task/{t}/stat').read().rpartition(')')[2].split()\n"
        "             for t in os.listdir('/proc/self/task')]\n"
        "    return sorted(int(s[11]) + int(s[12]) for s in stats)\n"
        "given = os.environ['OMP_NUM_THREADS']\n"
        "make_accelerator('no')\n"
        "a = torch.ones(1024, 1024)\n"
        "while sum(seconds()) < 2 * os.sysconf('SC_CLK_TCK') + 300: a @ a\n"
        "busy = [s for s in seconds() if s > 30]\n"
        "print(json.dumps([given, torch.get_num_threads(), len(busy)]))\n"
    )
    cores = len(os.sched_getaffinity(0))
    environment = {n: v for n, v in os.environ.items() if n not in VARIABLES}
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    given, number, busy = json.loads(done.stdout.splitlines()[-1])
    assert (given, number) == ("1", cores)
    assert busy >= min(cores, 2)
    flags = ["--model.name_or_path", tiny_model, "--train.max_steps", "1", "--run.dir", "run"]
    flags += [x for split, path in files.items() for x in (f"--data.{split}", path)]
    done = subprocess.run([*launch, "-m", "nerloop.train", *flags], capture_output=True, text=True, env=environment,
                          cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["threads"] == cores
