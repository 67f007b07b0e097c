"""Say where a saved model errs: `python -m nerloop.evaluate --model runs/x/model FILE...`; as text, JSON, or a page.

Instead of a model `--predictions` takes what a run or `nerloop.predict` has written for annotated sentences.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nerloop import cli
from nerloop.data import ReadOptions, read_files
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.source import Source
from nerloop.evaluators import Counts
from nerloop.model.saved import KINDS, SavedModel
from nerloop.run.output import refuse_input_as_output, writing
from nerloop.tags import OUTSIDE, to_spans
from nerloop.types import Example

if TYPE_CHECKING:
    from nerloop.evaluation.report.breakdown import TrainingNames

log = logging.getLogger("nerloop.evaluate")  # not __name__: this file is run as __main__


def main() -> None:
    """Parse the command line, evaluate, write; leave with the exit code."""
    from nerloop.distributed import threads

    threads.limit_spinning()  # before anything imports torch
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: evaluate(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nerloop.evaluate",
        description="Score a model that nerloop saved on annotated files, and say where it errs.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="annotated files, in any format of data.format "
                        "(-: standard input)")  # fmt: skip
    parser.add_argument("--model", help="folder of the model")
    parser.add_argument("--predictions", metavar="FILE", help="instead of a model and files: a predictions.*.jsonl "
                        "with gold tags, of a run or of nerloop.predict")  # fmt: skip
    parser.add_argument("--train", nargs="+", default=[], metavar="FILE", help="training files, to tell known names "
                        "from new ones (none: those of the run that saved the model, if they exist)")  # fmt: skip
    cli.add_read_flags(parser, for_saved_model=True)
    cli.add_operating_flags(parser)
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON (-: to standard output)")
    parser.add_argument("--html", metavar="FILE", help="write a page with figures and the worst errors of each kind")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}", help=f"{kind} plugin (none: the one the model was trained with, if it is a built-in one)"
        )
    return parser.parse_args(argv)


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluate what the arguments name and write the result. Raises NerloopError."""
    from nerloop.evaluation.report.as_html import as_html
    from nerloop.evaluation.report.as_text import as_text

    is_of_file = arguments.predictions is not None
    if is_of_file == (arguments.model is not None) or is_of_file == bool(arguments.files):
        raise ConfigError("expected --model and annotated files, or --predictions alone")
    inputs = [arguments.predictions] if is_of_file else [*arguments.files]
    for flag in ("json", "html"):
        if (target := getattr(arguments, flag)) is not None:
            refuse_input_as_output([*inputs, *arguments.train], f"--{flag} ", target)
    found = _of_predictions(arguments) if is_of_file else _of_model(arguments)
    if arguments.json != "-":
        cli.print_report(as_text(found))
    if arguments.html is not None:
        with writing(arguments.html) as write_lines:
            write_lines([as_html(found, ", ".join(inputs))])
    if arguments.json is not None:
        with writing(arguments.json) as write_lines:
            write_lines([json.dumps(found) + "\n"])


def _of_predictions(arguments: argparse.Namespace) -> dict[str, Any]:
    from nerloop.evaluation.report.breakdown import TrainingNames
    from nerloop.evaluation.report.predictions import read_predictions

    options = cli.read_options(arguments, ReadOptions())
    names = TrainingNames.of(read_files(arguments.train, options)[0]) if arguments.train else None
    analysis, metrics = read_predictions(arguments.predictions, names)
    return analysis.to_json(metrics)


def _of_model(arguments: argparse.Namespace) -> dict[str, Any]:
    """Tag annotated files, some thousand sentences at a time, and return their analysis."""
    import torch

    from nerloop.batching.features import in_chunks
    from nerloop.distributed.collectives import SingleProcess
    from nerloop.distributed.precision import precision_here
    from nerloop.evaluation.operating import at_operating_point
    from nerloop.evaluation.prediction_files import missed_spans
    from nerloop.evaluation.predictor import Prediction, Split
    from nerloop.evaluation.report.analysis import Analysis
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.run import malloc
    from nerloop.run.logging import release_log, set_up_logging

    set_up_logging("info", is_main=True)
    saved = SavedModel.read(arguments.model, {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")})
    options = cli.read_options(arguments, saved.read_options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        malloc.keep_freed_memory()
    precision = precision_here(saved.precision, device)
    with Source.of(arguments.files, options, is_reader=True) as source:
        names = _training_names(arguments, options)
        predictor, model, evaluator = load_predictor(
            arguments.model, saved, SingleProcess(device, precision), precision
        )
        predictor = at_operating_point(predictor, saved.calibration, saved.scheme, arguments)
        predictor = replace(predictor, keeps_uncalibrated=True)
        release_log()
        decoding, analysis = predictor.main_decoding, Analysis(names)
        counts: dict[str, Counts] = {name: Counter() for name in predictor.decodings}

        def add(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
            for example, prediction in zip(examples, tagged, strict=True):
                analysis.add(example, prediction.spans(decoding), missed_spans(example, prediction, decoding))

        for chunk in in_chunks(_checked(source, predictor.labels), predictor.alignment):
            # Features without labels: gold tags may be of another scheme than the model's.
            split = Split.of([replace(e, tags=()) for e in chunk], predictor.alignment, predictor.collator)
            found = predictor.tag_in_order(model, replace(split, examples=chunk), add, evaluator)
            for name, of_chunk in found.items():
                counts[name].update(of_chunk)
        return analysis.to_json(predictor.metrics_of(counts, evaluator)[decoding])


def _training_names(arguments: argparse.Namespace, options: ReadOptions) -> TrainingNames | None:
    from nerloop.evaluation.report.breakdown import TrainingNames
    from nerloop.evaluation.report.training_data import names_of_run

    if arguments.train:
        return TrainingNames.of(read_files(arguments.train, options)[0])
    names, line = names_of_run(arguments.model, options.tokenizer)
    log.info("%s", line)
    return names


def _checked(source: Source, labels: Sequence[str]) -> Iterator[Example]:
    """Yield the sentences. Raises DataError for a type that the model does not know, and where nothing is annotated."""
    known = {label.partition("-")[2] for label in labels if label != OUTSIDE}
    warnings: list[str] = []
    has_spans = False
    for example in source.read(warnings):
        for span in (*to_spans(example.tags), *example.missed):
            has_spans = True
            if span.type not in known:
                raise DataError(
                    f"{example.location}: found the type {span.type!r}, which the model does not have, expected one of "
                    f"{', '.join(sorted(known))}"
                )
        yield example
    for line in warnings:
        log.warning("%s", line)
    if not has_spans:
        raise DataError(f"{', '.join(map(os.fspath, source.paths))}: found no entity, expected annotated sentences")


if __name__ == "__main__":
    main()
