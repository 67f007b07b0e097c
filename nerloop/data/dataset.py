"""The splits of a training, read as the settings say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nerloop.data.tag_counts import TagCounts
from nerloop.tags import Scheme, labels_of, scheme_of
from nerloop.types import Example


@dataclass
class Dataset:
    """Examples by split ("train", "validation", "test"), and a fingerprint of each split's data."""

    name: str
    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all splits by id: "O" first, the others sorted."""
        return labels_of(list(TagCounts.of(examples).tags) for examples in self.splits.values())

    @property
    def scheme(self) -> Scheme:
        """The tagging scheme that fits all splits together best."""
        pairs = (TagCounts.of(examples).pairs for examples in self.splits.values())
        return scheme_of(sum(pairs, Counter[tuple[str, str]]()))[0]
