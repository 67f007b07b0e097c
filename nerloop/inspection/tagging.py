"""Findings about tags: entities, schemes, transitions, labels, types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from nerloop.inspection.finding import Detail, Finding, Severity, count_of, enumerate_some, name_of
from nerloop.inspection.parts import Part, by_split
from nerloop.inspection.statistics import BORDER, NUM_PLACES, written_pairs
from nerloop.tags import OUTSIDE, Scheme, is_written, scheme_of

FEW_SPANS = 10
"""A type with fewer spans in the training split is hardly learnt."""


def about_tags(parts: Sequence[Part]) -> Iterator[Finding]:
    """Yield the findings about the tags of all parts."""
    scheme, against = scheme_of(total_pairs(parts))
    yield from _no_entities(parts)
    if against:
        yield from _mixed_schemes(parts, scheme)
        for part in parts:
            yield from _illegal_transitions(part, scheme)
    yield from _unseen_labels(parts)
    yield from _rare_types(parts)


def total_pairs(parts: Iterable[Part]) -> Counter[tuple[str, str]]:
    """Return how often each pair of neighbouring tags occurs in all parts, with "O" for the borders of sentences."""
    total: Counter[tuple[str, str]] = Counter()
    for part in parts:
        total.update(written_pairs(part.statistics.pairs))
    return total


def _no_entities(parts: Sequence[Part]) -> Iterator[Finding]:
    for split, of_split in by_split(parts).items():
        if any(part.statistics.total_spans for part in of_split):
            continue
        if split == "train":
            message = "found no entity in the training split, expected some; is data.tag_column right?"
            yield Finding(Severity.ERROR, "no_entities", of_split[0].path, message, "stops before training")
        else:
            yield Finding(
                Severity.WARNING, "no_entities", of_split[0].path, f"the {split} split has no entity",
                "scores it all the same; its F1 says nothing",
            )  # fmt: skip


def _mixed_schemes(parts: Sequence[Part], scheme: Scheme) -> Iterator[Finding]:
    own = [(part, *part.statistics.scheme) for part in parts if part.statistics.total_spans]
    others = [(part, found) for part, found, against in own if found is not scheme and against == 0]
    for part, found in others:
        yield Finding(
            Severity.WARNING, "mixed_schemes", part.path, f"tags are {found} here, and {scheme} in all files together",
            f"reads spans as conlleval does, which takes both; trains on the tags as written, and decodes {scheme}. "
            "Better write all files in one scheme",
        )  # fmt: skip


def _illegal_transitions(part: Part, scheme: Scheme) -> Iterator[Finding]:
    pairs = part.statistics.pairs
    illegal = Counter(
        {pair: n for pair, n in pairs.items() if not is_written(pair[0] or OUTSIDE, pair[1] or OUTSIDE, scheme)}
    )
    if not illegal:
        return
    places = sorted((place, pair) for pair in illegal for place in part.statistics.first_pairs[pair])[:NUM_PLACES]
    kinds = [f"{_in_words(pair)} ({n})" for pair, n in sorted(illegal.items(), key=lambda item: (-item[1], item[0]))]
    yield Finding(
        Severity.WARNING,
        "illegal_transition",
        part.where(places[0][0]),
        f"{count_of(illegal.total(), 'tag')} of the {name_of(part.split)} violate{'s' * (illegal.total() == 1)} "
        f"{scheme}: {enumerate_some(kinds)}",
        "reads the spans as conlleval does (an I- that continues nothing starts a span); "
        "Viterbi decoding never writes such tags",
        illegal.total(),
        tuple(Detail(part.where(place), f"{part.token(place)}: {_in_words(pair)}") for place, pair in places),
    )


def _in_words(pair: tuple[str, str]) -> str:
    before, tag = pair
    if before == BORDER:
        return f"{tag} at the start of a sentence"
    return f"{before} at the end of a sentence" if tag == BORDER else f"{tag} after {before}"


def _unseen_labels(parts: Sequence[Part]) -> Iterator[Finding]:
    train = by_split(parts).get("train", [])
    if not train:
        return
    known = {tag for part in train for tag in part.statistics.tags}
    for part in parts:
        unseen = {tag: n for tag, n in sorted(part.statistics.tags.items()) if tag not in known}
        if not unseen:
            continue
        places = sorted((part.statistics.first_place_of(tag), tag) for tag in unseen)[:NUM_PLACES]
        yield Finding(
            Severity.WARNING,
            "unseen_label",
            part.where(places[0][0]),
            f"the {part.split} split has tags that the training split does not have: "
            f"{', '.join(f'{tag} ({n})' for tag, n in unseen.items())}",
            "gives the model an output for each and counts them as gold; without an example it hardly finds one",
            sum(unseen.values()),
            tuple(Detail(part.where(place), f"{part.token(place)}: {tag}") for place, tag in places),
        )


def _rare_types(parts: Sequence[Part]) -> Iterator[Finding]:
    train = by_split(parts).get("train", [])
    total: Counter[str] = Counter()
    for part in train:
        total.update(part.statistics.spans_per_type)
    rare = {type_: n for type_, n in sorted(total.items()) if n < FEW_SPANS}
    if not rare:
        return
    details = []
    for type_ in rare:
        part = next(part for part in train if type_ in part.statistics.first_of_type)
        place = part.statistics.first_of_type[type_]
        details.append(Detail(part.where(place), f"{type_}: {part.token(place)}"))
    yield Finding(
        Severity.INFO, "rare_type", details[0].where,
        f"the training split has fewer than {FEW_SPANS} spans of "
        + enumerate_some([f"{type_} ({n})" for type_, n in rare.items()]),
        "trains on them like on any other; their own F1 will vary much between seeds",
        len(rare), tuple(details[:NUM_PLACES]),
    )  # fmt: skip
