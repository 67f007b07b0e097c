"""Read JSON with entities by token index: data of GLiNER, NuNER and DyGIE, and spaCy v2's JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from nerloop.data.checks import as_example, as_tag
from nerloop.data.json_records import read_records
from nerloop.data.options import ReadOptions
from nerloop.data.read_warnings import ReadWarnings
from nerloop.data.readers.predictions import lay_out
from nerloop.data.records import TextRecord, as_offset, as_type, without_overlaps
from nerloop.errors import DataError, shorten
from nerloop.tags import OUTSIDE, to_tags
from nerloop.types import Example, Span

UNKNOWN_TAG = "-"
BILUO = {"L": "E", "U": "S"}
"""The prefixes of spaCy whose letters differ from those used here."""


def read_gliner(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of GLiNER's training data: {"tokenized_text": ["Anna", "left"], "ner": [[0, 0, "PER"]]}.

    A span ends with its last token, not after it. `overlaps` says which one of overlapping spans is kept. DyGIE's
    records, such as SciERC's, have several "sentences", and their spans count the tokens of the whole document.
    `tag_column` names another key than "ner". Errors start with file:line.
    """
    found = warnings.each(partial(_gliner_sentences, options, warnings), read_records(path, options, warnings))
    yield from itertools.chain.from_iterable(found)


def _gliner_sentences(options: ReadOptions, warnings: ReadWarnings, found: tuple[str, Any]) -> list[Example]:
    where, record = found
    if not isinstance(record, dict) or not ("tokenized_text" in record or "sentences" in record):
        raise DataError(f"{where}: found {shorten(record)}, expected an object such as {{'tokenized_text': [...]}}")
    is_document = "tokenized_text" not in record
    name = "sentences" if is_document else "tokenized_text"
    sentences = record[name] if is_document else [record[name]]
    spans = record.get(options.tag_column or "ner", [] if is_document else None)
    if not isinstance(sentences, list) or (options.with_tags and not isinstance(spans, list)):
        raise DataError(f"{where}: found {shorten(spans)} in {options.tag_column or 'ner'!r}, expected a list of spans")
    for other in ("relations", "clusters", "events"):
        if record.get(other):
            warnings.lose(f"records with {other}", where)
    lists: list[Any] = (spans or []) if is_document else [spans]
    if options.with_tags and (len(lists) != len(sentences) or not all(isinstance(found, list) for found in lists)):
        raise DataError(
            f"{where}: found {shorten(spans)}, expected a list of spans for each of {len(sentences)} sentences"
        )
    document = f"{where}" if is_document else ""
    examples, begin = [], 0
    for i, tokens in enumerate(sentences):
        example = as_example(tokens, None, None, where, (name, None), document)
        if options.with_tags:
            inside = [_token_span(span, begin, len(tokens), where, warnings) for span in lists[i]]
            tags = to_tags(_without_overlaps(example, inside, options, warnings), len(tokens))
            example = Example(example.tokens, tuple(tags), where, document)
        examples.append(example)
        begin += len(tokens)
    return examples


def _token_span(value: Any, begin: int, num_tokens: int, where: str, warnings: ReadWarnings) -> Span:
    """Return a span of one sentence, whose first token has the number `begin`. Raises DataError."""
    if not isinstance(value, list) or len(value) < 3:
        raise DataError(f"{where}: found the span {shorten(value)}, expected [first token, last token, type]")
    first, last = as_offset(value[0], where) - begin, as_offset(value[1], where) - begin
    if not 0 <= first <= last < num_tokens:
        raise DataError(
            f"{where}: found the span {shorten(value)}, expected its first and last token within {begin} and "
            f"{begin + num_tokens - 1}: does it end after its last token?"
        )
    return Span(first, last + 1, as_type(value[2], where, warnings))


def _without_overlaps(
    example: Example, spans: Sequence[Span], options: ReadOptions, warnings: ReadWarnings
) -> list[Span]:
    """Return token spans without overlaps. They are compared as character spans, so that messages show text."""
    places = lay_out(example.tokens, 0)
    in_text = {Span(places[s.start][0], places[s.end - 1][1], s.type): s for s in reversed(spans)}
    record = TextRecord(" ".join(example.tokens), tuple(in_text), example.location, "")
    kept = without_overlaps(record, options.overlaps, warnings)
    return [in_text[span] for span in kept]


def read_spacy_json(path: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    """Yield the sentences of spaCy v2's JSON: documents of "paragraphs" of "sentences" of "tokens".

    A token has its text in "orth" and a BILUO tag in "ner". Sentences with an unknown tag ("-"), or without tags where
    they are asked for, are left out. Errors start with file:line.
    """
    found = warnings.each(partial(_spacy_sentences, options, warnings), read_records(path, options, warnings))
    yield from itertools.chain.from_iterable(found)


def _spacy_sentences(options: ReadOptions, warnings: ReadWarnings, found: tuple[str, Any]) -> list[Example]:
    where, record = found
    examples = []
    for i, paragraph in enumerate(_list_in(record, "paragraphs", where), start=1):
        for j, sentence in enumerate(_list_in(paragraph, "sentences", where), start=1):
            at = f"{where} (paragraph {i}, sentence {j})"
            tokens = _list_in(sentence, "tokens", at)
            words = [token.get("orth") if isinstance(token, dict) else token for token in tokens]
            example = as_example(words, None, None, at, ("orth", None), where)
            if options.with_tags:
                tags = [token["ner"] if isinstance(token, dict) and "ner" in token else None for token in tokens]
                if None in tags or UNKNOWN_TAG in tags:
                    what = "nobody tagged" if None in tags else "have an unknown tag (-)"
                    warnings.add(f"sentences that {what} are left out", at)
                    continue
                gold = tuple(as_tag(_from_biluo(tag), options.labels, at) for tag in tags)
                example = Example(example.tokens, gold, at, where)
            examples.append(example)
    return examples


def _from_biluo(tag: Any) -> Any:
    """Return the tag in the letters used here: "U-PER" -> "S-PER", "L-PER" -> "E-PER"; others as they are."""
    if not isinstance(tag, str) or tag == OUTSIDE or tag[1:2] != "-":
        return tag
    return BILUO.get(tag[0], tag[0]) + tag[1:]


def _list_in(value: Any, name: str, where: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{where}: found {shorten(value)}, expected an object with a list of {name!r}")
    return found
