"""Score partial matches of spans, as the shared tasks MUC-5 and SemEval-2013 task 9.1 did (Segura-Bedmar et al., 2013).

strict   correct: same borders and type
exact    correct: same borders
partial  correct: same borders; half correct: an overlap
type     correct: an overlap and the same type

Each gold span is matched with at most one predicted span. Every other overlap is incorrect (`partial`: half correct);
a gold span without a match is missed, a predicted one spurious. Where spans overlap in chains, matches are chosen as
the library nervaluate chooses them; a test compares with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nerloop.evaluators.seqeval import divide
from nerloop.types import Span

SCHEMES = ("strict", "exact", "partial", "type")
OUTCOMES = ("correct", "incorrect", "partial", "missed", "spurious")

PartialCounts = Counter[tuple[str, str]]
"""Numbers of spans by scheme and outcome. The counts of several sentences can be added."""


def pairs(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[int, int]]:
    """Return (gold, predicted) indices: each predicted span, left to right, with the first free gold span it overlaps.

    Both sides are in order, without overlaps within one side.
    """
    found, at = [], 0
    for i, span in enumerate(predicted):
        # A gold span skipped here ends before this predicted span, so no later predicted span overlaps it either.
        while at < len(gold) and gold[at].end <= span.start:
            at += 1
        if at < len(gold) and gold[at].start < span.end:
            found.append((at, i))
            at += 1
    return found


def count_partial(gold: Sequence[Span], predicted: Sequence[Span]) -> PartialCounts:
    """Return the counts of one sentence, whose spans are in order, without overlaps within one side."""
    paired = [(gold[a], predicted[b]) for a, b in pairs(gold, predicted)]
    same_borders = sum(a[:2] == b[:2] for a, b in paired)
    equal = sum(a == b for a, b in paired)
    matched, same_type = _matched_by_type(gold, predicted)
    counts: PartialCounts = Counter()
    for scheme, num_matched, correct, rest in (
        ("strict", len(paired), equal, "incorrect"),
        ("exact", len(paired), same_borders, "incorrect"),
        ("partial", len(paired), same_borders, "partial"),
        ("type", matched, same_type, "incorrect"),
    ):
        counts[scheme, "correct"] = correct
        counts[scheme, rest] = num_matched - correct
        counts[scheme, "missed"] = len(gold) - num_matched
        counts[scheme, "spurious"] = len(predicted) - num_matched
    return counts


def _matched_by_type(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[int, int]:
    """Return how many spans are matched, and how many of those have the same type.

    A predicted span takes the free gold span of its type with the closest borders, else the first free one.
    """
    taken: set[int] = set()
    same_type = first = 0
    for span in predicted:
        while first < len(gold) and gold[first].end <= span.start:
            first += 1
        free = []
        for i in range(first, len(gold)):
            if gold[i].start >= span.end:
                break
            if i not in taken:
                free.append(i)
        alike = [i for i in free if gold[i].type == span.type]
        same_type += bool(alike)
        if alike:
            taken.add(min(alike, key=lambda i: abs(gold[i].start - span.start) + abs(gold[i].end - span.end)))
        elif free:
            taken.add(free[0])
    return len(taken), same_type


def partial_scores(counts: PartialCounts) -> dict[str, dict[str, Any]]:
    """Return precision, recall, f1 and the counts of outcomes, by scheme."""
    scored = {}
    for scheme in SCHEMES:
        of = {outcome: counts[scheme, outcome] for outcome in OUTCOMES}
        credit = of["correct"] + of["partial"] / 2
        matched = of["correct"] + of["incorrect"] + of["partial"]
        precision, recall = divide(credit, matched + of["spurious"]), divide(credit, matched + of["missed"])
        f1 = divide(2 * precision * recall, precision + recall)
        scored[scheme] = {"precision": precision, "recall": recall, "f1": f1, **of}
    return scored
