"""A part of the data (a file, or a split of a data set): which split it is, and its places as file:line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerloop.data import ReadOptions, format_of
from nerloop.errors import printable, shorten
from nerloop.inspection.statistics import Place, Statistics
from nerloop.inspection.subwords import SubwordStatistics
from nerloop.types import Example

SPLITS = ("train", "validation", "test")
NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development", "testa"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "testb", "heldout"), "test"),
}
"""The split that a word in a file name means. CoNLL-2003 calls validation eng.testa and test eng.testb."""


@dataclass(eq=False)
class Part:
    """The sentences of one file (or of one split of a data set), and their counts."""

    split: str
    path: str
    examples: Sequence[Example]
    statistics: Statistics
    subwords: SubwordStatistics | None = None
    has_line_per_token: bool = False  # as in files of columns
    taken_by: str = ""  # how the split was found, such as "by its name"

    def where(self, place: Place) -> str:
        """Return file:line of a place; if tokens have no lines of their own, that of its sentence."""
        location = self.examples[place.sentence].location
        file, _, line = location.rpartition(":")
        if self.has_line_per_token and line.isdecimal():
            return f"{file}:{int(line) + place.token}"
        return location

    def sentence(self, place: Place) -> str:
        """Return file:line of the sentence of a place."""
        return self.examples[place.sentence].location

    def token(self, place: Place) -> str:
        """Return the token at a place, quoted; with its number unless it has its own line: "'EU' (token 3)"."""
        quoted = shorten(self.examples[place.sentence].tokens[place.token], 40)
        return quoted if self.has_line_per_token else f"{quoted} (token {place.token + 1})"


def excerpt(tokens: Sequence[str], limit: int = 60) -> str:
    """Return the beginning of a sentence on one line: ["EU", "rejects", "it"], 8 -> "EU rej..."."""
    text = printable(" ".join(tokens[:limit]))
    return text if len(text) <= limit and len(tokens) <= limit else f"{text[: limit - 2]}..."


def is_line_per_token(paths: Sequence[str], options: ReadOptions = ReadOptions()) -> bool:  # noqa: B008 (frozen)
    """Return whether each token has a line of its own in all of these files."""
    return {format_of(path, options) for path in paths} <= {"conll", "conll2012"} and bool(paths)


def by_split(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return the parts of each split that has some, train first."""
    found = {split: [part for part in parts if part.split == split] for split in SPLITS}
    return {split: of_split for split, of_split in found.items() if of_split}


def split_named_by(path: str) -> str | None:
    """Return the split in a file's name, else in its folder's name: "data/eng.testa" -> "validation"."""
    for name in (Path(path).name, Path(path).parent.name):
        words = re.split(r"[^a-z]+", name.lower())
        if found := [NAMES[word] for word in words if word in NAMES]:
            return found[-1]
    return None


def assign_splits(paths: Sequence[str], taken: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the split of each file and the reason: a word of its name, else its position.

    Files whose names tell no split get the splits that are still free, in the order train, validation, test; further
    ones are test. `taken` are the splits that flags fill.

    ["train.conll", "b.conll"] -> train "by its name", validation "by its position"
    """
    named = [split_named_by(path) for path in paths]
    free = [split for split in SPLITS if split not in {*named, *taken}]
    found = []
    for split in named:
        if split:
            found.append((split, "by its name"))
        else:
            found.append((free.pop(0) if free else SPLITS[-1], "by its position"))
    return found
