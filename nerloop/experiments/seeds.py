"""Parse the seeds on a command line, such as 1..10 or 1,2,5."""

from __future__ import annotations

import re

from nerloop.errors import ConfigError, shorten

MOST_SEEDS = 1_000


def parse_seeds(text: str, flag: str = "--seeds") -> list[int]:
    """Return seeds: "1..3" -> [1, 2, 3], "1,5" -> [1, 5].

    Raises ConfigError if there is none, if one is invalid or repeated, or if a range has more than MOST_SEEDS.
    """
    seeds: list[int] = []
    for part in filter(None, re.split(r"[,\s]+", text.strip())):
        match = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", part)
        if match is None:
            raise ConfigError(f"{flag}: found {shorten(part)}, expected numbers such as 1..10 or 1,2,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST_SEEDS:
            raise ConfigError(f"{flag}: found {last - first + 1} seeds, expected at most {MOST_SEEDS}")
        seeds += range(first, last + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{flag}: found {shorten(text)}, expected at least one seed, each once, such as 1..10")
    return seeds
