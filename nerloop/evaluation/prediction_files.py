"""Write predictions to files, as JSON lines and as CoNLL columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nerloop.data import writers
from nerloop.evaluation.predictor import Prediction
from nerloop.tags import to_spans
from nerloop.types import Example

Write = Callable[[Sequence[Example], Sequence[Prediction]], None]


def writer(
    write_lines: Callable[[Iterable[str]], None], form: str, decoding: str, *, with_documents: bool = True
) -> Write:
    """Return a function that writes predictions part by part, as "jsonl" or "conll"."""
    document = "" if with_documents else None  # of the last sentence written, so that parts continue a document

    def write(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
        nonlocal document
        if form == "jsonl":
            write_lines(jsonl_lines(examples, tagged, decoding))
            return
        write_lines(conll_lines(examples, tagged, decoding, document))
        if with_documents and examples:
            document = examples[-1].document

    return write


@contextlib.contextmanager
def writing_predictions(path: Path, decoding: str) -> Iterator[Write]:
    """Yield a function that writes predictions part by part to `path`.jsonl and `path`.conll."""
    with contextlib.ExitStack() as files:
        writers = []
        for form in ("jsonl", "conll"):
            named = path.with_name(f"{path.name}.{form}")
            file = files.enter_context(named.open("w", encoding="utf-8", newline="\n"))
            writers.append(writer(file.writelines, form, decoding))

        def write(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
            for write_one in writers:
                write_one(examples, tagged)

        yield write


def write_nothing(examples: Sequence[Example], tagged: Sequence[Prediction]) -> None:
    """Do nothing: for processes other than the main one, which writes the files."""


def jsonl_lines(examples: Sequence[Example], tagged: Sequence[Prediction], decoding: str) -> Iterable[str]:
    """Yield a JSON object a sentence: tokens, gold (if known), tags, spans with text and confidence.

    `missed` has the gold spans whose tokens are all tagged "O", with the confidence of these tags. Sentences of texts
    also have `location`, `document`, `offsets` and `character_spans`. The first sentence of each record has `source`,
    which leads back to the record in the input.
    """
    for example, prediction in zip(examples, tagged, strict=True):
        record: dict[str, Any] = {"tokens": example.tokens}
        if example.tags:
            record["gold"] = example.tags
        record["tags"] = prediction.tags[decoding]
        record["spans"] = [
            {**span, "text": " ".join(example.tokens[span["start"] : span["end"]])}
            for span in prediction.spans(decoding)
        ]
        if missed := missed_spans(example, prediction, decoding):
            record["missed"] = missed
        record |= _character_spans(example, prediction, decoding)
        line = json.dumps(record, ensure_ascii=False)
        # Fields of the source may hold half a surrogate pair, which can only be written as an escape.
        yield (line if example.source is None or _is_text(line) else json.dumps(record)) + "\n"


def missed_spans(example: Example, prediction: Prediction, decoding: str) -> list[dict[str, Any]]:
    """Return the gold spans of whole tokens that no predicted span overlaps; see `Prediction.missed`."""
    gold = (span for span in to_spans(example.tags) if span not in example.widened)
    return prediction.missed(gold, decoding)


def _is_text(line: str) -> bool:
    """Return whether a line has no half of a surrogate pair."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _character_spans(example: Example, prediction: Prediction, decoding: str) -> dict[str, Any]:
    """Return the prediction as spans of the source text, {} if the example has no source text.

    Offsets are code points of that text. In a span's "text" every white space character is a plain space.
    """
    if not example.offsets:
        return {}
    spans = [{**span, **_in_text(example, span["start"], span["end"])} for span in prediction.spans(decoding)]
    record: dict[str, Any] = {
        "location": example.location, "document": example.document, "offsets": example.offsets, "character_spans": spans
    }  # fmt: skip
    if example.tags:
        gold = [span for span in to_spans(example.tags) if span not in example.widened]
        whole = [{**_in_text(example, start, end), "type": type_} for start, end, type_ in gold]
        record["gold_character_spans"] = whole + [span._asdict() for span in example.missed]
    if example.source is not None:
        record["source"] = example.source
    return record


def _in_text(example: Example, start: int, end: int) -> dict[str, Any]:
    """Return start, end and text of the tokens `start` to `end` in the source text."""
    pieces, at = [], example.offsets[start][0]
    for token, (begin, stop) in zip(example.tokens[start:end], example.offsets[start:end], strict=True):
        pieces += [" " * (begin - at), token]
        at = stop
    return {"start": example.offsets[start][0], "end": at, "text": "".join(pieces)}


def conll_lines(
    examples: Sequence[Example], tagged: Sequence[Prediction], decoding: str, document: str | None = ""
) -> Iterable[str]:
    """Yield lines of token, gold tag (if known) and predicted tag, in the format that conlleval reads."""
    sentences = (
        (example, [example.tags, prediction.tags[decoding]] if example.tags else [prediction.tags[decoding]])
        for example, prediction in zip(examples, tagged, strict=True)
    )
    return writers.conll_lines(sentences, document)
