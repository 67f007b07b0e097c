"""Write the embedded demo to files that the other commands read: `python -m nerloop.demo FOLDER`.

Exit codes: 0 done, 2 it can't be written (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nerloop import cli
from nerloop.config import DEMO_LEARNING_RATE
from nerloop.data.writers import conll_lines
from nerloop.demo import build_tokenizer, new_encoder, splits
from nerloop.errors import DataError
from nerloop.run import atomic
from nerloop.run.logging import quiet_libraries
from nerloop.run.output import write_errors, writing


def main() -> None:
    """Parse the command line, write the files, print how to train on them; leave with the exit code."""
    arguments = _arguments(sys.argv[1:])

    def command() -> None:
        write(arguments.folder)
        cli.print_report(f"to train on it: {_training(arguments.folder)}")

    cli.run_command(command)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.demo",
        description="Write the embedded demo to files: train.conll, validation.conll, test.conll, and the folder "
        "encoder, a small encoder with random weights.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; it may exist")
    return parser.parse(argv)


def write(folder: Path) -> None:
    """Write the splits in columns, and the encoder. If one of them exists, raise DataError and write nothing."""
    corpus = splits()
    paths, encoder = {split: folder / f"{split}.conll" for split in corpus}, folder / "encoder"
    for path in (*paths.values(), encoder):
        if path.exists():
            raise DataError(f"{path}: is there already, expected a folder without it")
    with write_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    for split, path in paths.items():
        with writing(str(path)) as write_lines:
            write_lines(conll_lines((example, [example.tags]) for example in corpus[split]))
    quiet_libraries()
    tokenizer = build_tokenizer(corpus["train"])
    with write_errors(str(encoder)), atomic.replacing(encoder) as beside:
        tokenizer.save_pretrained(beside)
        new_encoder(tokenizer).save_pretrained(beside)


def _training(folder: Path) -> str:
    """Return the command that trains on the files as the demo is trained."""
    flags = {"model.name_or_path": folder / "encoder", "train.learning_rate": DEMO_LEARNING_RATE}
    flags |= {f"data.{split}": folder / f"{split}.conll" for split in ("train", "validation", "test")}
    return "accelerate launch -m nerloop.train " + " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in flags.items())


if __name__ == "__main__":
    main()
