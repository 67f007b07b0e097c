"""Collect all findings about some data, errors first."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nerloop.data.read_warnings import ReadWarnings
from nerloop.errors import printable
from nerloop.inspection.conflicts import about_conflicts
from nerloop.inspection.finding import Detail, Finding, Severity
from nerloop.inspection.parts import Part
from nerloop.inspection.repeats import about_repeats
from nerloop.inspection.sizes import about_sizes, about_subwords
from nerloop.inspection.subwords import Limit
from nerloop.inspection.tagging import about_tags


def find_all(parts: Sequence[Part], limit: Limit | None = None) -> list[Finding]:
    """Return the findings about some parts, errors first. Give `limit` if their subwords were counted."""
    if not parts:
        return []
    findings = [*about_tags(parts), *about_conflicts(parts), *about_repeats(parts)]
    for part in parts:
        findings += about_sizes(part)
        if limit is not None:
            findings += about_subwords(part, limit)
    return errors_first(findings)


def errors_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings by severity; those of one severity keep their order."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def unreadable(path: str, messages: Sequence[str]) -> list[Finding]:
    """Return the findings about a file whose reader raised an error with these messages, the last one at its end."""
    after = "; the file is not inspected"
    return [_unreadable(path, message, after if message is messages[-1] else "") for message in messages]


def _unreadable(path: str, message: str, after: str) -> Finding:
    match = re.match(re.escape(printable(path)) + r"(?:[/\\][^:]*)?(?::\d+(?: \(record \d+\))?)?(?=: )", message)
    where = match.group() if match else printable(path)
    return Finding(
        Severity.ERROR, "unreadable", where, message[len(where) + 2 :] if match else message,
        f"stops before training{after}",
    )  # fmt: skip


def about_reading(path: str, warnings: ReadWarnings) -> list[Finding]:
    """Return a finding for each kind of thing that the reader of a file changed, left out or found odd."""
    return [
        Finding(
            Severity.INFO if what in warnings.notes else Severity.WARNING, "reading", path, f"{number:,} {what}",
            "goes on; training reads the file in the same way", number,
            # A reader names places in its own way, such as "a.txt PER 'Anna' at 23".
            tuple(Detail(place, "") for place in warnings.listed[what]),
        )
        for what, number in warnings.counts.items()
    ]  # fmt: skip
