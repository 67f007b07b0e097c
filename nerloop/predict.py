"""Tag text with a saved model, any length: `python -m nerloop.predict --model runs/x/model FILE...`, or standard input.

Exit codes: 0 done, 2 bad input (one line on stderr).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerloop.alignment.document import Document, what_stands_alone
from nerloop.config import ModelSettings, Plugin
from nerloop.data import TextOptions, format_of, read_files
from nerloop.data.formats import FORMATS
from nerloop.data.statistics import Statistics
from nerloop.errors import DataError, ModelError, NerloopError, PluginError
from nerloop.inference import NERLOOP_JSON
from nerloop.plugins import BUILT_IN
from nerloop.tags import Scheme
from nerloop.types import Example

log = logging.getLogger("nerloop.predict")  # not __name__: this file is run as __main__


def main() -> None:
    """Parse the command line, tag, write; leave with the exit code."""
    from nerloop import hardware

    try:
        predict(_arguments(sys.argv[1:]))
        hardware.leave()
    except NerloopError as error:
        if hardware.speaks():
            print(f"nerloop: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
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
    parser.add_argument("--tokenizer", default="words", help="of texts: as data.tokenizer was in training")
    parser.add_argument("--output", default="-", metavar="FILE", help="where to write (-: standard output)")
    parser.add_argument(
        "--output_format",
        default="auto",
        choices=("auto", "conll", "jsonl"),
        help="conll: token, gold tag where known, tag; jsonl: tags, spans, confidences, and of texts character "
        "spans (auto: conll for columns, else jsonl)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="write the metrics of files with gold tags as JSON")
    for kind in BUILT_IN:
        parser.add_argument(
            f"--{kind}", help=f"{kind} plugin (none: the one the model was trained with, if it is a built-in one)"
        )
    return parser.parse_args(argv)


def predict(arguments: argparse.Namespace) -> None:
    """Tag what the arguments name and write it. Raises NerloopError."""
    from nerloop import hardware, report
    from nerloop.inference import Split
    from nerloop.tracking import release_log, set_up_logging

    ours = read_settings(arguments)
    precision = ours["mixed_precision"]
    if precision == "fp16" and not hardware.has_accelerator():
        precision = "no"
    accelerator = hardware.make_accelerator(precision)
    set_up_logging("info", is_main=accelerator.is_main_process)
    examples = hardware.main_decides(accelerator, lambda: read_input(arguments))  # standard input can be read once
    tagger, model, evaluator = load(arguments.model, ours, accelerator, precision)
    if isinstance(tagger.alignment, Document) and (problem := _what_stands_alone(examples)):
        log.warning("warning: %s", problem)
    release_log()
    # Features without labels: gold tags may be none of the model's.
    split = replace(
        Split.of([replace(e, tags=()) for e in examples], tagger.alignment, tagger.collator), examples=examples
    )
    tagged = tagger.tag(model, split)
    whole = tagger.gather(tagged, len(examples))
    has_gold = all(e.tags for e in examples if e.tokens) and any(e.tags for e in examples)
    metrics = tagger.metrics(tagged, split, evaluator) if has_gold else {}
    if not accelerator.is_main_process:
        return
    decoding = next(iter(tagger.decodings))
    lines = report.jsonl_lines if _output_format(arguments) == "jsonl" else report.conll_lines
    _write(arguments.output, lines(examples, whole, decoding))
    if metrics:
        print(report.plain_table(report.rows_of(metrics[decoding]), report.HEADINGS), file=sys.stderr)
        if arguments.metrics:
            _write(arguments.metrics, [json.dumps(metrics, indent=1) + "\n"])


def _what_stands_alone(examples: Sequence[Example]) -> str:
    known = Statistics.of(examples)
    return what_stands_alone(known.num_without_document, known.num_sentences, "the input")


def read_input(arguments: argparse.Namespace) -> Sequence[Example]:
    """Return the examples of the files, or of standard input; with their gold tags where all files have some."""
    from nerloop.data.lines import open_lines
    from nerloop.data.text import read_text

    if not arguments.files:
        lines = sys.stdin.buffer.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        return read_text([line.decode("utf-8", "replace") for line in lines], "standard input")
    if arguments.format == "text":
        return [e for f in arguments.files for e in read_text([text for _, text in open_lines(f)], f)]
    options = {
        "format": arguments.format, "token_column": arguments.token_column, "tag_column": arguments.tag_column,
        "text": TextOptions(tokenizer=arguments.tokenizer),
    }  # fmt: skip
    try:
        examples = read_files(arguments.files, **options)[0]
        if not examples[0].offsets:
            return examples
        # Of texts, those that nobody annotated have been left out, but they are to be tagged as well.
        whole = read_files(arguments.files, **options, with_tags=False)[0]
        if len(whole) == len(examples):
            return examples
        print("nerloop: not all records are annotated, so no scores", file=sys.stderr)
        return whole
    except DataError as error:
        if arguments.tag_column is not None:
            raise
        try:
            examples = read_files(arguments.files, **options, with_tags=False)[0]
        except DataError:
            raise error from None
        print(f"nerloop: no gold tags, so no scores ({error})", file=sys.stderr)
        return examples


def read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what nerloop wrote beside a model, with the plugins that the arguments name instead.

    A plugin that is not built in runs only where the command line names it: a model's folder must not choose code.
    """
    path = Path(arguments.model, NERLOOP_JSON)
    if not Path(arguments.model).is_dir():
        raise ModelError(f"--model {arguments.model}: no such folder")
    try:
        ours: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {kind: Plugin(str(ours[kind]["name"]), dict(ours[kind]["options"])) for kind in BUILT_IN}
        ours["scheme"] = Scheme(ours["scheme"])
        if ours["mixed_precision"] not in ("no", "bf16", "fp16", "float64"):
            raise ValueError(f"mixed_precision {ours['mixed_precision']!r}")
    except OSError as error:
        raise ModelError(f"{path}: can't be read; expected a model folder that nerloop saved") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: not what nerloop writes: {error!r}") from error
    for kind, plugin in found.items():
        asked = getattr(arguments, kind)
        if asked is not None and asked != plugin.name:
            found[kind] = Plugin(asked)
        elif asked is None and plugin.name not in BUILT_IN[kind]:
            raise PluginError(
                f"{path}: {kind} is {plugin.name!r}, which is not nerloop's code; "
                f"if you trust it, say --{kind} {plugin.name}"
            )
    return {**ours, **found}


def load(folder: str, ours: dict[str, Any], accelerator: Any, precision: str) -> tuple[Any, Any, Any]:
    """Return tagger, model and evaluator of a saved model. Raises ModelError where the folder can't be used."""
    from nerloop.inference import Tagger, build_decodings
    from nerloop.model import load_saved, load_tokenizer
    from nerloop.probe import choose_collator
    from nerloop.weights import cast_parameters

    settings = ModelSettings(name_or_path=folder)
    tokenizer = load_tokenizer(settings)
    model, labels = load_saved(settings, tokenizer)
    model = (model.double() if precision == "float64" else model).to(accelerator.device)
    alignment = ours["alignment"].build("alignment", tokenizer, labels)
    collator, _ = choose_collator(ours["collator"].build("collator", tokenizer), model, tokenizer)
    if precision == "bf16":
        cast_parameters(model)
    decodings = build_decodings(ours["decoding"], labels, ours["scheme"])
    return Tagger(labels, alignment, collator, decodings, accelerator), model, ours["evaluator"].build("evaluator")


def _output_format(arguments: argparse.Namespace) -> str:
    if arguments.output_format != "auto":
        return str(arguments.output_format)
    if not arguments.files or arguments.format == "text":
        return "conll"
    found = format_of(arguments.files[0]) if arguments.format == "auto" else str(arguments.format)
    return "conll" if found in ("conll", "conllu") else "jsonl"


def _write(path: str, lines: Iterable[str]) -> None:
    if path == "-":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
