"""Tag text with a saved model, any length: `python -m nerloop.predict --model runs/x/model FILE...`, or standard input.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nerloop import cli
from nerloop.alignment.document import describe_lone_sentences
from nerloop.errors import ConfigError
from nerloop.evaluation.source import Source
from nerloop.evaluators import Counts
from nerloop.inspection.finding import count_of
from nerloop.inspection.first_sentence import describe_sentence
from nerloop.model.saved import KINDS, SavedModel
from nerloop.run.output import refuse_input_as_output, writing

if TYPE_CHECKING:
    from nerloop.evaluation.uncertain import Candidate

MOST_UNCERTAIN = 100_000

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
    parser = cli.Parser(
        prog="python -m nerloop.predict",
        description="Tag sentences with a model that nerloop saved. Files with gold tags are scored as well.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="in any format of data.format; folders of brat's "
                        "(none, or -: standard input). Any other content is read as plain text: a line break ends a "
                        "sentence, a blank line a document",
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="folder of the model")
    cli.add_read_flags(parser, for_saved_model=True)
    parser.add_argument("--output", default="-", metavar="FILE", help="where to write (-: standard output)")
    parser.add_argument(
        "--output_format",
        default="auto",
        choices=("auto", "conll", "jsonl", "label_studio", "prodigy"),
        help="conll: token, gold tag where known, tag; jsonl: tags, spans, confidences, and of texts character "
        "spans (auto: by the suffix .jsonl, else conll for plain text and columns, jsonl for the rest; with "
        "--uncertain: prodigy for .jsonl, else label_studio)",
    )
    parser.add_argument("--uncertain", type=int, metavar="N", help="write only the N sentences most worth annotating, "
                        "as tasks of label_studio or prodigy with the predictions")  # fmt: skip
    cli.add_operating_flags(parser)
    parser.add_argument(
        "--mixed_precision",
        choices=("auto", "no", "bf16"),
        help="precision to tag in; auto: bf16 where the hardware has it (none: that of the training)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="write the metrics of files with gold tags as JSON")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}", help=f"{kind} plugin (none: the one the model was trained with, if it is a built-in one)"
        )
    return parser.parse(argv)


def predict(arguments: argparse.Namespace) -> None:
    """Tag files and write the predictions, some thousand sentences at a time. Raises NerloopError."""
    from nerloop.batching.features import in_chunks
    from nerloop.distributed import collectives
    from nerloop.evaluation import prediction_files, tables
    from nerloop.evaluation.backends import accelerator_of, in_precision
    from nerloop.evaluation.operating import Choice, at_operating_point
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.evaluation.uncertain import Uncertain
    from nerloop.run.logging import release_log, set_up_logging

    chosen = {name: getattr(arguments, name) for name in (*KINDS, "tokenizer")}
    saved = in_precision(SavedModel.read(arguments.model, chosen), arguments.mixed_precision)
    accelerator, precision = accelerator_of(saved)
    is_main = accelerator.is_main_process
    set_up_logging("info", is_main=is_main)
    files = arguments.files or ["-"]
    _check_uncertain(arguments)
    for flag in ("output", "metrics"):
        if (target := getattr(arguments, flag)) is not None and is_main:
            refuse_input_as_output(files, f"--{flag} ", target)
    with Source.of(
        files, cli.read_options(arguments, saved.read_options, for_prediction=True), is_reader=is_main
    ) as source:
        input_counts = collectives.broadcast_from_main(accelerator, source.look_through)
        has_gold = input_counts.num_tokens > 0 and input_counts.tags.total() == input_counts.num_tokens
        evaluator = saved.build_evaluator() if has_gold else None
        predictor, model = load_predictor(arguments.model, saved, accelerator, precision)
        predictor = at_operating_point(predictor, saved, Choice.of(arguments))
        uncertain = None
        if arguments.uncertain is not None:
            predictor = replace(predictor, keeps_scores=True)
            uncertain = Uncertain(predictor, arguments.uncertain)
        if getattr(predictor.alignment, "needs_documents", False) and (
            problem := describe_lone_sentences(
                input_counts.num_without_document, input_counts.num_sentences, "the input"
            )
        ):
            log.warning("warning: %s", problem)
        release_log()
        is_plain = source.is_plain()  # opens each file
        decoding = predictor.main_decoding
        if arguments.metrics and not has_gold and is_main:
            print(f"nerloop: --metrics {arguments.metrics}: no gold tags, so it is not written", file=sys.stderr)
        counts: dict[str, Counts] = {name: Counter() for name in predictor.decodings}
        with writing(arguments.output if is_main else os.devnull) as write_lines:
            form = _output_format(arguments.output_format, arguments.output, is_lines=is_plain or source.is_columns())
            write_all = prediction_files.writer(write_lines, form, decoding, with_documents=not is_plain)
            write = write_all if uncertain is None else uncertain.look_at
            chunks = in_chunks(source.read(), predictor.alignment)
            is_shown = is_plain  # the first sentence shows how columns and records were understood
            # Only the main process reads and sends chunks to the others: standard input can be read only once.
            while chunk := collectives.broadcast_from_main(accelerator, lambda: next(chunks, [])):
                if not is_shown:
                    log.info("as it was read: %s", describe_sentence(replace(chunk[0], tags=())))
                is_shown = True
                split = Split.untagged(chunk, predictor.alignment, predictor.collator)
                found = predictor.tag_in_order(model, split, write, evaluator)
                for name, of_chunk in found.items():
                    counts[name].update(of_chunk)
            if uncertain is not None and is_main:
                _write_tasks(uncertain.chosen(), arguments, decoding, write_lines)
        metrics = {} if evaluator is None else predictor.metrics_of(counts, evaluator)
        if metrics and is_main:
            print(tables.plain_table(*tables.metrics_table(metrics[decoding])), file=sys.stderr)
            if arguments.metrics:
                with writing(arguments.metrics) as write_lines:
                    write_lines([json.dumps(metrics, indent=1) + "\n"])


def _check_uncertain(arguments: argparse.Namespace) -> None:
    """Raise ConfigError if --uncertain is out of range, or does not go with the output format or another flag."""
    number, form = arguments.uncertain, arguments.output_format
    if number is not None and not 1 <= number <= MOST_UNCERTAIN:
        raise ConfigError(f"--uncertain: found {number}, expected 1 to {MOST_UNCERTAIN}")
    if number is not None:
        cli.refuse_flags(
            arguments, cli.OPERATING_FLAGS, "--uncertain", "which looks at what the model itself finds; drop one"
        )
    if number is None and form in ("label_studio", "prodigy"):
        raise ConfigError(
            f"--output_format {form}: expected --uncertain N with it; for all sentences, write jsonl and run "
            f"python -m nerloop.convert predictions.jsonl OUT --to {form}"
        )
    if number is not None and form in ("conll", "jsonl"):
        raise ConfigError(f"--output_format: found {form}, expected label_studio or prodigy with --uncertain")


def _write_tasks(
    chosen: Sequence[Candidate],
    arguments: argparse.Namespace,
    decoding: str,
    write_lines: Callable[[Iterable[str]], None],
) -> None:
    """Write the chosen sentences as tasks of an annotation tool."""
    from nerloop.evaluation.uncertain import TASKS, task_texts

    form = arguments.output_format
    if form == "auto":
        form = "prodigy" if arguments.output.lower().endswith(".jsonl") else "label_studio"
    write_lines(TASKS[form](task_texts(chosen, decoding, form)))
    log.info("%s for %s: %s", count_of(len(chosen), "sentence"), form, arguments.output)


def _output_format(name: str, target: str, *, is_lines: bool) -> str:
    """Return the format to write: `name`, or for "auto" the one that fits the output file and the input."""
    if name != "auto":
        return name
    if target.lower().endswith(".jsonl"):
        return "jsonl"
    return "conll" if is_lines else "jsonl"


if __name__ == "__main__":
    main()
