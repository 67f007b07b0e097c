"""Find span texts that are tagged with more than one type. Texts are compared by hashes, which take 8 bytes each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nerloop.errors import shorten
from nerloop.inspection.finding import Detail, Finding, Severity, count_of
from nerloop.inspection.parts import Part
from nerloop.inspection.statistics import NUM_PLACES, Place
from nerloop.tags import to_spans


def about_conflicts(parts: Sequence[Part]) -> Iterator[Finding]:
    """Yield the finding about texts with several types, likely slips first: those where one type is rare among many."""
    types = sorted({type_ for part in parts for type_ in part.statistics.first_of_type})
    hashes = np.concatenate([np.array(part.statistics.span_hashes, dtype=np.uint64) for part in parts])
    of_type = np.concatenate([_type_numbers(part, types) for part in parts])
    # Sort spans by text, then by type. A kind is all spans of one text and type. The sort is stable, so the first span
    # of each kind is the first one in the files.
    order = np.lexsort((of_type, hashes))
    is_new_text = _differs_from_the_one_before(hashes[order])
    is_new_kind = is_new_text | _differs_from_the_one_before(of_type[order])
    kinds = np.flatnonzero(is_new_kind)  # (kinds,) where the spans of one text and type begin
    counts = np.diff(kinds, append=len(order))  # (kinds,)
    texts = np.flatnonzero(is_new_text[kinds])  # (texts,) the first kind of each text
    num_kinds = np.diff(texts, append=len(kinds))  # (texts,)
    conflicts = np.flatnonzero(num_kinds > 1)
    if not len(conflicts):
        return
    rarest, total = np.minimum.reduceat(counts, texts)[conflicts], np.add.reduceat(counts, texts)[conflicts]
    ranked = conflicts[np.lexsort((order[kinds[texts[conflicts]]], -total, rarest / total))]
    details = []
    for text in ranked[:NUM_PLACES].tolist():
        of_text = range(texts[text], texts[text] + num_kinds[text])
        by_count = sorted(of_text, key=lambda kind: (-counts[kind], types[of_type[order[kinds[kind]]]]))
        named = [types[of_type[order[kinds[kind]]]] for kind in by_count]
        listed = ", ".join(f"{type_} {counts[kind]:,}" for type_, kind in zip(named, by_count, strict=True))
        part, place = _place(parts, int(order[kinds[by_count[-1]]]))
        details.append(Detail(part.where(place), f"{shorten(_text(part, place))}: {listed} (here {named[-1]})"))
    yield Finding(
        Severity.INFO, "conflicting_types", details[0].where,
        f"{count_of(len(conflicts), 'text')} of spans {'have' if len(conflicts) > 1 else 'has'} more than one type, "
        f"such as {details[0].text}",
        "trains and scores as tagged; a name may well be a person here and a place there, but a type that is rare "
        "among many may be a slip",
        len(conflicts), tuple(details),
    )  # fmt: skip


def _differs_from_the_one_before(values: np.ndarray) -> np.ndarray:
    differs = np.ones(len(values), dtype=bool)
    differs[1:] = values[1:] != values[:-1]
    return differs


def _type_numbers(part: Part, types: Sequence[str]) -> np.ndarray:
    """Return the types of a part's spans, (spans,), numbered as in `types` rather than as in the part."""
    numbers = np.array([types.index(type_) for type_ in part.statistics.first_of_type], dtype=np.int64)
    own = np.array(part.statistics.span_types, dtype=np.int64)
    return numbers[own] if len(own) else own


def _place(parts: Sequence[Part], span: int) -> tuple[Part, Place]:
    """Return the part and place of a span, given its number counted over all parts."""
    for part in parts:
        s = part.statistics
        if span < len(s.span_starts):
            return part, Place(s.span_sentences[span], s.span_starts[span])
        span -= len(s.span_starts)
    raise AssertionError("no such span")


def _text(part: Part, place: Place) -> str:
    example = part.examples[place.sentence]
    end = next(span.end for span in to_spans(example.tags) if span.start == place.token)
    return " ".join(example.tokens[place.token : end])
