"""What readers change or leave out on the way in: counted, and the first of each kind listed in the log."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

MOST_LISTED = 10
"""Of each kind; run.log_level debug lists all."""


@dataclass
class Notes:
    """Counts of what was changed or left out, by a phrase that says what."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        """Count something; `where` says where and which."""
        self.counts[what] += 1
        if self.counts[what] <= MOST_LISTED:
            self.listed.setdefault(what, []).append(where)
        log.debug("%s: %s", where, what)

    @property
    def summary(self) -> str:
        """All counts in a few words."""
        return ", ".join(f"{number} {what}" for what, number in self.counts.items())

    def lines(self, name: str) -> list[str]:
        """Return a line a kind; `name` says of what."""
        return [
            f"warning: {name}: {number} {what}: {'; '.join(self.listed[what])}"
            + (f" and {number - MOST_LISTED} more" if number > MOST_LISTED else "")
            for what, number in self.counts.items()
        ]

    def report(self, name: str) -> None:
        """Write these lines into the log."""
        for line in self.lines(name):
            log.warning("%s", line)
