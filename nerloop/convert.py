"""Convert annotated text: `python -m nerloop.convert IN OUT --to conll|jsonl|brat|label_studio|...`.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerloop import cli
from nerloop.data import ReadOptions, at_least_one, format_of, read_records
from nerloop.data.formats import format_named
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.predictions import in_characters, kind_of_predictions, lay_out, read_predictions
from nerloop.data.records import TextRecord, read_examples
from nerloop.data.text_writers import (
    annotation_lines,
    csv_lines,
    doccano_lines,
    prodigy_lines,
    span_lines,
    task_lines,
)
from nerloop.data.writers import conll_lines, token_lines
from nerloop.errors import DataError
from nerloop.evaluation.source import STANDARD_INPUT, copy_standard_input
from nerloop.run import atomic
from nerloop.run.output import refuse_input_as_output, write_errors, writing
from nerloop.types import Example

LINES: dict[str, Callable[[Iterable[TextRecord]], Iterator[str]]] = {
    "jsonl": span_lines, "label_studio": task_lines, "prodigy": prodigy_lines, "doccano": doccano_lines,
    "csv": csv_lines,
}  # fmt: skip
"""The function that writes texts to a file, by target."""
TARGETS = ("conll", "brat", *LINES)


def main() -> None:
    """Parse the command line, convert; leave with the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    arguments = _arguments(sys.argv[1:])

    def command() -> None:
        with _named_input(arguments):
            convert(arguments)

    cli.run_command(command)


@contextlib.contextmanager
def _named_input(arguments: argparse.Namespace) -> Iterator[None]:
    """Make `arguments.input` the name of a file: of a copy of standard input if it is "-"."""
    if arguments.input != "-":
        yield
        return
    if arguments.output != "-":
        arguments.output = os.path.abspath(arguments.output)
    # In the folder of the copy its name is short, as messages and documents should have it.
    with tempfile.TemporaryDirectory(prefix="nerloop-") as folder, contextlib.chdir(folder):
        copy_standard_input(STANDARD_INPUT)
        arguments.input = STANDARD_INPUT
        yield


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.convert",
        description="Convert annotated text. Everything that is changed or left out on the way is counted and listed.",
    )
    parser.add_argument("input", metavar="IN", help="file in any format that nerloop reads, a folder of brat's, or a "
                        "predictions.*.jsonl that nerloop wrote (-: standard input)")  # fmt: skip
    parser.add_argument("output", metavar="OUT", help="file (-: standard output), or for brat a folder, which must be "
                        "new or empty")  # fmt: skip
    parser.add_argument("--to", required=True, choices=TARGETS, help="jsonl: text and character spans where the input "
                        "has texts, else tokens and tags")  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="stop, and write nothing, if anything would be lost "
                        "except records that nobody annotated or an annotator rejected")  # fmt: skip
    cli.add_read_flags(parser)
    return parser.parse(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Convert the file that the arguments name. Raises NerloopError; then nothing is left at the output."""
    source, target = arguments.input, arguments.output
    refuse_input_as_output([source], "", target)
    options = ReadOptions.of(arguments)
    warnings = ReadWarnings.of(options)
    name = format_of(source, options)
    folders: set[str] = set()
    # The input is either texts with their spans, which may be nested, or sentences.
    records: Iterable[TextRecord] | None = None
    examples: Iterable[Example] = ()
    predictions = kind_of_predictions(source) if name == "jsonl" else ""
    # Targets of tokens and tags can't mark predictions, so those for bare tokens go there as they are.
    if predictions == "texts" or (predictions == "tokens" and arguments.to not in ("conll", "jsonl")):
        whole_files = arguments.to == "brat"
        if whole_files:
            folders = {r.source["folder"] for r in read_predictions(source) if r.source and "folder" in r.source}
        records = read_predictions(source, whole_files=whole_files)
    elif format_named(name).has_texts:
        records = _texts(read_records(source, options, warnings), warnings, arguments.to)
    else:
        examples = read_examples(read_records(source, options, warnings), options, warnings)

    def lossless(lines: Iterable[str]) -> Iterator[str]:
        """Yield lines; at the end, where everything is known, raise DataError for a loss that is not wanted."""
        yield from lines
        lost = warnings.lines(source, with_losses=True, with_notes=False)
        if arguments.strict and lost:
            raise DataError("; ".join(line.removeprefix("warning: ") for line in lost) + " (--strict)")

    if arguments.to == "conll":
        sentences = examples if records is None else read_examples(records, options, warnings)
        sentences = at_least_one(sentences, source, warnings)
        _write_file(target, lossless(conll_lines((example, [example.tags]) for example in sentences)))
    elif arguments.to == "jsonl" and records is None:
        _write_file(target, lossless(token_lines(at_least_one(examples, source, warnings))))
    elif arguments.to == "brat":
        names = _Names(source if name == "brat" and os.path.isdir(source) else None, folders)
        texts = text_records(examples, warnings) if records is None else records
        _write_folder(target, at_least_one(texts, source, warnings), names, lambda: list(lossless(())))
    else:
        texts = text_records(examples, warnings, by_sentence=True) if records is None else records
        _write_file(target, lossless(LINES[arguments.to](at_least_one(texts, source, warnings))))
    for line in warnings.lines(source, with_losses=True):
        logging.getLogger("nerloop.convert").warning("%s", line)


def _texts(records: Iterable[Any], warnings: ReadWarnings, target: str) -> Iterator[TextRecord]:
    """Yield the texts. Most targets mark texts that nobody annotated, but doccano can't, so a warning counts them."""
    for record in records:
        if isinstance(record, TextRecord):
            if record.spans is None and target == "doccano":
                warnings.add("records that nobody annotated become records without entities", record.location)
            yield record


def text_records(
    examples: Iterable[Example], warnings: ReadWarnings, *, by_sentence: bool = False
) -> Iterator[TextRecord]:
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
            for token in example.tokens:
                if not token:
                    warnings.lose("empty tokens, which no text can hold", example.location)
            lines.append(" ".join(map(_on_one_line, example.tokens)))
            spans += in_characters(example.tags, lay_out(example.tokens, at))
            at += len(lines[-1]) + 1
        yield TextRecord("\n".join(lines), tuple(spans), location, document or location)


def _on_one_line(token: str) -> str:
    """Return a token with plain spaces for all white space, since a line break would end the sentence."""
    return token if token.isprintable() else "".join(" " if c.isspace() else c for c in token)


def _write_file(path: str, lines: Iterable[str]) -> None:
    if path == "-":
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as held:
            held.writelines(lines)  # first all of it: an error at the end, as by --strict, must leave nothing written
            held.seek(0)
            with writing(path) as write:
                write(held)
        return
    if os.path.isdir(path):
        raise DataError(f"{path}: found a folder, expected the name of a file")
    with write_errors(path), atomic.replacing(Path(path), beside=_beside(path)) as beside:
        _write_text(beside, lines)


@dataclass(frozen=True)
class _Names:
    """The names of the texts in a folder of brat's: those of the source's files, else numbers."""

    base: str | None  # the folder of brat's that is converted
    folders: Collection[str]  # those of the files that predictions come from

    def of(self, record: TextRecord, number: int) -> str:
        """Return the name of the .txt file of a text, with sub folders."""
        if self.base is not None:
            return os.path.relpath(record.location, self.base)
        source = record.source or {}
        if not source.get("name"):
            return f"{number:06d}.txt"
        parts = Path(source["name"]).parts
        if len(self.folders) > 1:  # they may hold files of the same name
            folders = [os.path.abspath(folder) for folder in self.folders]
            above = os.path.relpath(os.path.abspath(source.get("folder", "")), os.path.commonpath(folders))
            parts = (*Path(above).parts, *parts)
        # A predictions file may come from anyone; what it names is written below the output folder.
        name = os.path.join(*(part for part in parts if part not in ("..", os.sep)))
        return name if name.endswith(".txt") else f"{name}.txt"


def _write_folder(path: str, records: Iterable[TextRecord], names: _Names, finish: Callable[[], Any]) -> None:
    if path == "-":
        raise DataError("OUT: found -, expected a folder: brat has two files for each text")
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise DataError(f"{path}: found something there, expected the name of a new or empty folder")

    with write_errors(path), atomic.replacing(Path(path), beside=_beside(path)) as beside:
        beside.mkdir()
        for number, record in enumerate(records, start=1):
            text = beside / names.of(record, number)
            if text.exists():
                raise DataError(f"{record.location}: found a second text of the name {names.of(record, number)}")
            text.parent.mkdir(parents=True, exist_ok=True)
            _write_text(text, [record.text])
            if record.spans is not None:
                _write_text(text.with_suffix(".ann"), annotation_lines(record))
        finish()


def _beside(path: str) -> Path:
    """Return the path that this process writes to before it replaces `path`."""
    return Path(f"{path}.{os.getpid()}.part")


def _write_text(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


if __name__ == "__main__":
    main()
