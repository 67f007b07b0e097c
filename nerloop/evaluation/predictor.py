"""A model and features in, tags per token out, over all processes; used by training and by prediction."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nerloop import plugins
from nerloop.alignment import Alignment
from nerloop.batching.features import Features, build_features
from nerloop.batching.plan import evaluation_batches
from nerloop.collators import Collator
from nerloop.config import Plugin
from nerloop.decoding import Decoding
from nerloop.distributed.collectives import gather
from nerloop.evaluators import Counts, Evaluator, count_examples
from nerloop.model.forward import feature_logits
from nerloop.run.signals import Interruption
from nerloop.tags import Scheme, to_spans
from nerloop.types import Example, Feature

if TYPE_CHECKING:
    from accelerate import Accelerator

MAX_SUBWORDS = 4096
"""Cells of one forward. A constant, so that a sentence is always scored in the same company."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was found in one sentence."""

    tags: Mapping[str, Sequence[str]]  # by the decoding's name
    probabilities: np.ndarray  # (tokens,) of the main decoding's tags, each token by itself

    def spans(self, decoding: str) -> list[dict[str, Any]]:
        """Return the spans: start, end, type, and as confidence the mean probability of its tokens' tags."""
        return [
            {**span._asdict(), "confidence": round(float(self.probabilities[span.start : span.end].mean()), 6)}
            for span in to_spans(self.tags[decoding])
        ]


class Shard(NamedTuple):
    """Some thousand examples of a split that stand side by side, and the groups that they are scored in."""

    examples: range
    groups: range


@dataclass(frozen=True, eq=False)
class Split:
    """A split that is scored again and again: its examples and their features, and the groups these are scored in."""

    examples: Sequence[Example]
    features: Sequence[Feature]
    groups: Sequence[Sequence[Sequence[int]]] = field(repr=False)
    shards: Sequence[Shard] = field(repr=False)

    @staticmethod
    def of(
        examples: Sequence[Example], alignment: Alignment, collator: Collator, features: Features | None = None
    ) -> Split:
        """Return a split ready to be scored; `features` where they were built before."""
        if features is None:
            features = build_features(examples, alignment)
        borders = [num_atoms for _, num_atoms in features.chunks]
        groups = evaluation_batches(features.atoms, MAX_SUBWORDS, collator.num_cells, borders)
        ends = [(0, 0), *zip((num_examples for num_examples, _ in features.chunks), groups.up_to, strict=True)]
        shards = [Shard(range(a, c), range(b, d)) for (a, b), (c, d) in itertools.pairwise(ends)]
        return Split(examples, features, groups, shards)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Everything between a split and its tags but the weights."""

    labels: Sequence[str]
    alignment: Alignment
    collator: Collator
    decodings: Mapping[str, Decoding]  # the first is the main one
    accelerator: Accelerator
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def main_decoding(self) -> str:
        """The name of the decoding whose tags are written and whose metrics decide."""
        return next(iter(self.decodings))

    def learn(self, values: Mapping[str, np.ndarray]) -> None:
        """Give the decodings the arrays that the objective has learned, if they take any."""
        for decoding in self.decodings.values():
            learn = getattr(decoding, "learn", None)
            if learn is not None and values:
                learn(values)

    def scores(self, model: Any, split: Split, shard: Shard | None = None) -> Iterator[dict[int, np.ndarray]]:
        """Yield the log-probabilities of tokens, (tokens, labels) an example, by its index: this process's share.

        Of a whole split, or of one of its shards.
        """
        import torch

        model = self.accelerator.unwrap_model(model)
        training = model.training
        model.eval()
        groups = range(len(split.groups)) if shard is None else shard.groups
        # InferenceBatches are the same for any number of processes, so that each sentence's figures are, too.
        for number in groups[self.accelerator.process_index :: self.accelerator.num_processes]:
            group = split.groups[number]
            if self.interruption.signal:
                break
            found: dict[int, np.ndarray] = {}
            for forward in group:
                batch = self.collator([split.features[i] for i in forward])
                with torch.inference_mode(), self.accelerator.autocast():
                    logits = feature_logits(model, batch)
                joined = torch.cat(logits)
                joined = joined if joined.dtype.itemsize >= 4 else joined.float()
                flat = joined.log_softmax(dim=-1).cpu().numpy()
                ends = np.cumsum([len(one) for one in logits])[:-1]
                found.update(zip(forward, np.split(flat, ends), strict=True))
            order = sorted(found)
            yield self.alignment.join([split.features[i] for i in order], [found[i] for i in order])
        model.train(training)

    def tag(self, model: Any, split: Split, shard: Shard | None = None) -> dict[int, Prediction]:
        """Return what was found in this process's share of a split or shard, by index. All processes must call it.

        Raises Interrupted, on all of them, when one is asked to stop meanwhile.
        """
        tagged = {}
        for group in self._tag_groups(model, split, shard):
            tagged.update(group)
        self.interruption.check()
        return tagged

    def tag_in_order(
        self,
        model: Any,
        split: Split,
        write: Callable[[Sequence[Example], Sequence[Prediction]], None],
        evaluator: Evaluator | None = None,
    ) -> dict[str, Counts]:
        """Tag a split shard by shard, and give each to `write` with what was found, on the main process.

        Returns the counts of this process by decoding (none without an evaluator), for `metrics_of`. Memory does not
        grow with the number of shards. All processes must call it. Raises Interrupted as `tag` does.
        """
        counts: dict[str, Counts] = {name: Counter() for name in self.decodings if evaluator is not None}
        for shard in split.shards:
            tagged = self.tag(model, split, shard)
            if evaluator is not None:
                for name, found in self._count([tagged], split, evaluator).items():
                    counts[name].update(found)
            whole = self.gather(tagged, shard.examples)
            if self.accelerator.is_main_process:
                write(split.examples[shard.examples.start : shard.examples.stop], whole)
        return counts

    def _tag_groups(self, model: Any, split: Split, shard: Shard | None = None) -> Iterator[dict[int, Prediction]]:
        """Yield what was found, some sentences at a time."""
        main = self.main_decoding
        for scores in self.scores(model, split, shard):
            order = sorted(scores)
            rows = [scores[i] for i in order]
            decoded = {name: decoding.decode(rows) for name, decoding in self.decodings.items()}
            tagged = {}
            for at, i in enumerate(order):
                ids = {name: paths[at] for name, paths in decoded.items()}
                tagged[i] = Prediction(
                    tags={name: [self.labels[label] for label in path] for name, path in ids.items()},
                    probabilities=softmax(rows[at])[np.arange(len(rows[at])), ids[main]],
                )
            yield tagged

    def evaluate(self, model: Any, split: Split, evaluator: Evaluator) -> dict[str, dict[str, Any]]:
        """Return the metrics of a split by decoding, the same on every process, in memory that does not grow with it.

        Raises Interrupted as `tag` does.
        """
        counts = self._count(self._tag_groups(model, split), split, evaluator)
        self.interruption.check()
        return self.metrics_of(counts, evaluator)

    def metrics_of(self, counts: Mapping[str, Counts], evaluator: Evaluator) -> dict[str, dict[str, Any]]:
        """Return the metrics by decoding of what all processes found, from the counts of each."""
        return {name: evaluator.metrics(self.sum_over_processes(own)) for name, own in counts.items()}

    def _count(
        self, groups: Iterable[Mapping[int, Prediction]], split: Split, evaluator: Evaluator
    ) -> dict[str, Counts]:
        """Return the counts by decoding of what this process found."""
        counts: dict[str, Counts] = {name: Counter() for name in self.decodings}
        for tagged in groups:
            order = sorted(tagged)
            examples = [split.examples[i] for i in order]
            for name, total in counts.items():
                total.update(count_examples(evaluator, examples, [tagged[i].tags[name] for i in order]))
        return counts

    def gather(self, tagged: dict[int, Prediction], examples: range) -> list[Prediction]:
        """Return what all processes found in examples, by index, in their order, on every process."""
        whole = {i: found for part in gather(self.accelerator, tagged) for i, found in part.items()}
        assert sorted(whole) == list(examples), "every example is scored on exactly one process"
        return [whole[i] for i in examples]

    def sum_over_processes(self, counts: Counts) -> Counts:
        """Return the sum of every process's counts, on every process."""
        total: Counts = Counter()
        for part in gather(self.accelerator, counts):
            total.update(part)
        return total


def build_decodings(main: Plugin, labels: Sequence[str], scheme: Scheme) -> dict[str, Decoding]:
    """Return the main decoding, then the built-in ones, which cost next to nothing, by name."""
    decodings: dict[str, Decoding] = {main.name: main.build("decoding", labels, scheme)}
    for name in plugins.BUILT_IN["decoding"]:
        decodings.setdefault(name, plugins.build("decoding", name, labels, scheme))
    return decodings


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities, (tokens, labels), of log-probabilities; a row of equal scores gives equal shares."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
