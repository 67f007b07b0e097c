"""Functions that the commands share: flags for reading data, error lines, exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nerloop.data.formats import FORMATS
from nerloop.data.options import SETTINGS, ReadOptions
from nerloop.decoding.operating_points import DEFAULT, POINTS
from nerloop.errors import STOPPED, ConfigError, Interrupted, NerloopError, printable, shorten
from nerloop.plugins import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser of flags whose errors are one line, without the usage before it; exit code 2."""

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the values of the flags; leave with an error for one that does not exist."""
        parsed, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith("-"):
                self.error(f"found {shorten(name)}, one argument too many")
            flags = [f for a in self._actions if a.help != argparse.SUPPRESS for f in a.option_strings]
            self.error(f"{name}: no such flag{did_you_mean(name, flags)}")
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(action, f"found {shorten(value)}{near}, expected {', '.join(choices)}")

    def error(self, message: str) -> NoReturn:
        """Print a line and leave."""
        print(f"nerloop: error: {printable(message)[:300]}; see {self.prog} --help", file=sys.stderr)
        sys.exit(ConfigError.exit_code)


def add_read_flags(parser: argparse.ArgumentParser, *, for_saved_model: bool = False) -> None:
    """Add a flag for each setting of ReadOptions: --format, --token_column ... `ReadOptions.of` takes the parsed flags.

    Readers' messages name settings as a training has them, so `--data.format` and so on do the same.

    With `for_saved_model`, flags that are not given are None where the saved model has a value (see
    `nerloop.data.options.SETTINGS`).
    """
    for setting in SETTINGS:
        choices = ("auto", *FORMATS) if setting.name == "format" else setting.metadata["choices"]
        is_saved = for_saved_model and not setting.metadata["is_of_files"]
        values: dict[str, Any] = {"choices": choices or None, "nargs": "+" if setting.name == "labels" else None}
        parser.add_argument(
            f"--{setting.name}",
            default=None if is_saved else setting.default,
            help=setting.metadata["help"] + ("; default: as in training" if is_saved else ""),
            **values,
        )
        parser.add_argument(
            f"--data.{setting.name}", dest=setting.name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **values
        )


def read_options(arguments: argparse.Namespace, saved: ReadOptions, *, for_prediction: bool = False) -> ReadOptions:
    """Return the options to read files: the flags, else those of the training, except for what may differ by file."""
    given = {s.name: getattr(arguments, s.name) for s in SETTINGS}
    kept = {s.name: getattr(saved, s.name) for s in SETTINGS if given[s.name] is None and not s.metadata["is_of_files"]}
    return ReadOptions(**{**given, **kept}, for_prediction=for_prediction)


OPERATING_FLAGS = ("min_confidence", "target_precision", "target_recall", "per_type", "operating_point")
"""The names of the flags that `add_operating_flags` adds."""


def add_operating_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose which spans are found and kept; see `nerloop.evaluation.operating`."""
    parser.add_argument("--operating_point", default=DEFAULT, choices=(DEFAULT, *POINTS), help="precision: find fewer "
                        "and surer spans; recall: more spans; f1: the best F1 on validation")  # fmt: skip
    parser.add_argument("--min_confidence", type=float, metavar="X", help="keep only spans of this confidence or more")
    for target in ("precision", "recall"):
        parser.add_argument(f"--target_{target}", type=float, metavar="X", help="keep only spans with the confidence "
                            f"that reached this {target} on the validation split of the training")  # fmt: skip
    parser.add_argument("--per_type", action="store_true", help="for a target: a threshold for each type")


def refuse_flags(
    arguments: argparse.Namespace, flags: Sequence[str], beside: str, reason: str = "which has no use for it"
) -> None:
    """Raise ConfigError for the first of these flags that is given, since it would do nothing beside `beside`."""
    for flag in flags:
        if getattr(arguments, flag) not in (None, False, [], DEFAULT):
            raise ConfigError(f"--{flag}: found with {beside}, {reason}")


def split_settings(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command's own flags, and the settings of nerloop.train after its --."""
    at = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:at]), list(argv[at + 1 :])


NOT_NEEDED_BY_EXPORTS = ("torch", "accelerate", "datasets")
"""Packages that may be left out where only exported models are used."""


def run_command(command: Callable[[], int | None], *, is_speaker: Callable[[], bool] = lambda: True) -> None:
    """Run a command; leave with its exit code unless that is 0 or None.

    A NerloopError becomes one line on standard error and its exit code, Ctrl-C becomes one line and 130. Where
    `is_speaker` is false, as on other processes of a launch, nothing is printed.
    """
    end_without_collecting()
    message = ""
    try:
        code = command() or 0
        sys.stdout.flush()
    except NerloopError as error:
        message, code = error_lines(error), error.exit_code
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        message, code = error_lines(missing), missing.exit_code
    except KeyboardInterrupt:
        message, code = STOPPED, Interrupted.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` does
        _discard_output()
        code = 0
    if message and is_speaker():
        print(message, file=sys.stderr)
    if code:
        sys.exit(code)


def missing_package(error: ModuleNotFoundError) -> ConfigError:
    """Return the error for a package that only exports can do without. Raises the given one for any other package."""
    if error.name not in NOT_NEEDED_BY_EXPORTS:
        raise error
    return ConfigError(
        f"{error.name} is not installed, and this needs it (exported models don't): pip install {error.name}"
    )


def end_without_collecting() -> None:
    """Let the interpreter end without searching for garbage, which takes a second once torch is imported."""
    atexit.register(_flush_and_freeze)


def _flush_and_freeze() -> None:
    # The last search for garbage would also close, and so flush, files that a plugin has left open.
    for found in gc.get_objects():
        if type(found) in (io.TextIOWrapper, io.BufferedWriter) and not found.closed:
            with contextlib.suppress(OSError, ValueError):
                found.flush()
    gc.freeze()


def error_lines(error: NerloopError) -> str:
    """Return the message of a command about an error: a line, or one for each of several bad records."""
    return "\n".join(f"nerloop: error: {line}" for line in str(error).split("\n"))


def print_report(text: str) -> None:
    """Print to standard output if that is possible; it may be closed, or an ASCII terminal."""
    if sys.stdout is None:  # started with a closed standard output
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError:
        _discard_output()


def _discard_output() -> None:
    """Let later writes to standard output succeed, the last flush of Python included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
