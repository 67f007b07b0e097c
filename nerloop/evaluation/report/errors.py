"""Sort the errors of a sentence into kinds, so that each wrong span belongs to exactly one error.

Correct spans are left out. The remaining gold and predicted spans that overlap, directly or through other spans, form
one error. Its kind depends on the number of spans on each side and on their borders; see `Kind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from nerloop.evaluation.report.partial import pairs
from nerloop.types import Span


class Kind(StrEnum):
    """The kinds of errors. Where the borders differ, the types may differ as well."""

    MISSED = "missed"  # a gold span that no predicted span overlaps
    SPURIOUS = "spurious"  # a predicted span that no gold span overlaps
    WRONG_TYPE = "wrong_type"  # one of each, with the same borders
    TOO_SHORT = "too_short"  # one of each, the predicted span inside the gold one
    TOO_LONG = "too_long"  # one of each, the gold span inside the predicted one
    SHIFTED = "shifted"  # one of each, neither inside the other
    SPLIT = "split"  # one gold span, several predicted ones
    MERGED = "merged"  # several gold spans, one predicted one


class SpanError(NamedTuple):
    """An error: its kind, and its gold and predicted spans as indices into those of the sentence."""

    kind: Kind
    gold: tuple[int, ...]
    predicted: tuple[int, ...]


def errors_of(gold: Sequence[Span], predicted: Sequence[Span]) -> list[SpanError]:
    """Return the errors of a sentence, left to right. Both sides are in order, without overlaps within one side.

    Several gold spans may overlap several predicted ones in a chain. Then they are paired left to right, as SemEval
    pairs them. Each pair is an error, and a leftover span is missed or spurious.
    """
    correct = set(gold) & set(predicted)
    spans = [(span, 0, i) for i, span in enumerate(gold) if span not in correct]
    spans += [(span, 1, i) for i, span in enumerate(predicted) if span not in correct]
    spans.sort()
    errors: list[SpanError] = []
    group: tuple[list[int], list[int]] = ([], [])
    reach = 0  # where the spans of the group end
    for span, side, i in spans:
        if span.start >= reach:
            errors += _errors_in(gold, predicted, *group)
            group = ([], [])
        group[side].append(i)
        reach = max(reach, span.end)
    return errors + _errors_in(gold, predicted, *group)


def _errors_in(
    gold: Sequence[Span], predicted: Sequence[Span], of_gold: Sequence[int], of_predicted: Sequence[int]
) -> list[SpanError]:
    """Return the errors of a group of overlapping spans; an empty group has none."""
    if len(of_gold) > 1 and len(of_predicted) > 1:
        paired = pairs([gold[i] for i in of_gold], [predicted[i] for i in of_predicted])
        found = [(of_gold[a : a + 1], of_predicted[b : b + 1]) for a, b in paired]
        left = set(range(len(of_gold))) - {a for a, _ in paired}
        extra = set(range(len(of_predicted))) - {b for _, b in paired}
        found += [([of_gold[a]], []) for a in sorted(left)] + [([], [of_predicted[b]]) for b in sorted(extra)]
    else:
        found = [(of_gold, of_predicted)] if of_gold or of_predicted else []
    return [SpanError(_kind([gold[i] for i in a], [predicted[i] for i in b]), tuple(a), tuple(b)) for a, b in found]


def _kind(gold: Sequence[Span], predicted: Sequence[Span]) -> Kind:
    if not predicted:
        return Kind.MISSED
    if not gold:
        return Kind.SPURIOUS
    if len(predicted) > 1:
        return Kind.SPLIT
    if len(gold) > 1:
        return Kind.MERGED
    (a,), (b,) = gold, predicted
    if a[:2] == b[:2]:
        return Kind.WRONG_TYPE
    if a.start <= b.start and b.end <= a.end:
        return Kind.TOO_SHORT
    return Kind.TOO_LONG if b.start <= a.start and a.end <= b.end else Kind.SHIFTED
