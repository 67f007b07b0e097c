"""Count what readers change or leave out; the log gets one line a kind, with the first places."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from nerloop.data.options import ReadOptions
from nerloop.errors import BadRecordsError, DataError

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

MAX_LISTED = 10
"""Places of each kind in the log (run.log_level debug lists all), and bad records that end the reading of a file."""


@dataclass
class ReadWarnings:
    """Counts of what readers changed or left out, by a phrase for it, and the errors of records that can't be read."""

    skips_bad_records: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[str]] = field(default_factory=dict)  # the first places of each phrase
    losses: Counter[str] = field(default_factory=Counter)  # see `lose`
    notes: set[str] = field(default_factory=set)  # those of `counts` that are harmless
    errors: list[DataError] = field(default_factory=list)

    @staticmethod
    def of(options: ReadOptions) -> ReadWarnings:
        """Return the empty counts for reading with these options."""
        return ReadWarnings(options.on_bad_record == "skip")

    def add(self, what: str, where: str) -> None:
        """Count one case; `where` names its place."""
        self.counts[what] += 1
        self._list(what, where)

    def note(self, what: str, where: str) -> None:
        """Count something harmless: how the data are read, or what is rightly left out.

        That is what nobody annotated, or what an annotator rejected.
        """
        self.notes.add(what)
        self.add(what, where)

    def lose(self, what: str, where: str) -> None:
        """Count something that the file has and an example has no room for, such as a relation.

        No training needs it, so only `nerloop.convert` reports it.
        """
        self.losses[what] += 1
        self._list(what, where)

    def _list(self, what: str, where: str) -> None:
        places = self.listed.setdefault(what, [])
        if len(places) < MAX_LISTED:
            places.append(where)
        log.debug("%s: %s", where, what)

    def bad_record(self, error: DataError) -> None:
        """Keep the error of a sentence or record that can't be read; the reader continues with the next one.

        Raises BadRecordsError for the tenth, unless bad records are skipped.
        """
        if self.skips_bad_records:
            self.add("bad records are left out", str(error))
            return
        self.errors.append(error)
        if len(self.errors) == MAX_LISTED:
            self.finish()

    def finish(self) -> None:
        """Raise the errors of the bad records, if there were any. Call it at the end of each file."""
        if len(self.errors) == 1:
            raise self.errors.pop()  # if it stayed in the list, its traceback would keep the file open
        if self.errors:
            raise BadRecordsError([str(error) for error in self.errors])

    def each(self, make: Callable[[S], T], values: Iterable[S]) -> Iterator[T]:
        """Yield `make(value)` for each value; values for which it raises DataError are bad records."""
        for value in values:
            try:
                made = make(value)
            except DataError as error:
                self.bad_record(error)
            else:
                yield made

    @property
    def summary(self) -> str:
        """All counts in a few words."""
        return ", ".join(f"{number} {what}" for what, number in self.counts.items())

    def lines(self, path: str, *, with_losses: bool = False, with_notes: bool = True) -> list[str]:
        """Return one line a kind, about the file at `path`."""
        counts = self.counts + self.losses if with_losses else self.counts
        counts = Counter({what: n for what, n in counts.items() if with_notes or what not in self.notes})
        return [
            f"{'note' if what in self.notes else 'warning'}: {path}: {number} {what}: {'; '.join(self.listed[what])}"
            + (f" and {number - MAX_LISTED} more" if number > MAX_LISTED else "")
            for what, number in counts.items()
        ]
