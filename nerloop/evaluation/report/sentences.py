"""One sentence with its gold and predicted spans, ready to be compared token by token."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nerloop.tags import to_spans
from nerloop.types import Example, Span


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSentence:
    """A sentence with its gold and predicted spans, each left to right and without overlaps within one side.

    If a gold span starts or ends inside a token, `tokens` has that token in two parts, so that every span fits.
    """

    tokens: Sequence[str]
    gold: Sequence[Span]
    predicted: Sequence[Span]
    confidences: Sequence[float]  # one per predicted span
    uncalibrated: Sequence[float] | None  # the same before calibration, if they are known
    missed: Mapping[Span, float]  # gold spans that no prediction overlaps: the confidence of the model's tags there
    location: str
    num_tokens: int  # of the sentence as it was read

    @staticmethod
    def of(
        example: Example, predicted: Sequence[Mapping[str, Any]], missed: Iterable[Mapping[str, Any]] = ()
    ) -> ScoredSentence:
        """Return the sentence from an example, and from the `spans` and `missed` of its line in a predictions file.

        Raises KeyError, IndexError, TypeError or ValueError if nerloop did not write them.
        """
        tokens: Sequence[str] = example.tokens
        gold: Sequence[Span] = _spans_of(example.tags)
        if example.widened:
            gold = [span for span in gold if span not in example.widened]
        starts: Sequence[int] = range(len(tokens) + 1)
        if example.missed:
            tokens, starts, within = _cut(example)
            gold = sorted([_moved(span, starts) for span in gold] + within)
        spans = [_moved(_span(s), starts) for s in predicted]
        if any(a.end > b.start for a, b in itertools.pairwise(spans)) or any(s.start >= s.end for s in spans):
            raise ValueError("spans overlap, are empty or not in order")
        return ScoredSentence(
            tokens, gold, spans,
            [float(s["confidence"]) for s in predicted],
            [float(s["uncalibrated"]) for s in predicted] if all("uncalibrated" in s for s in predicted) else None,
            {_moved(_span(s), starts): float(s["confidence"]) for s in missed},
            example.location, len(example.tokens),
        )  # fmt: skip

    def text(self, span: Span) -> str:
        """Return the surface form of a span: its tokens, joined with spaces."""
        return " ".join(self.tokens[span.start : span.end])


@lru_cache(maxsize=20_000)  # the tags of short sentences recur
def _spans_of(tags: tuple[str, ...]) -> list[Span]:
    return to_spans(tags)


def _span(values: Mapping[str, Any]) -> Span:
    return Span(int(values["start"]), int(values["end"]), str(values["type"]))


def _moved(span: Span, starts: Sequence[int]) -> Span:
    """Return a span of old tokens as a span of cut ones; `starts` are the new indices of the old tokens."""
    if span.start < 0:
        raise IndexError("a span starts before the sentence")
    return Span(starts[span.start], starts[span.end], span.type)


def _cut(example: Example) -> tuple[list[str], list[int], list[Span]]:
    """Return tokens cut where a missed gold span starts or ends, the new index of each old token, and those spans."""
    cuts = sorted({at for span in example.missed for at in span[:2]})
    tokens: list[str] = []
    starts: list[int] = []
    begins: list[int] = []  # of the new tokens, in code points of the text
    for token, (start, end) in zip(example.tokens, example.offsets, strict=True):
        starts.append(len(tokens))
        inside = cuts[bisect.bisect_right(cuts, start) : bisect.bisect_left(cuts, end)]
        for a, b in zip([start, *inside], [*inside, end], strict=True):
            tokens.append(token[a - start : b - start])
            begins.append(a)
    starts.append(len(tokens))
    within = [
        Span(bisect.bisect_left(begins, s.start), bisect.bisect_left(begins, s.end), s.type) for s in example.missed
    ]
    return tokens, starts, [span for span in within if span.start < span.end]


def example_of(record: Mapping[str, Any], location: str) -> Example:
    """Return the example of a line of a predictions file with gold tags.

    Raises KeyError, IndexError, TypeError or ValueError if nerloop did not write it.
    """
    tokens, tags = tuple(map(str, record["tokens"])), tuple(map(str, record["gold"]))
    if not len(tokens) == len(tags) == len(record["tags"]):
        raise ValueError("tokens, gold and tags differ in number")
    if "gold_character_spans" not in record:
        return Example(tokens, tags, location)
    gold = to_spans(tags)
    offsets = tuple((int(start), int(end)) for start, end in record["offsets"])
    in_text = {_span(s) for s in record["gold_character_spans"]}
    whole = {span: Span(offsets[span.start][0], offsets[span.end - 1][1], span.type) for span in gold}
    widened = tuple(span for span, of_text in whole.items() if of_text not in in_text)
    missed = tuple(sorted(in_text - set(whole.values())))
    return Example(tokens, tags, str(record.get("location", location)), "", offsets, missed, widened)
