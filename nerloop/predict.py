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
from typing import Any, BinaryIO

from nerloop.alignment.document import what_stands_alone
from nerloop.data import TextOptions, format_of, iterate_files
from nerloop.data.formats import FORMATS, SUFFIXES, TEXT_READERS
from nerloop.data.lines import open_lines
from nerloop.data.segmentation import read_text
from nerloop.data.tag_counts import TagCounts
from nerloop.errors import STOPPED, DataError, Interrupted, NerloopError
from nerloop.evaluators import Counts
from nerloop.model.saved import KINDS, SavedModel
from nerloop.types import Example

log = logging.getLogger("nerloop.predict")  # not __name__: this file is run as __main__


def main() -> None:
    """Parse the command line, tag, write; leave with the exit code."""
    from nerloop.distributed import threads

    threads.limit_spinning()  # before anything imports torch
    from nerloop.distributed import collectives

    try:
        predict(_arguments(sys.argv[1:]))
        collectives.destroy_process_group()
    except NerloopError as error:
        if collectives.is_local_main():
            print(f"nerloop: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if collectives.is_local_main():
            print(STOPPED, file=sys.stderr)
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nerloop.predict",
        description="Tag sentences with a model that nerloop saved. Files with gold tags are scored as well.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="in any format of data.format; folders of brat's "
                        "(none: plain text from standard input, a sentence a line, a blank line between documents)",
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--format", default="auto", choices=("auto", *FORMATS, "text"), help="of the files")
    parser.add_argument("--token_column", help="index or name of the column with tokens")
    parser.add_argument("--tag_column", help="index or name of the column with gold tags")
    parser.add_argument("--tokenizer", help="rule that cuts texts, as data.tokenizer (none: that of the training)")
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
    from nerloop.distributed import collectives
    from nerloop.distributed import launch as hardware
    from nerloop.distributed.precision import precision_here
    from nerloop.evaluation import prediction_files
    from nerloop.evaluation import tables as report
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.run import malloc
    from nerloop.run.logging import release_log, set_up_logging

    chosen = {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")}
    saved = SavedModel.read(arguments.model, chosen)
    precision = precision_here(saved.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    accelerator = hardware.make_accelerator(precision)
    if accelerator.device.type == "cpu":
        malloc.keep_freed_memory()
    is_main = accelerator.is_main_process
    set_up_logging("info", is_main=is_main)
    source = Source.of(arguments, saved.tokenizer)
    known = collectives.broadcast_from_main(accelerator, source.look_through)
    predictor, model, evaluator = load_predictor(arguments.model, saved, accelerator, precision)
    if getattr(predictor.alignment, "needs_documents", False) and (
        problem := what_stands_alone(known.num_without_document, known.num_sentences, "the input")
    ):
        log.warning("warning: %s", problem)
    release_log()
    decoding = next(iter(predictor.decodings))
    has_gold = known.num_tokens > 0 and known.tags.total() == known.num_tokens
    if arguments.metrics and not has_gold and is_main:
        print(f"nerloop: --metrics {arguments.metrics}: no gold tags, so it is not written", file=sys.stderr)
    counts: dict[str, Counts] = {name: Counter() for name in predictor.decodings}
    with _writing(arguments.output if is_main else os.devnull) as write_lines:
        write = prediction_files.writer(
            write_lines, _output_format(arguments), decoding, with_documents=not source.is_plain
        )
        chunks = in_chunks(source.read(), predictor.alignment)
        # By the main process alone: standard input can be read once.
        while chunk := collectives.broadcast_from_main(accelerator, lambda: next(chunks, [])):
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
    """What is to be tagged: files, which are read as often as need be, or standard input, which is read once."""

    paths: Sequence[str]
    format: str
    options: dict[str, Any]  # of the readers
    with_tags: bool = True

    @staticmethod
    def of(arguments: argparse.Namespace, tokenizer: str) -> Source:
        """Return what the arguments name; `tokenizer` is the rule that texts are cut by."""
        options = {
            "token_column": arguments.token_column, "tag_column": arguments.tag_column,
            "text": TextOptions(tokenizer=tokenizer),
        }  # fmt: skip
        return Source(arguments.files, arguments.format, options)

    @property
    def is_plain(self) -> bool:
        """Whether this is plain text, a sentence a line."""
        return not self.paths or self.format == "text"

    def look_through(self) -> TagCounts:
        """Return what there is in the files, and decide whether their gold tags are read: where all of them have some.

        A mistake in a file is found here, before anything is tagged. Of standard input nothing is known. Raises
        DataError.
        """
        if self.is_plain:
            return TagCounts.of(self.read() if self.paths else ())
        remarks: list[str] = []
        try:
            found = TagCounts.of(self.read(remarks))
            if any(self._format_of(path) in TEXT_READERS for path in self.paths):
                # Those that nobody annotated have been left out, but they are to be tagged as well.
                remarks_on_whole: list[str] = []
                whole = TagCounts.of(replace(self, with_tags=False).read(remarks_on_whole))
                if whole.num_sentences > found.num_sentences:
                    print("nerloop: not all records are annotated, so no scores", file=sys.stderr)
                    self.with_tags, found, remarks = False, whole, remarks_on_whole
        except DataError as error:
            if self.options["tag_column"] is not None:
                raise
            self.with_tags = False
            try:
                found = TagCounts.of(self.read(remarks))
            except DataError:
                raise DataError(f"{error}{self._hint}") from None
            print(f"nerloop: no gold tags, so no scores ({error}){self._hint}", file=sys.stderr)
        for remark in remarks:
            log.warning("%s", remark)
        return found

    def read(self, remarks: list[str] | None = None) -> Iterator[Example]:
        """Yield the sentences as they are read; put into `remarks` what was changed or left out. Raises DataError."""
        rule = self.options["text"].rule
        if not self.paths:
            return read_text(_lines_of(sys.stdin.buffer), "standard input", rule)
        if self.format == "text":
            texts = ((path, (text for _, text in open_lines(path))) for path in self.paths)
            return itertools.chain.from_iterable(read_text(lines, path, rule) for path, lines in texts)
        found = [] if remarks is None else remarks
        return iterate_files(self.paths, format=self.format, with_tags=self.with_tags, remarks=found, **self.options)

    @property
    def _hint(self) -> str:
        """What to say behind a mistake in files that nothing but their content has made columns of."""
        guessed = [path for path in self.paths if self.format == "auto" and not Path(path).is_dir()]
        is_told = [self._format_of(path) != "conll" or Path(path).suffix.lower() in SUFFIXES for path in guessed]
        return "" if all(is_told) else "; is this plain text? Then say --format text"

    def _format_of(self, path: str) -> str:
        return format_of(path) if self.format == "auto" else self.format


def _output_format(arguments: argparse.Namespace) -> str:
    if arguments.output_format != "auto":
        return str(arguments.output_format)
    if not arguments.files or arguments.format == "text":
        return "conll"
    found = format_of(arguments.files[0]) if arguments.format == "auto" else str(arguments.format)
    return "conll" if found in ("conll", "conllu") else "jsonl"


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
