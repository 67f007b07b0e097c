"""A corpus written by rules: newswire-like sentences from templates and names, the same on every machine.

Validation and test hold back templates (each belongs to one split) and names (a sixth of each list belongs to either),
so that a model has to read the context. Only `Random.random` is drawn from: the standard library promises its sequence
for a seed, and does not promise those of `choice`, `sample` and `shuffle`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar
from zlib import crc32

from nerloop.demo.features import FEATURES
from nerloop.demo.held_out import TEST, VALIDATION
from nerloop.demo.names import CLOSED, FILLERS, PATTERNS, SHARED, TYPES, WORDS
from nerloop.demo.news import NEWS
from nerloop.demo.phrases import AROUND, LEADS, TAILS
from nerloop.types import Example

SIZES = {"train": 5_000, "validation": 250, "test": 250}
"""Sentences in each split."""

NOVEL = 0.35
"""The chance that a name of validation or test is drawn from those that train never sees."""

NOVEL_CLOSED = 0.15
"""The same for the lists in `CLOSED`: a model should know most of their names from training."""

WIDE = 0.5
"""The chance of a phrase before a sentence, and of one after it."""

AROUND_NAME = 0.25
"""The chance of a phrase around a name."""

SEEDS = {"train": 11, "validation": 12, "test": 13}

T = TypeVar("T")

CHOICE = re.compile(r"\[([^][]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


def splits() -> dict[str, list[Example]]:
    """Return the corpus: "train", "validation" and "test", in IOB2, with no sentence twice.

    Example(tokens=("Leeds", "beat", "Hull", "2-1", "."), tags=("B-ORG", "O", "B-ORG", "O", "O"), "demo/train:7")
    """
    seen: set[tuple[str, ...]] = set()
    return {name: _write(name, size, seen) for name, size in SIZES.items()}


def templates_of(split: str) -> tuple[str, ...]:
    """Return the templates that belong to a split."""
    return {"train": NEWS + FEATURES, "validation": VALIDATION, "test": TEST}[split]


@cache
def words_of(name: str, split: str) -> tuple[str, ...]:
    """Return the words of one list of names that belong to a split, in the order of the list."""
    words = tuple(re.split(r",\s+", WORDS[name]))
    if name in SHARED:
        return words
    # By the word, not by its place: a town that is a surname too must not be held back as one and shown as the other.
    return tuple(word for word in words if _owner(word) == split)


def _owner(word: str) -> str:
    return {4: "validation", 5: "test"}.get(crc32(word.encode()) % 6, "train")


def _write(split: str, size: int, seen: set[tuple[str, ...]]) -> list[Example]:
    writer = _Writer(Random(SEEDS[split]), split)
    rows: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for tokens, tags in _endless(writer, templates_of(split)):
        if tokens in seen:  # A template with no slot, most often.
            continue
        seen.add(tokens)
        rows.append((tokens, tags))
        if len(rows) == size:
            break
    return [Example(tokens, tags, f"demo/{split}:{number}") for number, (tokens, tags) in enumerate(rows, start=1)]


def _endless(writer: _Writer, templates: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    while True:
        for template in _shuffled(writer.rng, templates):
            yield writer.sentence(template)


def _draw(rng: Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """Return the items in a random order (Fisher and Yates)."""
    result = list(items)
    for last in range(len(result) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result


@dataclass(frozen=True, slots=True)
class _Writer:
    """Turns templates into tagged sentences with the names that one split may use."""

    rng: Random
    split: str

    def sentence(self, template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the tokens and tags of one sentence."""
        tokens: list[str] = []
        tags: list[str] = []
        for part in self._widen(self._choose(template)):
            match = SLOT.fullmatch(part)
            kind = TYPES.get(match[1].lower()) if match else None
            words = self._fresh(match[1], tokens) if match and kind else self._fill(part).split()
            tokens += words
            tags += [f"{'I' if index else 'B'}-{kind}" if kind else "O" for index in range(len(words))]
        return tuple(_with_articles(tokens)), tuple(tags)

    def _choose(self, template: str) -> str:
        """Return a template with one alternative for each [a|b], inner ones first."""
        while match := CHOICE.search(template):
            template = template[: match.start()] + _draw(self.rng, match[1].split("|")) + template[match.end() :]
        return template

    def _widen(self, template: str) -> list[str]:
        """Return the parts of a template with phrases around it and around its names; only sentences are widened."""
        parts = template.split()
        if parts[-1] != ".":
            return parts
        wide: list[str] = []
        for before, part in zip(["", *parts], parts):
            around = AROUND.get(part.strip("{}"), ()) if part[0] == "{" and (not before or before.islower()) else ()
            wide += (
                self._choose(_draw(self.rng, around)).split() if around and self.rng.random() < AROUND_NAME else [part]
            )
        if self.rng.random() < WIDE:
            wide = [*self._choose(_draw(self.rng, LEADS)).split(), _uncapitalised(wide[0]), *wide[1:]]
        if self.rng.random() < WIDE:
            wide[-1:] = [*self._choose(_draw(self.rng, TAILS)).split(), "."]
        wide = [part for part, after in zip(wide, [*wide[1:], ""]) if part != "," or after not in {",", "."}]
        return [wide[0][0].upper() + wide[0][1:], *wide[1:]] if wide[0][0] != "{" else wide

    def _fresh(self, slot: str, before: list[str]) -> list[str]:
        """Return a name that does not open with a word of the sentence so far: no club plays itself."""
        words = self._name(slot)
        while words[0] in before and words[0] not in {"The", "A", "Bank"}:
            words = self._name(slot)
        return words

    def _name(self, slot: str) -> list[str]:
        text = self._phrase(slot.lower())
        return (text.upper() if slot.isupper() else text).split()

    def _phrase(self, kind: str) -> str:
        """Return a name of a kind, or a word of a list."""
        if kind in PATTERNS:
            return self._fill(_draw(self.rng, PATTERNS[kind]))
        own = () if self.split == "train" or kind in SHARED else words_of(kind, self.split)
        novel = bool(own) and self.rng.random() < (NOVEL_CLOSED if kind in CLOSED else NOVEL)
        return _draw(self.rng, own if novel else words_of(kind, "train"))

    def _fill(self, text: str) -> str:
        return SLOT.sub(lambda match: self._word(match[1]), text)

    def _word(self, slot: str) -> str:
        if slot in PATTERNS or slot in WORDS:
            return self._phrase(slot)
        if slot in FILLERS:
            return _draw(self.rng, re.split(r",\s+", FILLERS[slot]))
        return self._number(slot)

    def _number(self, slot: str) -> str:
        def below(end: int) -> int:
            return int(self.rng.random() * end)

        match slot:
            case "n":
                return str(2 + below(68))
            case "date":
                return str(1 + below(28))
            case "number":
                return str((1 + below(9)) * 10 ** below(4))
            case "mm":
                return f"{1 + below(12):02}"
            case "quarter":
                return str(1 + below(4))
            case "year":
                return str(1925 + below(80))
            case "score":
                return f"{1 + below(4)}-{below(4)}"
            case "set":
                return f"6-{below(5)}"
            case "time":
                return f"{9 + below(60)}.{10 + below(90)}"
            case "money" | "pct":
                return f"{below(20)}.{1 + below(9)}"
        raise ValueError(f"{{{slot}}}: no such slot. Is it in names.py?")


def _uncapitalised(word: str) -> str:
    """Return the first word of a sentence as it is within one."""
    is_date = word in re.split(r",\s+", f"{FILLERS['day']}, {FILLERS['month']}")
    return word if is_date else word[0].lower() + word[1:]


def _with_articles(tokens: list[str]) -> list[str]:
    """Return the tokens with "an" for "a" before a vowel: "a Irish band" -> "an Irish band"."""
    result = list(tokens)
    for index, following in enumerate(tokens[1:]):
        if tokens[index] == "a" and following[0] in "AEIOaeio":
            result[index] = "an"
    return result
