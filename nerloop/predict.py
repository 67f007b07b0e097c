"""Tag text with a saved model, any length: `python -m nerloop.predict --model runs/x/model FILE...`, or standard input.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nerloop import cli
from nerloop.alignment.document import describe_lone_sentences
from nerloop.data import ReadOptions, format_of, iterate_files
from nerloop.data.detect import SUFFIXES
from nerloop.data.formats import FORMATS
from nerloop.data.lines import open_lines
from nerloop.data.options import SETTINGS
from nerloop.data.segmentation import read_text
from nerloop.data.tag_counts import TagCounts
from nerloop.errors import DataError
from nerloop.evaluators import Counts
from nerloop.model.saved import KINDS, SavedModel
from nerloop.types import Example

log = logging.getLogger("nerloop.predict")  # not __name__: this file is run as __main__


def main() -> None:
    """Parse the command line, tag, write; leave with the exit code."""
    from nerloop.distributed import threads

    threads.limit_spinning()  # before anything imports torch
    from nerloop.distributed import collectives

    arguments = _arguments(sys.argv[1:])

    def command() -> None:
        predict(arguments)
        collectives.destroy_process_group()

    cli.run_command(command, is_speaker=collectives.is_local_main)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nerloop.predict",
        description="Tag sentences with a model that nerloop saved. Files with gold tags are scored as well.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="in any format of data.format; folders of brat's "
                        "(none: plain text from standard input, a sentence a line, a blank line between documents)",
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="folder of the model")
    cli.add_read_flags(parser, formats=("text",), for_saved_model=True)
    parser.add_argument("--output", default="-", metavar="FILE", help="where to write (-: standard output)")
    parser.add_argument(
        "--output_format",
        default="auto",
        choices=("auto", "conll", "jsonl"),
        help="conll: token, gold tag where known, tag; jsonl: tags, spans, confidences, and of texts character "
        "spans (auto: conll for columns, else jsonl)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="write the metrics of files with gold tags as JSON")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}", help=f"{kind} plugin (none: the one the model was trained with, if it is a built-in one)"
        )
    return parser.parse_args(argv)


def predict(arguments: argparse.Namespace) -> None:
    """Tag what the arguments name and write it, some thousand sentences at a time. Raises NerloopError."""
    import torch

    from nerloop.batching.features import in_chunks
    from nerloop.distributed import collectives, launch
    from nerloop.distributed.precision import precision_here
    from nerloop.evaluation import prediction_files
    from nerloop.evaluation import tables as report
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.inspection.first_sentence import describe_sentence
    from nerloop.run import malloc
    from nerloop.run.logging import release_log, set_up_logging

    chosen = {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")}
    saved = SavedModel.read(arguments.model, chosen)
    precision = precision_here(saved.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    accelerator = launch.make_accelerator(precision)
    if accelerator.device.type == "cpu":
        malloc.keep_freed_memory()
    is_main = accelerator.is_main_process
    set_up_logging("info", is_main=is_main)
    source = Source(arguments.files, read_options(arguments, saved.read_options))
    known = collectives.broadcast_from_main(accelerator, source.look_through)
    predictor, model, evaluator = load_predictor(arguments.model, saved, accelerator, precision)
    if getattr(predictor.alignment, "needs_documents", False) and (
        problem := describe_lone_sentences(known.num_without_document, known.num_sentences, "the input")
    ):
        log.warning("warning: %s", problem)
    release_log()
    decoding = predictor.main_decoding
    has_gold = known.num_tokens > 0 and known.tags.total() == known.num_tokens
    if arguments.metrics and not has_gold and is_main:
        print(f"nerloop: --metrics {arguments.metrics}: no gold tags, so it is not written", file=sys.stderr)
    counts: dict[str, Counts] = {name: Counter() for name in predictor.decodings}
    with _writing(arguments.output if is_main else os.devnull) as write_lines:
        write = prediction_files.writer(
            write_lines, _output_format(arguments, source.options), decoding, with_documents=not source.is_plain
        )
        chunks = in_chunks(source.read(), predictor.alignment)
        is_shown = source.is_plain
        # By the main process alone: standard input can be read once.
        while chunk := collectives.broadcast_from_main(accelerator, lambda: next(chunks, [])):
            if not is_shown:
                log.info("as it was read: %s", describe_sentence(replace(chunk[0], tags=())))
            is_shown = True
            # Features without labels: gold tags may be none of the model's.
            split = Split.of([replace(e, tags=()) for e in chunk], predictor.alignment, predictor.collator)
            found = predictor.tag_in_order(
                model, replace(split, examples=chunk), write, evaluator if has_gold else None
            )
            for name, of_chunk in found.items():
                counts[name].update(of_chunk)
    metrics = predictor.metrics_of(counts, evaluator) if has_gold else {}
    if metrics and is_main:
        print(report.plain_table(*report.metrics_table(metrics[decoding])), file=sys.stderr)
        if arguments.metrics:
            with _writing(arguments.metrics) as write_lines:
                write_lines([json.dumps(metrics, indent=1) + "\n"])


@dataclass
class Source:
    """What is to be tagged: files, which can be read several times, or standard input, which is read once."""

    paths: Sequence[str]
    options: ReadOptions

    @property
    def is_plain(self) -> bool:
        """Whether this is plain text, one sentence a line."""
        return not self.paths or self.options.format == "text"

    def look_through(self) -> TagCounts:
        """Return the counts of the files, and decide whether gold tags are read: only if all records have some.

        A mistake in a file is found here, before anything is tagged. Standard input has no counts. Raises DataError.
        """
        if self.is_plain:
            return TagCounts.of(self.read() if self.paths else ())
        warnings: list[str] = []
        without_tags = replace(self.options, with_tags=False)
        try:
            found = TagCounts.of(self.read(warnings))
            if any(FORMATS[format_of(path, self.options)].has_texts for path in self.paths):
                # Records that nobody annotated were left out so far, but they are to be tagged as well.
                warnings_of_all: list[str] = []
                everything = TagCounts.of(replace(self, options=without_tags).read(warnings_of_all))
                if everything.num_sentences > found.num_sentences:
                    print("nerloop: not all records are annotated, so no scores", file=sys.stderr)
                    self.options, found, warnings = without_tags, everything, warnings_of_all
        except DataError as error:
            if self.options.tag_column is not None:
                raise
            hint, self.options = self._hint, without_tags
            try:
                found = TagCounts.of(self.read(warnings))
            except DataError:
                raise DataError(f"{error}{hint}") from None
            print(f"nerloop: no gold tags, so no scores ({error}){hint}", file=sys.stderr)
        for line in warnings:
            log.warning("%s", line)
        return found

    def read(self, warnings: list[str] | None = None) -> Iterator[Example]:
        """Yield the sentences while reading; append to `warnings` what was changed or left out. Raises DataError."""
        rule = self.options.rule
        if not self.paths:
            return read_text(_lines_of(sys.stdin.buffer), "standard input", rule)
        if self.is_plain:
            texts = ((path, (text for _, text in open_lines(path))) for path in self.paths)
            return itertools.chain.from_iterable(read_text(lines, path, rule) for path, lines in texts)
        return iterate_files(self.paths, self.options, warnings=[] if warnings is None else warnings)

    @property
    def _hint(self) -> str:
        """The end of a message about a mistake, where only the content of a file was taken for columns."""
        guessed = [path for path in self.paths if self.options.format == "auto" and not Path(path).is_dir()]
        is_told = [
            format_of(path, self.options) != "conll" or Path(path).suffix.lower() in SUFFIXES for path in guessed
        ]
        return "" if all(is_told) else "; is this plain text? Then say --format text"


def read_options(arguments: argparse.Namespace, saved: ReadOptions) -> ReadOptions:
    """Return how the files are read: as the flags say, else as the model's training files were; formats may differ."""
    given = {s.name: getattr(arguments, s.name) for s in SETTINGS}
    kept = {s.name: getattr(saved, s.name) for s in SETTINGS if given[s.name] is None and not s.metadata["is_of_files"]}
    return ReadOptions(**{**given, **kept})


def _output_format(arguments: argparse.Namespace, options: ReadOptions) -> str:
    if arguments.output_format != "auto":
        return str(arguments.output_format)
    if not arguments.files or arguments.format == "text":
        return "conll"
    is_columns = format_of(arguments.files[0], options) in ("conll", "conllu", "conll2012")
    return "conll" if is_columns else "jsonl"


def _lines_of(file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file):
        yield (line if number else line.removeprefix(b"\xef\xbb\xbf")).decode("utf-8", "replace")


@contextlib.contextmanager
def _writing(path: str) -> Iterator[Callable[[Iterable[str]], None]]:
    """Give a function that writes lines, to a file that is there when all of it is, or to standard output ("-").

    Raises DataError where that can't be written.
    """
    if path == "-":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        yield sys.stdout.writelines
        sys.stdout.flush()
        return
    is_file = not os.path.exists(path) or os.path.isfile(path)
    beside = f"{path}.{os.getpid()}.part" if is_file else path
    with _write_errors(path):
        file = open(beside, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed below)

    def write(lines: Iterable[str]) -> None:
        with _write_errors(path):
            file.writelines(lines)

    try:
        with file:
            yield write
            with _write_errors(path):
                file.flush()
        if is_file:
            with _write_errors(path):
                os.replace(beside, path)
    finally:
        if is_file and os.path.exists(beside):
            os.unlink(beside)


@contextlib.contextmanager
def _write_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
