"""List the commands: `python -m nerloop`."""

from __future__ import annotations

import ast
from pathlib import Path

COMMANDS = ("train", "inspect", "convert", "predict", "evaluate", "compare", "tune", "export", "serve", "push", "demo")


def main() -> None:
    """Print a line for each command: how to start it, and how its documentation begins."""
    for name in COMMANDS:
        path = Path(__file__).with_name(name)
        module = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""  # read: imports take seconds
        print(f"python -m nerloop.{name:<9} {text.partition(': `')[0]}")


if __name__ == "__main__":
    main()
