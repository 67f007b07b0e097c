"""What the commands share: an error is one line and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nerloop
from nerloop.cli import Parser, run_command


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
    ("argv", "line"),
    [
        (["in", "--outptu", "x"], "--outptu: no such flag (did you mean '--output'?)"),
        (["in", "--zzz=1"], "--zzz: no such flag"),
        (["in", "out"], "found 'out', one argument too many"),
        (["in", "--a\nb"], r"--a\nb: no such flag"),
        ([], "the following arguments are required: FILE"),
        (
            ["in", "--format", "conl"],
            "argument --format: found 'conl' (did you mean 'conll'?), expected conll, csv",
        ),
        (["in", "--number", "x"], "argument --number: invalid int value: 'x'"),
    ],
)
def test_a_wrong_flag_is_one_line(capsys, argv, line):
    parser = Parser(prog="python -m nerloop.some")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--output")
    parser.add_argument("--format", choices=["conll", "csv"])
    parser.add_argument("--number", type=int)
    with pytest.raises(SystemExit) as ended:
        parser.parse(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"nerloop: error: {line}; see python -m nerloop.some --help\n"


def test_each_command_is_listed_with_a_line():
    done = subprocess.run([sys.executable, "-m", "nerloop"], capture_output=True, text=True, check=True)
    lines = dict(line.removeprefix("python -m nerloop.").split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["train"] == "Train a model"
    assert lines["demo"] == "Write the embedded demo to files that the other commands read"
    files = [p for p in Path(nerloop.__file__).parent.rglob("*.py") if 'if __name__ == "__main__"' in p.read_text()]
    names = {p.parent.name if p.stem == "__main__" else p.stem for p in files} - {"nerloop"}
    assert lines.keys() == names


def test_a_command_without_its_dot_is_an_error():
    done = subprocess.run([sys.executable, "-m", "nerloop", "train"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("nerloop: error: found 'train', expected a command after a dot: python -m nerloop.train\n")


def test_flags_are_read():
    parser = Parser()
    parser.add_argument("--number", type=int)
    assert parser.parse(["--number", "3"]).number == 3
