"""Compute the tags and confidences of a split with a model, over all processes, for training and the commands."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nerloop import plugins
from nerloop.alignment import Alignment
from nerloop.batching.features import Features, build_features
from nerloop.batching.plan import evaluation_batches
from nerloop.collators import Collator
from nerloop.config import Plugin
from nerloop.decoding import Decoding
from nerloop.decoding.thresholds import Thresholds
from nerloop.distributed.collectives import gather
from nerloop.evaluation.backends import Backend, run_torch
from nerloop.evaluators import Counts, Evaluator, count_examples, metrics_of
from nerloop.run.signals import Interruption
from nerloop.tags import OUTSIDE, Scheme, to_spans
from nerloop.types import Example, Feature, Span

if TYPE_CHECKING:
    from accelerate import Accelerator

MAX_SUBWORDS = 4096
"""Maximum subwords per forward. Fixed, so that scores don't depend on settings or on what else is evaluated."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predicted tags of one sentence, with their probabilities and the confidences of their spans."""

    tags: Mapping[str, Sequence[str]]  # by the decoding's name
    probabilities: np.ndarray  # (tokens,) softmax probability of the main decoding's tag
    confidences: Mapping[str, np.ndarray] = field(default_factory=dict)  # (spans,) by the decoding's name
    uncalibrated: Mapping[str, np.ndarray] = field(default_factory=dict)  # the same without the temperature, if asked
    scores: np.ndarray | None = None  # (tokens, labels) log-probabilities of the model, if asked

    def spans(self, decoding: str) -> list[dict[str, Any]]:
        """Return the spans: start, end, type and confidence, and the uncalibrated confidence if the predictor keeps it.

        The confidence is the probability of the span if the decoding computes it, else the mean probability of its
        tags.
        """
        spans = to_spans(self.tags[decoding])
        means = [self.probabilities[span.start : span.end].mean() for span in spans]
        confidences = self.confidences.get(decoding, means)
        found = [
            {**span._asdict(), "confidence": round(float(confidence), 6)}
            for span, confidence in zip(spans, confidences, strict=True)
        ]
        for span, uncalibrated in zip(found, self.uncalibrated.get(decoding, ()), strict=False):
            span["uncalibrated"] = round(float(uncalibrated), 6)
        return found

    def missed(self, gold: Iterable[Span], decoding: str) -> list[dict[str, Any]]:
        """Return the gold spans that no predicted span overlaps, as `spans` does; all their tokens are tagged "O".

        Their confidence is the mean probability of those tags: how sure the model was that nothing is there.
        """
        tags = self.tags[decoding]
        return [
            {**span._asdict(), "confidence": round(float(self.probabilities[span.start : span.end].mean()), 6)}
            for span in gold
            if all(tag == OUTSIDE for tag in tags[span.start : span.end])
        ]


class Shard(NamedTuple):
    """Some thousand consecutive examples of a split, and the groups that they are scored in."""

    examples: range
    groups: range


@dataclass(frozen=True, eq=False)
class Split:
    """A split prepared for scoring: its examples, their features, and the groups and shards to score them in."""

    examples: Sequence[Example]
    features: Sequence[Feature]
    groups: Sequence[Sequence[Sequence[int]]] = field(repr=False)
    shards: Sequence[Shard] = field(repr=False)

    @staticmethod
    def of(
        examples: Sequence[Example], alignment: Alignment, collator: Collator, features: Features | None = None
    ) -> Split:
        """Return a split prepared for scoring. `features` are built unless they are given."""
        if features is None:
            features = build_features(examples, alignment)
        # A shard holds the examples of one call of `Alignment.split`. No group crosses its border, so each shard can be
        # scored, gathered and written by itself, and memory does not grow with the split.
        borders = [num_atoms for _, num_atoms in features.chunks]
        max_subwords = getattr(collator, "max_subwords", MAX_SUBWORDS)  # the runtimes of exports have their own limits
        groups = evaluation_batches(features.atoms, max_subwords, collator.num_cells, borders)
        ends = [(0, 0), *zip((num_examples for num_examples, _ in features.chunks), groups.up_to, strict=True)]
        shards = [Shard(range(a, c), range(b, d)) for (a, b), (c, d) in itertools.pairwise(ends)]
        return Split(examples, features, groups, shards)

    @staticmethod
    def untagged(examples: Sequence[Example], alignment: Alignment, collator: Collator) -> Split:
        """Return a split whose features have no labels: gold tags may be of another scheme than the model's, or none.

        Its examples keep their tags.
        """
        split = Split.of([replace(example, tags=()) for example in examples], alignment, collator)
        return replace(split, examples=examples)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Everything that turns a split into tags, except the model itself."""

    labels: Sequence[str]
    alignment: Alignment
    collator: Collator
    decodings: Mapping[str, Decoding]  # the first is the main one
    accelerator: Accelerator
    interruption: Interruption = field(default_factory=Interruption)
    temperature: float = 1.0  # of confidences; it changes no tag
    # Spans with a lower confidence are left out of the main decoding's tags.
    thresholds: Thresholds = field(default_factory=Thresholds)
    keeps_scores: bool = False  # whether predictions have the model's scores
    keeps_uncalibrated: bool = False  # whether predictions have confidences without the temperature as well
    backend: Backend = run_torch  # computes the scores with the model that the methods below are given

    @property
    def main_decoding(self) -> str:
        """The name of the decoding whose tags are written and whose metrics decide which weights are best."""
        return next(iter(self.decodings))

    def learn(self, values: Mapping[str, np.ndarray]) -> None:
        """Pass the arrays that the objective has learned to the decodings that take them."""
        for decoding in self.decodings.values():
            learn = getattr(decoding, "learn", None)
            if learn is not None and values:
                learn(values)

    def describe_unused(self, values: Mapping[str, np.ndarray]) -> str:
        """Return a line that says that the main decoding can't use what the objective has learned, or ""."""
        if not values or hasattr(self.decodings[self.main_decoding], "learn"):
            return ""
        return f"decoding {self.main_decoding} does not use what the objective learned: {', '.join(values)}"

    def scores(self, model: Any, split: Split, shard: Shard | None = None) -> Iterator[dict[int, np.ndarray]]:
        """Yield the log-probabilities of every token by index of the example: (tokens, labels) each.

        Covers this process's share of the split, or of one shard. Stops early if this process gets a stop signal.
        """
        groups = range(len(split.groups)) if shard is None else shard.groups
        # The number of processes decides who scores a group, not what is in it. So it does not change the scores.
        for number in groups[self.accelerator.process_index :: self.accelerator.num_processes]:
            group = split.groups[number]
            if self.interruption.signal:
                break
            by_feature: dict[int, np.ndarray] = {}
            for forward in group:
                batch = self.collator([split.features[i] for i in forward])
                by_feature.update(zip(forward, self.backend(model, batch, self.accelerator), strict=True))
            order = sorted(by_feature)
            yield self.alignment.join([split.features[i] for i in order], [by_feature[i] for i in order])

    def tag(self, model: Any, split: Split, shard: Shard | None = None) -> dict[int, Prediction]:
        """Return the predictions of this process's share of a split or shard, by index of the example.

        All processes must call it. If any of them receives a stop signal meanwhile, Interrupted is raised on all.
        """
        tagged: dict[int, Prediction] = {}
        for scores in self.scores(model, split, shard):
            order = sorted(scores)
            tagged.update(zip(order, self.decode([scores[i] for i in order]), strict=True))
        self.interruption.check()
        return tagged

    def tag_in_order(
        self,
        model: Any,
        split: Split,
        write: Callable[[Sequence[Example], Sequence[Prediction]], None],
        evaluator: Evaluator | None = None,
    ) -> dict[str, Counts]:
        """Tag a split shard by shard. On the main process, pass each shard's examples and predictions to `write`.

        Returns this process's counts by decoding, for `metrics_of`; {} without an evaluator. Memory does not grow with
        the number of shards. All processes must call it. Raises Interrupted as `tag` does.
        """
        counts: dict[str, Counts] = {name: Counter() for name in self.decodings if evaluator is not None}
        for shard in split.shards:
            tagged = self.tag(model, split, shard)
            if evaluator is not None:
                order = sorted(tagged)
                examples = [split.examples[i] for i in order]
                for name, total in counts.items():
                    total.update(count_examples(evaluator, examples, [tagged[i].tags[name] for i in order]))
            whole = self.gather(tagged, shard.examples)
            if self.accelerator.is_main_process:
                write(split.examples[shard.examples.start : shard.examples.stop], whole)
        return counts

    def decode(self, rows: Sequence[np.ndarray]) -> list[Prediction]:
        """Return the predictions of sentences from the log-probabilities of their tokens: (tokens, labels) each."""
        main = self.main_decoding
        decoded = {name: decoding.decode(rows) for name, decoding in self.decodings.items()}
        softmaxed = [softmax(row / self.temperature) for row in rows]
        predictions = [
            Prediction(
                tags={name: [self.labels[label] for label in paths[at]] for name, paths in decoded.items()},
                probabilities=softmaxed[at][np.arange(len(row)), decoded[main][at]],
                scores=row if self.keeps_scores else None,
            )
            for at, row in enumerate(rows)
        ]
        tags = [prediction.tags[main] for prediction in predictions]
        confidences = self.confidences(rows, tags, self.temperature)
        if confidences is None:  # the decoding has none, so `spans` returns the mean probabilities
            confidences = [np.array([s["confidence"] for s in p.spans(main)]) for p in predictions]
        probabilities = [prediction.probabilities for prediction in predictions]
        if self.thresholds:
            kept = [self.thresholds.apply(*pair) for pair in zip(tags, confidences, strict=True)]
            tags, confidences = [of_sentence for of_sentence, _ in kept], [c for _, c in kept]
            # The tokens of dropped spans are tagged "O" now, so their probability becomes that of "O".
            outside = self.labels.index(OUTSIDE)
            probabilities = [
                np.where([tag == OUTSIDE for tag in of_sentence], of_label[:, outside], before)
                for of_label, of_sentence, before in zip(softmaxed, tags, probabilities, strict=True)
            ]
        uncalibrated = self.confidences(rows, tags, 1.0) if self.keeps_uncalibrated else None
        return [
            replace(
                prediction,
                tags={**prediction.tags, main: tags[at]},
                probabilities=probabilities[at],
                confidences={main: confidences[at]},
                uncalibrated={} if uncalibrated is None else {main: uncalibrated[at]},
            )
            for at, prediction in enumerate(predictions)
        ]

    def confidences(
        self, rows: Sequence[np.ndarray], tags: Sequence[Sequence[str]], temperature: float
    ) -> list[np.ndarray] | None:
        """Return the probability of each span in the tags, (spans,) a sentence; None if the main decoding has none."""
        span_probabilities = getattr(self.decodings[self.main_decoding], "span_probabilities", None)
        if span_probabilities is None:
            return None
        found: list[np.ndarray] = span_probabilities(rows, [to_spans(of_one) for of_one in tags], temperature)
        return found

    def metrics_of(self, counts: Mapping[str, Counts], evaluator: Evaluator) -> dict[str, dict[str, Any]]:
        """Return the metrics by decoding, from the counts of all processes."""
        return {name: metrics_of(evaluator, self.sum_over_processes(own)) for name, own in counts.items()}

    def gather(self, tagged: dict[int, Prediction], examples: range) -> list[Prediction]:
        """Return the predictions of all processes for a range of examples, in order, on every process."""
        whole = {i: prediction for part in gather(self.accelerator, tagged) for i, prediction in part.items()}
        assert sorted(whole) == list(examples), "every example is scored on exactly one process"
        return [whole[i] for i in examples]

    def sum_over_processes(self, counts: Counts) -> Counts:
        """Return the sum of every process's counts, on every process."""
        total: Counts = Counter()
        for part in gather(self.accelerator, counts):
            total.update(part)
        return total


def build_decodings(main: Plugin, labels: Sequence[str], scheme: Scheme) -> dict[str, Decoding]:
    """Return decodings by name: the main one, then the built-in ones for comparison, which cost little time."""
    decodings: dict[str, Decoding] = {main.name: main.build("decoding", labels, scheme)}
    for name in plugins.BUILT_IN["decoding"]:
        decodings.setdefault(name, plugins.build("decoding", name, labels, scheme))
    return decodings


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities of log-probabilities, both (tokens, labels). Equal scores give equal probabilities."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
