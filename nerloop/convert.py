"""From any format that nerloop reads to another: `python -m nerloop.convert IN OUT --to conll|jsonl|brat|label_studio`.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerloop.data import TextOptions
from nerloop.data.formats import FORMATS, TEXT_READERS, check_format, format_of, read_format, read_records
from nerloop.data.json_stream import read_values
from nerloop.data.lines import file_errors
from nerloop.data.offsets import UNITS
from nerloop.data.read_warnings import Notes
from nerloop.data.readers.columns import DOCUMENT, escape
from nerloop.data.records import DISCONTINUOUS, OVERLAPS, TextRecord, read_examples
from nerloop.data.segmentation import Offsets
from nerloop.errors import STOPPED, DataError, Interrupted, NerloopError, shorten
from nerloop.run import atomic
from nerloop.tags import to_spans
from nerloop.types import Example, Span

LONGEST_GAP = 1_000_000
MOST_LOOKED_AT = 100
"""Sentences of a file, until one tells that these are predictions."""
TARGETS = ("conll", "jsonl", "brat", "label_studio")


def main() -> None:
    """Parse the command line, convert; leave with the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        convert(_arguments(sys.argv[1:]))
    except NerloopError as error:
        print(f"nerloop: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(Interrupted.exit_code)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nerloop.convert",
        description="Convert annotated text. What is changed or left out on the way is counted and listed.",
    )
    parser.add_argument("input", metavar="IN", help="file in any format that nerloop reads, a folder of brat's, or a "
                        "predictions.*.jsonl that nerloop wrote")  # fmt: skip
    parser.add_argument("output", metavar="OUT", help="file, or for brat a folder, which must be new or empty")
    parser.add_argument("--to", required=True, choices=TARGETS, help="jsonl: text and character spans where the input "
                        "has texts, else tokens and tags")  # fmt: skip
    parser.add_argument("--format", default="auto", choices=("auto", *FORMATS), help="of the input")
    parser.add_argument("--token_column", help="index or name of the column with tokens or text")
    parser.add_argument("--tag_column", help="index or name of the column with tags or spans")
    parser.add_argument("--labels", nargs="+", help="names of integer tags, in order")
    parser.add_argument("--tokenizer", default="words", help="for --to conll: words, whitespace, or a dotted path")
    parser.add_argument("--offsets", default="auto", choices=UNITS, help="what the input's character spans count")
    parser.add_argument("--overlaps", default="outermost", choices=OVERLAPS, help="for --to conll: which span is kept")
    parser.add_argument("--discontinuous", default="hull", choices=DISCONTINUOUS, help="what becomes of brat's")
    return parser.parse_args(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Convert what the arguments name. Raises NerloopError; then nothing is left at the output."""
    source, target = arguments.input, arguments.output
    if os.path.exists(target) and os.path.samefile(source, target):
        raise DataError(f"{target}: is the input, expected another name for the output")
    text = TextOptions(arguments.tokenizer, arguments.offsets, arguments.overlaps, arguments.discontinuous)
    columns = {"token_column": arguments.token_column, "tag_column": arguments.tag_column}
    found = format_of(source, **columns) if arguments.format == "auto" else check_format(arguments.format)
    notes = Notes()
    examples: Iterable[Example] = ()
    records: Iterable[TextRecord] | None = None
    if found in TEXT_READERS:
        records = read_records(source, found, text, notes, **columns)
    elif found == "jsonl" and is_predictions(source):
        records = predicted_records(source)
    else:
        examples = read_format(source, found, text, notes, **columns, labels=arguments.labels)
    if arguments.to == "conll":
        sentences = examples if records is None else read_examples(records, text, notes, with_tags=True)
        _write_file(target, conll_lines(sentences))
    elif arguments.to == "jsonl":
        _write_file(target, token_lines(examples) if records is None else span_lines(records))
    elif arguments.to == "label_studio":
        _write_file(target, task_lines(text_records(examples, by_sentence=True) if records is None else records))
    else:
        base = source if found == "brat" and os.path.isdir(source) else None
        _write_folder(target, text_records(examples) if records is None else records, base)
    notes.report(source)


# Tokens to texts


def text_records(examples: Iterable[Example], *, by_sentence: bool = False) -> Iterator[TextRecord]:
    """Yield a text a document: its tokens with spaces between them, a sentence a line.

    Sentences whose document is not known are one text together, or one each where `by_sentence` says so.
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
            spans += _in_characters(example.tags, _lay_out(example.tokens, at))
            at += len(lines[-1]) + 1
        yield TextRecord("\n".join(lines), tuple(spans), location, document or location)


def _lay_out(tokens: Sequence[str], start: int) -> list[Offsets]:
    ends = list(itertools.accumulate((len(token) + 1 for token in tokens), initial=start))
    return [(at, at + len(token)) for at, token in zip(ends, tokens)]


def _on_one_line(token: str) -> str:
    return token if token.isprintable() else "".join(" " if c.isspace() else c for c in token)


def _in_characters(tags: Sequence[str], places: Sequence[Offsets]) -> list[Span]:
    return [Span(places[start][0], places[end - 1][1], type_) for start, end, type_ in to_spans(tags)]


# Predictions


def is_predictions(path: str) -> bool:
    """Whether a file of JSON lines is a predictions file of sentences that come from texts."""
    first = (value for _, value in itertools.islice(read_values(path), MOST_LOOKED_AT))
    return any(isinstance(value, dict) and {"tokens", "tags", "offsets", "document"} <= value.keys() for value in first)


def predicted_records(path: str) -> Iterator[TextRecord]:
    """Yield the documents of a predictions file, white space filled up with spaces and line breaks.

    A sentence of no known document is a text by itself. One without offsets (CoNLL-U has such) belongs where the one
    before it does, spaces between its tokens. Raises DataError with file:line for what nerloop doesn't write.
    """
    for document, group in itertools.groupby(_sentences_of(path), key=lambda pair: pair[1].document):
        text, spans, location = "", [], ""
        for where, example in group:
            location = location or where
            if not example.offsets:
                places = _lay_out(example.tokens, len(text) + bool(text))
                example = replace(example, offsets=tuple(places))
            if example.offsets and example.offsets[0][0] < len(text):
                raise DataError(
                    f"{where}: found offset {example.offsets[0][0]} behind {len(text)} of the same document"
                )
            for i, (token, (start, _)) in enumerate(zip(example.tokens, example.offsets)):
                gap = start - len(text)
                if gap > LONGEST_GAP:
                    raise DataError(f"{where}: found a gap of {gap} characters between two tokens, expected a text")
                text += ("\n" + " " * (gap - 1) if gap and text and i == 0 else " " * gap) + token
            spans += _in_characters(example.tags, example.offsets)
        yield TextRecord(text, tuple(spans), location, document)


def _sentences_of(path: str) -> Iterator[tuple[str, Example]]:
    document = ""
    for where, value in read_values(path):
        example = _sentence_of(value, where)
        document = example.document if example.offsets else document
        yield where, replace(example, document=document or where)


def _sentence_of(value: Any, where: str) -> Example:
    try:
        tokens, tags = tuple(map(str, value["tokens"])), tuple(map(str, value["tags"]))
        offsets = tuple((int(start), int(end)) for start, end in value.get("offsets", ()))
        to_spans(tags)
        borders = [at for offset in offsets for at in offset]
        fits = [end - start for start, end in offsets] == list(map(len, tokens)) and borders == sorted(borders)
        if not (fits or not offsets) or len(tags) != len(tokens):
            raise ValueError("tokens, tags and offsets don't go together")
        return Example(tokens, tags, where, str(value["document"] if offsets else ""), offsets)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise DataError(f"{where}: not what nerloop writes into predictions: {shorten(str(error))}") from error


# The formats


def conll_lines(examples: Iterable[Example]) -> Iterator[str]:
    """Yield lines of token and tag, tokens escaped as in predictions; -DOCSTART- before each document where known."""
    before = ""
    for example in examples:
        if example.document != before:
            before = example.document
            yield f"{DOCUMENT} O\n\n"
        for token, tag in zip(example.tokens, example.tags, strict=True):
            yield f"{escape(token)} {tag}\n"
        if example.tokens:
            yield "\n"


def token_lines(examples: Iterable[Example]) -> Iterator[str]:
    """Yield a JSON object a sentence: tokens, tags and, where known, the document's id."""
    for example in examples:
        record = {"tokens": example.tokens, "tags": example.tags}
        yield _json(record | ({"document": example.document} if example.document else {}))


def span_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield a JSON object a text, with spans as Prodigy has them; null where nobody annotated it."""
    for record in records:
        spans = None
        if record.spans is not None:
            spans = [
                {"start": s.start, "end": s.end, "text": record.text[s.start : s.end], "label": s.type}
                for s in sorted(record.spans)
            ]
        value: dict[str, Any] = {"text": record.text, "spans": spans}
        if record.tokens:
            value["tokens"] = [
                {"text": record.text[start:end], "start": start, "end": end, "id": i}
                for i, (start, end) in enumerate(record.tokens)
            ]
        yield _json(value)


def task_lines(records: Iterable[TextRecord]) -> Iterator[str]:
    """Yield the lines of an array of Label Studio's tasks, for <Labels name="label" toName="text"> and $text."""
    separator = "["
    for number, record in enumerate(records, start=1):
        result = [
            {
                "id": f"{number}-{i}", "type": "labels", "from_name": "label", "to_name": "text",
                "value": {"start": s.start, "end": s.end, "text": record.text[s.start : s.end], "labels": [s.type]},
            }
            for i, s in enumerate(sorted(record.spans or ()), start=1)
        ]  # fmt: skip
        annotations = [] if record.spans is None else [{"was_cancelled": False, "result": result}]
        yield f"{separator}\n"
        task = {"id": number, "data": {"text": record.text}, "annotations": annotations}
        yield _json(task).removesuffix("\n")
        separator = ","
    yield "\n]\n" if separator == "," else "[]\n"


def annotation_lines(record: TextRecord) -> Iterator[str]:
    """Yield the lines of brat's .ann file of a text; line breaks within a span are spaces there."""
    for i, span in enumerate(sorted(record.spans or ()), start=1):
        text = "".join(" " if c in "\r\n\t" else c for c in record.text[span.start : span.end])
        yield f"T{i}\t{span.type} {span.start} {span.end}\t{text}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


# Files


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
