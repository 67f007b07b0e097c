"""What the commands share: flags for reading data, error lines, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from nerloop.data.formats import FORMATS
from nerloop.data.options import SETTINGS
from nerloop.errors import STOPPED, Interrupted, NerloopError


def add_read_flags(
    parser: argparse.ArgumentParser, *, formats: Sequence[str] = (), of_model: Sequence[str] = ()
) -> None:
    """Add a flag for each setting of ReadOptions: --format, --token_column ... `ReadOptions.of` takes the parsed flags.

    `formats` are names that the command takes besides those of files. The flags named in `of_model` are None where
    they are not given: then the value comes from a saved model.
    """
    for setting in SETTINGS:
        choices = ("auto", *FORMATS, *formats) if setting.name == "format" else setting.metadata["choices"]
        is_saved = setting.name in of_model
        parser.add_argument(
            f"--{setting.name}",
            default=None if is_saved else setting.default,
            choices=choices or None,
            nargs="+" if setting.name == "labels" else None,
            help=setting.metadata["help"] + ("; default: as in training" if is_saved else ""),
        )


def run_command(command: Callable[[], int | None], *, is_speaker: Callable[[], bool] = lambda: True) -> NoReturn:
    """Run a command and leave with its exit code, or 0 where it returns None.

    A NerloopError becomes one line on standard error and its exit code, Ctrl-C becomes one line and 130. Where
    `is_speaker` is false, as on other processes of a launch, nothing is printed.
    """
    message = ""
    try:
        code = command() or 0
        sys.stdout.flush()
    except NerloopError as error:
        message, code = f"nerloop: error: {error}", error.exit_code
    except KeyboardInterrupt:
        message, code = STOPPED, Interrupted.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if message and is_speaker():
        print(message, file=sys.stderr)
    sys.exit(code)
