"""List the commands: `python -m nerloop`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from nerloop import cli
from nerloop.errors import ConfigError, shorten

COMMANDS = ("train", "inspect", "convert", "predict", "evaluate", "compare", "tune", "export", "serve", "push", "demo")


def main() -> None:
    """Print a line for each command: how to start it, and how its documentation begins. Arguments are an error."""
    arguments = sys.argv[1:]

    def command() -> None:
        if arguments:
            near = f"python -m nerloop.{arguments[0]}" if arguments[0] in COMMANDS else "python -m nerloop to list them"
            raise ConfigError(f"found {shorten(arguments[0])}, expected a command after a dot: {near}")
        list_commands()

    cli.run_command(command)


def list_commands() -> None:
    """Print a line for each command."""
    for name in COMMANDS:
        path = Path(__file__).with_name(name)
        module = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""  # read: imports take seconds
        print(f"python -m nerloop.{name:<9} {text.partition(': `')[0]}")


if __name__ == "__main__":
    main()
