"""Report where a saved model errs, as text, JSON, or a page: `python -m nerloop.evaluate --model runs/x/model FILE...`.

Instead of a model, `--predictions` takes a predictions file of a run or of `nerloop.predict` with gold tags. With
`--suspects`, the command checks the file instead of the model, and lists the labels that are most likely wrong.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nerloop import cli, plugins
from nerloop.data import ReadOptions, read_files
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.source import Source
from nerloop.evaluators import Counts
from nerloop.model.saved import KINDS, TAGGING, SavedModel
from nerloop.run.output import refuse_input_as_output, writing
from nerloop.tags import OUTSIDE, to_spans
from nerloop.types import Example

if TYPE_CHECKING:
    from nerloop.evaluation.operating import Choice
    from nerloop.evaluation.predictor import Predictor
    from nerloop.evaluation.report.breakdown import TrainingNames
    from nerloop.evaluation.suspects.suspects import Suspects

log = logging.getLogger("nerloop.evaluate")  # not __name__: this file is run as __main__


def main() -> None:
    """Parse the command line, evaluate, write; leave with the exit code."""
    from nerloop.distributed import threads

    threads.limit_spinning()  # before anything imports torch
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: evaluate(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
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
    parser.add_argument("--suspects", type=int, nargs="?", const=50, metavar="N", help="list the N (50) labels that "
                        "are most likely wrong: those that the model contradicts most clearly")  # fmt: skip
    parser.add_argument("--run", metavar="DIR", help="with --suspects: check the training data of this run, which was "
                        "trained with run.record_tokens")  # fmt: skip
    parser.add_argument("--label_studio", metavar="FILE", help="with --suspects: write their sentences as tasks of "
                        "Label Studio")  # fmt: skip
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}", help=f"{kind} plugin (none: the one the model was trained with, if it is a built-in one)"
        )
    return parser.parse(argv)


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluate a model on files, or a predictions file, and write the result. Raises NerloopError."""
    from nerloop.evaluation.operating import Choice
    from nerloop.evaluation.report.as_html import as_html
    from nerloop.evaluation.report.as_text import as_text

    if arguments.suspects is not None:
        return _suspects(arguments)
    for flag in ("run", "label_studio"):
        if getattr(arguments, flag) is not None:
            raise ConfigError(f"--{flag}: found without --suspects, expected with it")
    from_file = arguments.predictions is not None
    if from_file == (arguments.model is not None) or from_file == bool(arguments.files):
        raise ConfigError("expected --model and annotated files, or --predictions alone")
    if from_file:
        cli.refuse_flags(arguments, (*cli.OPERATING_FLAGS, *TAGGING), "--predictions")
    inputs = [arguments.predictions] if from_file else [*arguments.files]
    _check_outputs(arguments, [*inputs, *arguments.train])
    choice = Choice.of(arguments)
    found = _of_predictions(arguments) if from_file else _of_model(arguments, choice)
    found["settings"] = choice.asked()
    if "-" not in (arguments.json, arguments.html):
        cli.print_report(as_text(found))
    if arguments.html is not None:
        with writing(arguments.html) as write_lines:
            # The title has the thresholds: a page may be passed on, and with a threshold a model misses many entities.
            write_lines([as_html(found, ", ".join([*inputs, *(f"{n} {v}" for n, v in found["settings"].items())]))])
    if arguments.json is not None:
        with writing(arguments.json) as write_lines:
            write_lines([json.dumps(found) + "\n"])


def _suspects(arguments: argparse.Namespace) -> None:
    """List the labels that are most likely wrong. Raises NerloopError."""
    from nerloop.evaluation.suspects.as_html import as_html
    from nerloop.evaluation.suspects.as_text import as_text
    from nerloop.evaluation.suspects.dynamics import suspects_of_run
    from nerloop.evaluation.suspects.predictions import suspects_of_predictions
    from nerloop.evaluation.suspects.review import tasks
    from nerloop.inspection.parts import is_line_per_token

    cli.refuse_flags(arguments, ("train", *cli.OPERATING_FLAGS), "--suspects")
    if arguments.model is None:
        cli.refuse_flags(arguments, KINDS, "--suspects without --model")
    number = arguments.suspects
    if number < 1:
        raise ConfigError(f"--suspects: found {number}, expected 1 or more")
    sources = [flag for flag in ("run", "model", "predictions") if getattr(arguments, flag) is not None]
    if len(sources) != 1 or (arguments.model is not None) > bool(arguments.files):
        raise ConfigError(
            "--suspects: expected one of --run DIR (its training data), --model DIR with annotated files that it was "
            "not trained on, and --predictions FILE"
        )
    inputs = [*arguments.files, *(f for f in (arguments.predictions,) if f is not None)]
    _check_outputs(arguments, inputs)
    if arguments.run is not None:
        suspects = suspects_of_run(arguments.run, arguments.files, arguments.tokenizer)
    elif arguments.predictions is not None:
        options = cli.read_options(arguments, ReadOptions())
        examples = read_files(arguments.files, options)[0] if arguments.files else None
        has_lines = is_line_per_token(arguments.files, options)
        suspects = suspects_of_predictions(arguments.predictions, examples, has_line_per_token=has_lines)
    else:
        suspects = _suspects_of_model(arguments)
    found = suspects.to_json()
    outputs: dict[str, Callable[[], Iterable[str]]] = {
        "html": lambda: [as_html(found, ", ".join(inputs) or arguments.run, number)],
        "json": lambda: [json.dumps(found) + "\n"],
        "label_studio": lambda: tasks(found, number),
    }
    if "-" not in [getattr(arguments, name) for name in outputs]:
        cli.print_report(as_text(found, number))
    for name, lines in outputs.items():
        if (target := getattr(arguments, name)) is not None:
            with writing(target) as write_lines:
                write_lines(lines())


def _check_outputs(arguments: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Raise NerloopError if an output would overwrite an input."""
    for flag in ("json", "html", "label_studio"):
        if (target := getattr(arguments, flag)) is not None:
            refuse_input_as_output(inputs, f"--{flag} ", target)


def _suspects_of_model(arguments: argparse.Namespace) -> Suspects:
    """Return the suspects of annotated files, by a model that was not trained on them."""
    import numpy as np

    from nerloop.batching.features import in_chunks
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.report.training_data import trained_on
    from nerloop.evaluation.suspects.suspects import Doubts, Suspects
    from nerloop.inspection.parts import is_line_per_token
    from nerloop.run.logging import release_log

    predictor, model, options, _ = _load(arguments)
    if known := trained_on(arguments.model, arguments.files):
        log.warning(
            "warning: the model was trained on %s and may repeat its errors; --run judges them", ", ".join(known)
        )
    release_log()
    decode, labels = predictor.decodings[predictor.main_decoding].decode, predictor.labels
    with Source.of(arguments.files, options, is_reader=True) as source:
        has_lines = is_line_per_token(source.paths, options)
        suspects = Suspects(arguments.model, has_line_per_token=has_lines)
        for chunk in in_chunks(_checked(source, labels), predictor.alignment):
            split = Split.untagged(chunk, predictor.alignment, predictor.collator)
            scores: dict[int, np.ndarray] = {}
            for group in predictor.scores(model, split):
                scores.update(group)
            best = decode([scores[i] for i in range(len(chunk))])
            for i, (example, ids) in enumerate(zip(chunk, best, strict=True)):
                spans = to_spans([labels[label] for label in ids])
                suspects.add(example, spans, Doubts(labels, np.exp(scores[i])))
    return suspects


def _of_predictions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the analysis of a predictions file."""
    from nerloop.evaluation.report.breakdown import TrainingNames
    from nerloop.evaluation.report.predictions import read_predictions

    options = cli.read_options(arguments, ReadOptions())
    names = TrainingNames.of(read_files(arguments.train, options)[0]) if arguments.train else None
    evaluator = None if arguments.evaluator is None else plugins.build("evaluator", arguments.evaluator)
    analysis, metrics = read_predictions(arguments.predictions, names, evaluator)
    return analysis.to_json(metrics)


def _of_model(arguments: argparse.Namespace, choice: Choice) -> dict[str, Any]:
    """Tag annotated files, some thousand sentences at a time, and return their analysis."""
    from nerloop.batching.features import in_chunks
    from nerloop.evaluation.operating import at_operating_point
    from nerloop.evaluation.prediction_files import missed_spans
    from nerloop.evaluation.predictor import Prediction, Split
    from nerloop.evaluation.report.analysis import Analysis
    from nerloop.run.logging import release_log

    predictor, model, options, saved = _load(arguments)
    evaluator = saved.build_evaluator()
    with Source.of(arguments.files, options, is_reader=True) as source:
        names = _training_names(arguments, options)
        predictor = at_operating_point(predictor, saved, choice)
        predictor = replace(predictor, keeps_uncalibrated=True)
        release_log()
        decoding, analysis = predictor.main_decoding, Analysis(names)
        counts: dict[str, Counts] = {name: Counter() for name in predictor.decodings}

        def add(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
            for example, prediction in zip(examples, tagged, strict=True):
                analysis.add(example, prediction.spans(decoding), missed_spans(example, prediction, decoding))

        for chunk in in_chunks(_checked(source, predictor.labels), predictor.alignment):
            split = Split.untagged(chunk, predictor.alignment, predictor.collator)
            found = predictor.tag_in_order(model, split, add, evaluator)
            for name, of_chunk in found.items():
                counts[name].update(of_chunk)
        return analysis.to_json(predictor.metrics_of(counts, evaluator)[decoding])


def _load(arguments: argparse.Namespace) -> tuple[Predictor, Any, ReadOptions, SavedModel]:
    """Return the predictor and model of the saved model, the options to read files, and its settings."""
    from nerloop.evaluation.backends import single_process
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.run import malloc
    from nerloop.run.logging import set_up_logging

    set_up_logging("info", is_main=True)
    saved = SavedModel.read(arguments.model, {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")})
    options = cli.read_options(arguments, saved.read_options)
    accelerator, precision = single_process(saved, None)
    if accelerator.device is None or accelerator.device.type == "cpu":
        malloc.keep_freed_memory()
    loaded = load_predictor(arguments.model, saved, accelerator, precision)
    return (*loaded, options, saved)


def _training_names(arguments: argparse.Namespace, options: ReadOptions) -> TrainingNames | None:
    """Return the names in the training data, from --train or the model's run; None if these data are not found."""
    from nerloop.evaluation.report.breakdown import TrainingNames
    from nerloop.evaluation.report.training_data import names_of_run

    if arguments.train:
        return TrainingNames.of(read_files(arguments.train, options)[0])
    names, line = names_of_run(arguments.model, options.tokenizer)
    log.info("%s", line)
    return names


def _checked(source: Source, labels: Sequence[str]) -> Iterator[Example]:
    """Yield the sentences. Raises DataError for a type that the model does not know, and if nothing is annotated."""
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
