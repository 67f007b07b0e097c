"""Count what readers change or leave out; the log gets one line a kind, with the first places."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

MAX_LISTED = 10
"""Places of each kind in the log; run.log_level debug lists all."""


@dataclass
class ReadWarnings:
    """How often readers changed or left out something, by a phrase that says what."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        """Count one case; `where` names its place."""
        self.counts[what] += 1
        if self.counts[what] <= MAX_LISTED:
            self.listed.setdefault(what, []).append(where)
        log.debug("%s: %s", where, what)

    @property
    def summary(self) -> str:
        """All counts in a few words."""
        return ", ".join(f"{number} {what}" for what, number in self.counts.items())

    def lines(self, path: str) -> list[str]:
        """Return one line a kind, about the file at `path`."""
        return [
            f"warning: {path}: {number} {what}: {'; '.join(self.listed[what])}"
            + (f" and {number - MAX_LISTED} more" if number > MAX_LISTED else "")
            for what, number in self.counts.items()
        ]
