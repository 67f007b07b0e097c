"""Export a saved model: `python -m nerloop.export --model runs/x/model --to onnx OUT`. Needs the extra `export`.

Exit codes: 0 done, 2 bad input, or an export that differs too much (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from nerloop import cli
from nerloop.errors import ConfigError
from nerloop.model.saved import KINDS

FORMATS = ("onnx", "onnx-int8", "openvino", "tf_saved_model")  # the last is refused, with the reason


def main() -> None:
    """Parse the command line, export, print the differences; leave with the exit code."""
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: export(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.export",
        description="Write a trained model for ONNX Runtime or OpenVINO, and compare it with the original. "
        "nerloop.predict and nerloop.load read the export like a model, without torch.",
    )
    parser.add_argument("out", metavar="OUT", help="folder to create")
    parser.add_argument("--model", required=True, help="folder of the trained model")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format to write")
    parser.add_argument(
        "--check", nargs="+", default=[], metavar="FILE",
        help="files to compare on, in any format; gold tags in them give the metric (none: generated sentences, where "
        "the original's entities stand for gold)",
    )  # fmt: skip
    parser.add_argument(
        "--max_loss", type=float, default=0.01, help="how much of the main metric may be lost (default: 0.01)"
    )
    for kind in KINDS:
        parser.add_argument(f"--{kind}", help=f"{kind} plugin, as in nerloop.predict")
    parser.add_argument("--tokenizer", help="rule that cuts texts into tokens, as in nerloop.predict")
    return parser.parse(argv)


def export(arguments: argparse.Namespace) -> None:
    """Export a model and print how the export differs from it. Raises NerloopError."""
    if not (math.isfinite(arguments.max_loss) and arguments.max_loss >= 0):
        raise ConfigError(f"--max_loss: found {arguments.max_loss}, expected 0 or more")
    from nerloop.exporting.export import export as export_model
    from nerloop.run.logging import quiet_libraries

    quiet_libraries()
    chosen = {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")}
    comparison = export_model(
        arguments.model, arguments.to, arguments.out, check=arguments.check, max_loss=arguments.max_loss, plugins=chosen
    )
    cli.print_report("\n".join([*comparison.lines(), f"export       {arguments.out}"]))


if __name__ == "__main__":
    main()
