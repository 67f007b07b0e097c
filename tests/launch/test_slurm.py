"""launch/slurm.sh with stand-ins for Slurm's commands; once with the real launcher behind them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "scontrol": 'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> scontrol.txt; fi',
    "srun": 'for SLURM_NODEID in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do export SLURM_NODEID; "$@"; done',
    "accelerate": 'echo "$@" >> accelerate.txt; bash -c "$RUN"',
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the commands in bin/ and the launch files beside it."""
    (tmp_path / "bin").mkdir()
    for name, body in COMMANDS.items():
        write_command(tmp_path, name, body)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    return tmp_path


def write_command(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_NUM_NODES": "2",
                         "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "99",
                         "RUN": "true", **more}  # fmt: skip


def submit(folder: Path, *arguments: str, run: str = "true") -> subprocess.CompletedProcess[str]:
    command = ["bash", "launch/slurm.sh", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment(folder, RUN=run)
    )


def ends_as(state: str) -> str:
    """Return what a run does that leaves this state."""
    return f"""mkdir -p run; echo '{{' > run/status.json; echo ' "state": "{state}", "x": '$RANDOM >> run/status.json"""


def requeued(folder: Path) -> str:
    return (folder / "scontrol.txt").read_text() if (folder / "scontrol.txt").exists() else ""


def test_one_launcher_a_node_with_its_rank(folder):
    done = submit(folder, "--run.dir", "run", "--data.train", "a b", run=ends_as("done"))
    assert done.returncode == 0, done.stderr
    common = "launch --config_file launch/multi_node.yaml --num_machines 2 --num_processes 8"
    common += " --main_process_ip node7 --main_process_port 29500"
    assert (folder / "accelerate.txt").read_text().splitlines() == [
        f"{common} --machine_rank {rank} -m nerloop.train --run.dir run --data.train a b --run.resume auto"
        for rank in (0, 1)
    ]


def test_without_a_run_dir_nothing_is_started(folder):
    done = submit(folder, "--data.train", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "found no --run.dir, expected one" in done.stderr
    assert not (folder / "accelerate.txt").exists()


@pytest.mark.parametrize(
    ("state", "code", "commands"),
    [("done", 0, ""), ("interrupted", 0, "requeue 99\n"), ("failed", 1, ""), ("running", 1, "")],
)
def test_the_status_decides_whether_the_job_goes_back_into_the_queue(folder, state, code, commands):
    done = submit(folder, "--run.dir=run", run=ends_as(state))
    assert (done.returncode, requeued(folder)) == (code, commands), done.stderr


def test_a_job_that_fails_before_the_run_begins_is_not_put_back_for_an_old_status(folder):
    assert submit(folder, "--run.dir", "run", run=ends_as("interrupted")).returncode == 0
    (folder / "scontrol.txt").unlink()
    done = submit(folder, "--run.dir", "run", run="exit 2")
    assert (done.returncode, requeued(folder)) == (2, "")
    assert "ended before it began" in done.stderr


@pytest.mark.processes
def test_a_warned_job_saves_goes_back_into_the_queue_and_ends_as_if_undisturbed(folder, tiny_model, files):
    """Two processes by the real launcher; scancel sends the signal to the step's processes, as Slurm does."""
    python = f'"{sys.executable}" -m accelerate.commands.accelerate_cli'
    write_command(folder, "accelerate", f'echo $$ > launcher.pid; exec {python} "$@"')
    write_command(folder, "scancel", 'echo "$@" >> scontrol.txt; kill -s "${1#--signal=}" "$(cat launcher.pid)"')
    data = [x for split, path in files.items() for x in (f"--data.{split}", path)]
    arguments = ["--model.name_or_path", tiny_model, *data, "--train.max_steps", "150", "--train.save_every", "20"]
    slurm = {"SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "2", "MASTER_PORT": "29731", "HF_HUB_OFFLINE": "1",
             "ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}  # fmt: skip
    write_command(folder, "scontrol", 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> scontrol.txt; fi')

    def start(run: str) -> subprocess.Popen[str]:
        command = ["bash", "launch/slurm.sh", *arguments, "--train.mixed_precision", "no", "--run.dir", run]
        return subprocess.Popen(command, cwd=folder, env=environment(folder, **slurm), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    warned = start("run")
    while not (folder / "run" / "checkpoints" / "step-20").exists():
        assert warned.poll() is None, warned.communicate()
        time.sleep(0.05)
    warned.send_signal(signal.SIGUSR1)
    out, err = warned.communicate(timeout=60)
    assert warned.returncode == 0, err
    assert json.loads((folder / "run" / "status.json").read_text())["state"] == "interrupted"
    assert requeued(folder) == "--signal=TERM 99.0\nrequeue 99\n"
    (folder / "scontrol.txt").unlink()
    for run in ("run", "whole"):  # Slurm starts the job again; and one that nobody disturbed
        job = start(run)
        out, err = job.communicate(timeout=120)
        assert job.returncode == 0, out + err
    assert requeued(folder) == ""
    for name in ("model/model.safetensors", "checkpoints/step-150/optimizer.safetensors"):
        assert (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert json.loads((folder / "run" / "environment.json").read_text())["num_processes"] == 2
