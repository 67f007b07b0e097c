"""The splits of a training, read as the settings say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from nerloop.data.arrow_cache import fingerprint
from nerloop.data.tag_counts import TagCounts
from nerloop.tags import OUTSIDE, Scheme, labels_of, scheme_of
from nerloop.types import Example, LazySequence


@dataclass
class Dataset:
    """Examples by split ("train", "validation", "test"), and a fingerprint of each split's data."""

    name: str
    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split
    unlabelled: Sequence[Example] = ()  # further sentences to train on, no split: labels and scheme don't depend on it
    unlabelled_fingerprint: str = ""

    @property
    def trained_on(self) -> Sequence[Example]:
        """The sentences of the training split, then the unlabelled ones."""
        return WithUnlabelled(self.splits["train"], self.unlabelled) if self.unlabelled else self.splits["train"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all splits by id: "O" first, the others sorted."""
        return labels_of(list(TagCounts.of(examples).tags) for examples in self.splits.values())

    @property
    def scheme(self) -> Scheme:
        """The tagging scheme that fits all splits together best."""
        pairs = (TagCounts.of(examples).pairs for examples in self.splits.values())
        return scheme_of(sum(pairs, Counter[tuple[str, str]]()))[0]


@dataclass(frozen=True, eq=False)
class WithUnlabelled(LazySequence[Example]):
    """Labelled sentences, then unlabelled ones, whose tags are all O.

    These tags hold the places of the labels: an alignment then marks the subwords that would have one. Who trains on
    the features must drop them (see `nerloop.batching.targets.TargetFeatures`).
    """

    labelled: Sequence[Example]
    unlabelled: Sequence[Example]

    @property
    def key(self) -> str | None:
        """The key of the examples in the cache, None if a part has none."""
        keys = [getattr(part, "key", None) for part in (self.labelled, self.unlabelled)]
        return fingerprint("with unlabelled", keys) if all(keys) else None

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def item(self, i: int) -> Example:
        """Return sentence `i`."""
        past = i - len(self.labelled)
        return self.labelled[i] if past < 0 else _with_places(self.unlabelled[past])

    def __iter__(self) -> Iterator[Example]:
        yield from self.labelled
        yield from map(_with_places, self.unlabelled)


def _with_places(example: Example) -> Example:
    # Another name for the document: the same file may be given twice, and a window must not mix both kinds.
    document = example.document and f"{example.document} (unlabelled)"
    return replace(example, tags=(OUTSIDE,) * len(example.tokens), document=document, missed=(), widened=())
