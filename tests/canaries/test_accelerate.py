"""What nerloop assumes of accelerate. A failure here after an upgrade names the assumption that broke."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from nerloop.distributed.threads import is_launched

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Hide the user's own accelerate configuration and settings of a launch."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "OMP_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)


def launched(*flags: str) -> tuple[Any, dict[str, str]]:
    """Return the arguments of `accelerate launch FLAGS x.py` as it understands them, and what its child's has set."""
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args([*flags, "x.py"]))
    if arguments.multi_gpu:
        return arguments, prepare_multi_gpu_env(arguments)
    return arguments, prepare_simple_launcher_cmd_env(arguments)[1]


def test_without_a_profile_a_child_is_given_one_thread():
    arguments, environment = launched("--num_processes=1")
    assert (arguments.num_processes, environment["OMP_NUM_THREADS"]) == (1, "1")


def test_a_number_of_threads_that_the_user_set_is_passed_on(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launched("--num_processes=1")[1]["OMP_NUM_THREADS"] == "3"


def test_a_child_knows_that_it_was_launched(monkeypatch):
    assert not is_launched()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched("--num_processes=1")[1]["ACCELERATE_MIXED_PRECISION"])
    assert is_launched()


@pytest.mark.parametrize(
    ("profile", "precision"), [("cpu.yaml", "no"), ("gpu.yaml", "bf16"), ("multi_gpu.yaml", "bf16")]
)
def test_the_precision_of_a_profile_is_in_the_environment(profile, precision):
    environment = launched("--config_file", str(LAUNCH / profile))[1]
    assert environment["ACCELERATE_MIXED_PRECISION"] == precision


def test_a_profile_for_the_cpu_says_so_in_the_environment():
    environment = launched("--config_file", str(LAUNCH / "cpu.yaml"))[1]
    assert environment["ACCELERATE_USE_CPU"].lower() == "true"


def test_accumulation_can_be_asked_for_by_a_variable(monkeypatch):
    """So `check_launch` refuses it: it would multiply the batch."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert Accelerator(cpu=True).gradient_accumulation_steps == 4


def test_multi_gpu_starts_as_many_processes_as_the_profile_says_without_a_gpu():
    arguments, _ = launched("--config_file", str(LAUNCH / "cpu_2_processes.yaml"))
    assert (arguments.multi_gpu, arguments.num_processes, arguments.nproc_per_node) == (True, 2, "2")


def test_multi_cpu_starts_one_process(tmp_path):
    """So launch/cpu_2_processes.yaml says MULTI_GPU. If this fails, MULTI_CPU may have become usable."""
    profile = tmp_path / "multi_cpu.yaml"
    text = (LAUNCH / "cpu_2_processes.yaml").read_text()
    profile.write_text(text.replace("MULTI_GPU", "MULTI_CPU").replace("use_cpu: false", "use_cpu: true"))
    arguments, environment = launched("--config_file", str(profile))
    assert not arguments.multi_gpu  # the launcher of one process
    assert "WORLD_SIZE" not in environment


def test_the_reader_of_profiles_refuses_unknown_keys(tmp_path):
    profile = tmp_path / "profile.yaml"
    profile.write_text((LAUNCH / "cpu.yaml").read_text() + "num_proceses: 2\n")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(profile))


def test_an_unquoted_no_is_a_boolean_that_no_launch_survives(tmp_path):
    profile = tmp_path / "profile.yaml"
    profile.write_text((LAUNCH / "cpu.yaml").read_text().replace("mixed_precision: 'no'", "mixed_precision: no"))
    with pytest.raises((AttributeError, ValueError)):
        launched("--config_file", str(profile))


@pytest.mark.parametrize("name", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_the_launches_that_are_refused_are_known_by_these_variables(name):
    import accelerate.utils.launch as source

    assert f"ACCELERATE_USE_{name}" in Path(source.__file__).read_text(encoding="utf-8")
