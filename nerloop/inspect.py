"""Check data before training: `python -m nerloop.inspect FILES [--model DIR]`; as text, JSON, or a page of HTML.

Instead of files `--dataset` takes what `data.dataset` takes: a hub data set, or a folder that save_to_disk wrote.

Exit codes: 0 no error in the data, 2 an error that would stop a training (or a mistake on the command line, in one line
on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nerloop import cli
from nerloop.data import ReadOptions, iterate_file
from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import BadRecordsError, ConfigError, DataError, shorten
from nerloop.run.output import refuse_input_as_output, writing
from nerloop.types import Example

if TYPE_CHECKING:
    from nerloop.inspection.finding import Finding
    from nerloop.inspection.inspection import Inspection


def main() -> None:
    """Parse the command line, inspect the data, write the result; leave with the exit code."""
    arguments = _arguments(sys.argv[1:])

    def command() -> int:
        inspection = inspect(arguments)
        _write(arguments, inspection)
        return DataError.exit_code if inspection.has_errors else 0

    cli.run_command(command)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.inspect",
        description="Inspect annotated files before training: what they hold, what is odd, what nerloop does about it.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="annotated files; a word in the name (train, dev, "
                        "test ...) decides the split, else the position")  # fmt: skip
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", nargs="+", default=[], metavar="FILE", help=f"files of the {split} split")
    parser.add_argument("--dataset", metavar="NAME|FOLDER", help="instead of files: a hub data set, or a folder that "
                        "save_to_disk wrote")  # fmt: skip
    parser.add_argument("--dataset_config", metavar="NAME", help="configuration of a hub data set")
    cli.add_read_flags(parser)
    parser.add_argument("--model", metavar="DIR", help="folder or hub name of a model: count its subwords, too")
    parser.add_argument("--max_length", type=int, help="subwords of a window, as alignment.max_length")
    parser.add_argument("--stride", type=int, help="subwords that windows share, as alignment.stride")
    parser.add_argument("--json", action="store_true", help="write JSON instead of text")
    parser.add_argument("--html", metavar="FILE", help="also write a page of HTML with charts and example sentences "
                        "(-: instead of the text, to standard output)")  # fmt: skip
    return parser.parse(argv)


def inspect(arguments: argparse.Namespace) -> Inspection:
    """Return the inspection of the data; a file that can't be read is a finding. Raises NerloopError."""
    if arguments.json and arguments.html == "-":
        raise ConfigError("--html -: found with --json, expected one of them, since both go to standard output")
    from nerloop.inspection.inspection import Inspection
    from nerloop.inspection.parts import Part
    from nerloop.inspection.statistics import Statistics
    from nerloop.inspection.subwords import SubwordStatistics

    tokenizer, limit = _tokenizer(arguments)
    findings: list[Finding] = []  # of the readers
    parts = []
    for found in _of_dataset(arguments, findings) if arguments.dataset is not None else _of_files(arguments, findings):
        statistics = Statistics.of(found.examples)
        subwords = SubwordStatistics.of(tokenizer, found.examples, statistics.lengths, limit) if limit else None
        parts.append(
            Part(
                found.split, found.path, found.examples, statistics, subwords, found.has_line_per_token, found.taken_by
            )
        )
    return Inspection.of(parts, findings, limit, arguments.model or "")


class _Read(NamedTuple):
    """Sentences, and where they come from."""

    split: str
    path: str
    examples: Sequence[Example]
    has_line_per_token: bool
    taken_by: str  # how the split was found, such as "by its name"


def _of_files(arguments: argparse.Namespace, findings: list[Finding]) -> Iterator[_Read]:
    """Yield what the files hold; files that can't be read, and what readers warn of, go to `findings`."""
    from nerloop.inspection.findings import about_reading, unreadable
    from nerloop.inspection.parts import is_line_per_token

    options = ReadOptions.of(arguments)
    files = _files(arguments)
    if arguments.html:
        refuse_input_as_output([path for path, _, _ in files], "--html ", arguments.html)
    for path, split, taken_by in files:
        warnings = ReadWarnings.of(options)
        try:
            examples = list(iterate_file(path, options, warnings))
        except DataError as error:
            findings += unreadable(path, error.messages if isinstance(error, BadRecordsError) else [str(error)])
            continue
        findings += about_reading(path, warnings)
        yield _Read(split, path, examples, is_line_per_token([path], options), taken_by)


def _of_dataset(arguments: argparse.Namespace, findings: list[Finding]) -> Iterator[_Read]:
    """Yield the splits of a data set; one that can't be read, and what its reader warns of, goes to `findings`."""
    from nerloop.data.hub import read_hub
    from nerloop.inspection.findings import about_reading, unreadable

    files = [*arguments.files, *arguments.train, *arguments.validation, *arguments.test]
    if files:
        raise ConfigError(f"--dataset: found with the file {shorten(files[0])}, expected one or the other")
    if arguments.format != "auto":
        raise ConfigError(f"--format: found {arguments.format} with --dataset, expected it with files")
    name = arguments.dataset
    warnings: dict[str, ReadWarnings] = {}
    try:
        dataset = read_hub(name, arguments.dataset_config, ReadOptions.of(arguments), warnings=warnings)
    except DataError as error:
        findings += unreadable(name, [str(error)])
        return
    for split, examples in dataset.splits.items():
        findings += about_reading(f"{name}/{split}", warnings[split])
        yield _Read(split, f"{name}/{split}", examples, False, "by its name")


def _files(arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Return path, split, and how the split was found, of each file."""
    from nerloop.inspection.parts import SPLITS, assign_splits

    named = [(path, split, f"by --{split}") for split in SPLITS for path in getattr(arguments, split)]
    taken = [split for _, split, _ in named]
    assigned = assign_splits(arguments.files, taken)
    unnamed = [(path, *found) for path, found in zip(arguments.files, assigned, strict=True)]
    if not unnamed and not named:
        raise ConfigError(
            "found no files, expected some: python -m nerloop.inspect train.conll dev.conll test.conll, or --dataset"
        )
    if arguments.dataset_config is not None:
        raise ConfigError("--dataset_config: found without --dataset, expected with it")
    return [*named, *unnamed]


def _tokenizer(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the tokenizer of the model and the limit of its windows; neither without a model."""
    if arguments.model is None:
        for name in ("max_length", "stride"):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name}: found without --model, expected with it: it counts subwords")
        return None, None
    from nerloop.config import ModelSettings
    from nerloop.inspection.subwords import Limit
    from nerloop.model.load import load_limited_tokenizer
    from nerloop.run.logging import quiet_libraries

    quiet_libraries()
    logging.getLogger("nerloop").setLevel(logging.ERROR)
    tokenizer = load_limited_tokenizer(ModelSettings(name_or_path=arguments.model))
    return tokenizer, Limit.of(tokenizer, arguments.max_length, arguments.stride)


def _write(arguments: argparse.Namespace, inspection: Inspection) -> None:
    from nerloop.inspection.as_html import as_html
    from nerloop.inspection.as_text import as_text

    if arguments.html:
        with writing(arguments.html) as write:
            write([as_html(inspection)])
        if arguments.html == "-":
            return
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    if arguments.json:
        sys.stdout.write(json.dumps(inspection.to_json(), ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(as_text(inspection))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
