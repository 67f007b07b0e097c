"""A finding about annotated data: its severity, place and message, and what nerloop does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from nerloop.errors import printable


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # training would be impossible, or of no use
    WARNING = "warning"  # likely a mistake, or something that makes scores misleading
    INFO = "info"  # good to know


class Detail(NamedTuple):
    """One place that a finding is about."""

    where: str  # file:line
    text: str


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about the data, its first places, and what nerloop does about it."""

    severity: Severity
    kind: str
    where: str  # file:line of the first place, or the file
    message: str
    action: str
    count: int = 1
    details: tuple[Detail, ...] = ()  # the first places; `count` may be more

    @property
    def line(self) -> str:
        """The finding on one line."""
        return printable(f"{self.where}: {self.message}")


MAX_NAMED = 5
"""Names that a message lists; the others are only counted."""


def enumerate_some(names: Sequence[str]) -> str:
    """Return the first of some names as text, and how many more: "A, B and 3 more"."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: 1, "tag" -> "1 tag"; 1200, "tag" -> "1,200 tags"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def percent(part: int, whole: int) -> str:
    """Return a share in percent: 1, 8 -> "12.5%"; 1, 10000 -> "< 0.1%"."""
    share = 100 * part / max(1, whole)
    return "< 0.1%" if 0 < share < 0.05 else f"{share:.1f}%"


def name_of(split: str) -> str:
    """Return the name of a split in messages: "train" -> "training split"."""
    return f"{'training' if split == 'train' else split} split"
