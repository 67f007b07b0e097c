"""Findings about sizes: sentences with no token or one token, empty tokens, subwords and windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nerloop.inspection.finding import Detail, Finding, Severity, count_of, name_of, percent
from nerloop.inspection.parts import Part, excerpt
from nerloop.inspection.statistics import NUM_PLACES, Place
from nerloop.inspection.subwords import Limit

MUCH_UNKNOWN = 0.01
"""If at least this share of tokens is unknown to the tokenizer, the model may be the wrong one for the text."""


def about_sizes(part: Part) -> Iterator[Finding]:
    """Yield the findings about empty and one-token sentences and empty tokens."""
    statistics = part.statistics
    does = "trains on" if part.split == "train" else "scores"
    for length, kind, noun, action in (
        (0, "empty_sentence", "sentence{s} without a token", "keeps them; there is nothing to train or predict"),
        (1, "one_token_sentence", "sentence{s} of one token", f"{does} them like any other"),
    ):  # fmt: skip
        found = np.flatnonzero(statistics.lengths == length)
        if not len(found):
            continue
        places = [Place(i, 0) for i in found[:NUM_PLACES].tolist()]
        yield Finding(
            Severity.INFO, kind, part.sentence(places[0]),
            f"{len(found):,} {noun.format(s='s' * (len(found) != 1))} in the {name_of(part.split)} "
            f"({percent(len(found), statistics.num_sentences)} of its sentences)",
            action, len(found),
            tuple(Detail(part.sentence(p), excerpt(part.examples[p.sentence].tokens) or "(empty)") for p in places),
        )  # fmt: skip
    if statistics.num_empty_tokens:
        places = statistics.empty_tokens
        yield Finding(
            Severity.WARNING, "empty_token", part.where(places[0]),
            f"{count_of(statistics.num_empty_tokens, 'token')} without a character in the {name_of(part.split)}",
            "keeps them and predicts a tag for each, although the model sees nothing of them",
            statistics.num_empty_tokens, _tokens(part, places),
        )  # fmt: skip


def about_subwords(part: Part, limit: Limit) -> Iterator[Finding]:
    """Yield the findings about the subwords of a part that has been tokenised."""
    found = part.subwords
    assert found is not None
    if found.num_long:
        places = found.long
        yield Finding(
            Severity.INFO, "long_sentence", part.sentence(places[0]),
            f"{count_of(found.num_long, 'sentence')} in the {name_of(part.split)} "
            f"({percent(found.num_long, part.statistics.num_sentences)}) of more than {limit.max_length} subwords, "
            "special tokens included",
            f"cuts them into {count_of(found.num_windows, 'window')} that share {count_of(limit.stride, 'subword')} "
            "with the next; every token is trained and predicted once",
            found.num_long,
            tuple(
                Detail(
                    part.sentence(p),
                    f"{found.lengths[p.sentence]:,} subwords: {excerpt(part.examples[p.sentence].tokens)}",
                )
                for p in places
            ),
        )  # fmt: skip
    if found.num_without:
        yield Finding(
            Severity.WARNING, "no_subwords", part.where(found.without[0]),
            f"{count_of(found.num_without, 'token')} in the {name_of(part.split)} that the tokenizer makes nothing of",
            "keeps and scores them; the model sees nothing of them, so their tag follows from the neighbours' alone",
            found.num_without, _tokens(part, found.without),
        )  # fmt: skip
    if found.num_unknown:
        share = found.num_unknown / max(1, part.statistics.num_tokens)
        yield Finding(
            Severity.WARNING if share >= MUCH_UNKNOWN else Severity.INFO, "unknown_subword",
            part.where(found.unknown[0]),
            f"{count_of(found.num_unknown, 'token')} in the {name_of(part.split)} "
            f"({percent(found.num_unknown, part.statistics.num_tokens)}) with something the tokenizer does not know",
            "trains on them; the model sees one and the same unknown subword in all of them",
            found.num_unknown, _tokens(part, found.unknown),
        )  # fmt: skip


def _tokens(part: Part, places: list[Place]) -> tuple[Detail, ...]:
    return tuple(
        Detail(part.where(p), f"{part.token(p)} in: {excerpt(part.examples[p.sentence].tokens)}") for p in places
    )
