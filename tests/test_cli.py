"""What the commands share: an error is one line and an exit code."""

from __future__ import annotations

import pytest

from nerloop.cli import run_command


def without(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_a_package_that_was_left_out_is_named_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: without("torch"))
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "nerloop: error: torch is not installed; only exported models work without it: pip install torch\n"
    )


def test_a_module_that_nobody_leaves_out_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        run_command(lambda: without("my_module"))
