"""What the commands share: an error is one line and an exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nerloop.cli import as_flags, run_command
from nerloop.errors import BadRecordsError


def without(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_a_package_that_was_left_out_is_named_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: without("torch"))
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "nerloop: error: torch is not installed, and this needs it (exported models don't): pip install torch\n"
    )


def test_a_module_that_nobody_leaves_out_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        run_command(lambda: without("my_module"))


def test_a_command_ends_without_a_last_search_for_garbage():
    script = (
        "import atexit, gc\n"
        "before = gc.get_freeze_count()\n"  # Python 3.12 starts with some
        "atexit.register(lambda: print(gc.get_freeze_count() > before))\n"  # the first registered is the last to run
        "from nerloop import cli\n"
        "cli.run_command(lambda: print(gc.get_freeze_count() == before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_file_that_a_plugin_leaves_open_is_written(tmp_path):
    (tmp_path / "mine.py").write_text("file = open('log.txt', 'w')\nfile.write('kept')\ndef use(): return file\n")
    script = "from nerloop import cli\nimport mine\ncli.run_command(lambda: None)"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "log.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("data.encoding: found 'x'", "--encoding: found 'x'"),
        ("data.tokenizer a.b: no such function", "--tokenizer a.b: no such function"),
        ("x: set data.labels", "x: set --labels"),
        ("x: set both data.labels and data.encoding if it is one", "x: set both --labels and --encoding if it is one"),
        ("x: is data.labels right?", "x: is --labels right?"),
        ("x: offline (--data.dataset FOLDER)", "x: offline (--dataset FOLDER)"),
        ("x: name it as data.train, data.test", "x: name it as --train, data.test"),
        ("model.name_or_path ./no: no such folder", "--model ./no: no such folder"),
        # What is no flag of the command, a file, what a file says, and what nerloop.json says:
        ("x: set data.format", "x: set data.format"),
        ("data.train: found nothing", "data.train: found nothing"),
        ("data.labels:3: found nothing", "data.labels:3: found nothing"),
        ("a/data.labels: found 'data.labels'", "a/data.labels: found 'data.labels'"),
        ("x.json: data.labels: found 3", "x.json: data.labels: found 3"),
    ],
)
def test_settings_are_named_by_the_flags_of_a_command(message, expected):
    assert as_flags(message, {"encoding", "tokenizer", "labels", "dataset", "train", "model"}) == expected


def test_an_error_names_the_flags_of_the_command(capsys):
    def fail() -> None:
        raise BadRecordsError(["x:1: set data.labels", "data.labels: found 3"])

    with pytest.raises(SystemExit):
        run_command(fail, flags=["labels"])
    assert capsys.readouterr().err == "nerloop: error: x:1: set --labels\nnerloop: error: --labels: found 3\n"
