"""Convert annotated text: `python -m nerloop.convert IN OUT --to conll|jsonl|brat|label_studio`.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nerloop import cli
from nerloop.data import ReadOptions, format_of, read_records
from nerloop.data.formats import format_named
from nerloop.data.lines import file_errors
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.predictions import in_characters, is_predictions, lay_out, read_predictions
from nerloop.data.records import TextRecord, read_examples
from nerloop.data.writers import annotation_lines, conll_lines, span_lines, task_lines, token_lines
from nerloop.errors import DataError
from nerloop.run import atomic
from nerloop.types import Example

TARGETS = ("conll", "jsonl", "brat", "label_studio")


def main() -> None:
    """Parse the command line, convert; leave with the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: convert(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nerloop.convert",
        description="Convert annotated text. Everything that is changed or left out on the way is counted and listed.",
    )
    parser.add_argument("input", metavar="IN", help="file in any format that nerloop reads, a folder of brat's, or a "
                        "predictions.*.jsonl that nerloop wrote")  # fmt: skip
    parser.add_argument("output", metavar="OUT", help="file, or for brat a folder, which must be new or empty")
    parser.add_argument("--to", required=True, choices=TARGETS, help="jsonl: text and character spans where the input "
                        "has texts, else tokens and tags")  # fmt: skip
    cli.add_read_flags(parser)
    return parser.parse_args(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Convert the file that the arguments name. Raises NerloopError; then nothing is left at the output."""
    source, target = arguments.input, arguments.output
    if os.path.exists(target) and os.path.samefile(source, target):
        raise DataError(f"{target}: is the input, expected another name for the output")
    options = ReadOptions.of(arguments)
    warnings = ReadWarnings.of(options)
    name = format_of(source, options)
    # Either texts with their spans as they are, which may be nested, or sentences.
    records: Iterable[TextRecord] | None = None
    examples: Iterable[Example] = ()
    if name == "jsonl" and is_predictions(source):
        records = read_predictions(source)
    elif format_named(name).has_texts:
        records = (r for r in read_records(source, options, warnings) if isinstance(r, TextRecord))
    else:
        examples = read_examples(read_records(source, options, warnings), options, warnings)
    if arguments.to == "conll":
        sentences = examples if records is None else read_examples(records, options, warnings)
        _write_file(target, conll_lines((example, [example.tags]) for example in sentences))
    elif arguments.to == "jsonl":
        _write_file(target, token_lines(examples) if records is None else span_lines(records))
    elif arguments.to == "label_studio":
        _write_file(target, task_lines(text_records(examples, by_sentence=True) if records is None else records))
    else:
        base = source if name == "brat" and os.path.isdir(source) else None
        _write_folder(target, text_records(examples) if records is None else records, base)
    for line in warnings.lines(source):
        logging.getLogger("nerloop.convert").warning("%s", line)


def text_records(examples: Iterable[Example], *, by_sentence: bool = False) -> Iterator[TextRecord]:
    """Yield one text a document: one sentence a line, spaces between tokens.

    Sentences of no known document are one text together, or one each with `by_sentence`.
    """

    def text_of(numbered: tuple[int, Example]) -> tuple[str, int]:
        number, example = numbered
        return example.document, number if by_sentence and not example.document else -1

    for (document, _), group in itertools.groupby(enumerate(examples), key=text_of):
        lines, spans, at = [], [], 0
        location = ""
        for _, example in group:
            location = location or example.location
            lines.append(" ".join(map(_on_one_line, example.tokens)))
            spans += in_characters(example.tags, lay_out(example.tokens, at))
            at += len(lines[-1]) + 1
        yield TextRecord("\n".join(lines), tuple(spans), location, document or location)


def _on_one_line(token: str) -> str:
    return token if token.isprintable() else "".join(" " if c.isspace() else c for c in token)


def _write_file(path: str, lines: Iterable[str]) -> None:
    if os.path.isdir(path):
        raise DataError(f"{path}: found a folder, expected the name of a file")
    with file_errors(path), atomic.replacing(Path(path), beside=_beside(path)) as beside:
        _write_text(beside, lines)


def _write_folder(path: str, records: Iterable[TextRecord], base: str | None) -> None:
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise DataError(f"{path}: found something there, expected the name of a new or empty folder")

    with file_errors(path), atomic.replacing(Path(path), beside=_beside(path)) as beside:
        beside.mkdir()
        for number, record in enumerate(records, start=1):
            name = f"{number:06d}.txt" if base is None else os.path.relpath(record.location, base)
            text = beside / name
            text.parent.mkdir(parents=True, exist_ok=True)
            _write_text(text, [record.text])
            if record.spans is not None:
                _write_text(text.with_suffix(".ann"), annotation_lines(record))


def _beside(path: str) -> Path:
    """Return where this process writes before the path is replaced."""
    return Path(f"{path}.{os.getpid()}.part")


def _write_text(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


if __name__ == "__main__":
    main()
