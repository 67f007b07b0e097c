"""What is trained on what: the data, their features and plan, the model with its optimizer, built from the settings."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nerloop import config as settings
from nerloop import demo, plugins
from nerloop.alignment import Alignment
from nerloop.alignment.document import Document, what_stands_alone
from nerloop.batching.features import Features, build_features, recipe
from nerloop.batching.plan import BatchUnits, Plan, Step
from nerloop.collators import Collator
from nerloop.config import Config
from nerloop.data import Dataset, TextOptions, read_files
from nerloop.data.arrow_cache import Cache, code_fingerprint, fingerprint
from nerloop.data.tag_counts import TagCounts
from nerloop.distributed import collectives
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.predictor import Predictor, Split, build_decodings
from nerloop.evaluators import Evaluator
from nerloop.inspection import statistics as inspection
from nerloop.inspection.as_text import counts_line, inspect_command
from nerloop.inspection.finding import Severity
from nerloop.inspection.findings import find_all
from nerloop.inspection.parts import Part, is_line_per_token
from nerloop.kernels.modules import replace_with_fused
from nerloop.model.compat import choose_collator, freeze_unused
from nerloop.model.load import load_model, load_tokenizer, new_model
from nerloop.optim.master_weights import Weights
from nerloop.optim.optimizer import build_optimizer, is_exact_for_pruned_rows
from nerloop.optim.pruned_embedding import is_prunable, prune
from nerloop.run.signals import Interruption
from nerloop.tags import Scheme, labels_of, scheme_of
from nerloop.types import IGNORE, Example, Feature, MicroBatch, Tokenizer

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

MOST_LOOKED_THROUGH = 50_000
"""Sentences up to which a training looks through them all before it starts, some seconds; above, nerloop.inspect does.

What it found is in the cache, so that the next training on the same sentences need not look again.
"""


def read_dataset(config: Config) -> Dataset:
    """Return the splits that the settings name. Raises DataError, also where the training split has no entity."""
    columns: dict[str, Any] = {name: getattr(config.data, name) for name in ("token_column", "tag_column", "labels")}
    if config.is_demo:
        splits = demo.splits()
        dataset = Dataset(settings.DEMO, {**splits}, {split: str(len(examples)) for split, examples in splits.items()})
    elif config.data.dataset is not None:
        from nerloop.data.hub import read_hub

        cache = Cache.at(config.data.cache_dir)
        dataset = read_hub(config.data.dataset, config.data.dataset_config, **columns, cache=cache)
    else:
        dataset = Dataset(config.data_name)
        columns |= {"format": config.data.format, "cache": Cache.at(config.data.cache_dir)}
        columns["text"] = TextOptions(
            config.data.tokenizer, config.data.offsets, config.data.overlaps, config.data.discontinuous
        )
        for split, paths in config.data.files().items():
            dataset.splits[split], dataset.fingerprints[split] = read_files(paths, **columns)
    check_dataset(config, dataset)
    return dataset


def check_dataset(config: Config, dataset: Dataset) -> None:
    """Say what is in the data and what is odd about them; raise DataError where training on them makes no sense.

    This is the short form of `python -m nerloop.inspect`: of its findings the errors and warnings, a line each.
    """
    for split in [s for s, examples in dataset.splits.items() if not examples and s != "train"]:
        log.warning("warning: the %s split has no sentence and is left out", split)
        del dataset.splits[split]
    if sum(map(len, dataset.splits.values())) <= MOST_LOOKED_THROUGH:
        look_through(config, dataset)
    else:
        check_counts(dataset)
    if not config.is_demo:
        log.info("more on the data: %s", inspect_command(config.data))
    if "validation" not in dataset.splits:
        log.warning("warning: no validation split: no best model and no early stopping, the last weights are kept")
    if len(dataset.splits["train"]) < config.train.batch_size:
        log.warning(
            "warning: %d training sentences are fewer than train.batch_size %d: each epoch is one step",
            len(dataset.splits["train"]), config.train.batch_size,
        )  # fmt: skip


@dataclass(eq=False)
class Training:
    """A training, ready to go: everything between the settings and the loop."""

    config: Config
    labels: tuple[str, ...]
    scheme: Scheme
    precision: str
    tokenizer: Tokenizer
    weights: Weights
    optimizer: torch.optim.Optimizer
    collator: Collator
    evaluator: Evaluator
    predictor: Predictor
    features: Sequence[Feature]  # of the training split
    examples: Sequence[Example]  # likewise
    splits: Mapping[str, Split]  # the others
    plan: Plan
    num_steps: int

    @staticmethod
    def build(
        config: Config, dataset: Dataset, precision: str, accelerator: Accelerator, interruption: Interruption
    ) -> Training:
        """Return the task of the settings; the model is on the accelerator's device. Raises NerloopError."""
        labels = labels_of(list(TagCounts.of(examples).tags) for examples in dataset.splits.values())
        scheme = report_scheme(dataset)
        tokenizer, model = build_model(config, labels, dataset)
        model = model.double() if precision == "float64" else model
        model.to(accelerator.device)
        alignment: Alignment = config.alignment.build("alignment", tokenizer, labels)
        if isinstance(alignment, Document):
            report_documents(dataset)
        collator = build_collator(config, tokenizer, model)
        if accelerator.num_processes > 1 and (unused := freeze_unused(model, collator, tokenizer)):
            log.info("not trained, since the logits don't depend on them: %s", ", ".join(unused))
        if accelerator.device.type == "cpu":
            replace_with_fused(model)
        features = collectives.local_main_first(
            accelerator, lambda: _build_features(config, dataset, alignment, tokenizer, labels)
        )
        # Another collator may add other subwords; another optimizer may do more to unused rows than let them decay.
        is_exact = is_exact_for_pruned_rows(config.train.optimizer, config.train.weight_decay)
        if is_exact and config.collator.name in plugins.BUILT_IN["collator"]:
            prune_embedding(model, features["train"], collator, tokenizer, accelerator)
        atoms = features["train"].atoms
        plan = Plan(
            atoms,
            config.train.batch_size,
            config.train.seed,
            num_processes=accelerator.num_processes,
            gradient_accumulation_steps=config.train.gradient_accumulation_steps,
            max_subwords=config.train.max_subwords,
            cost=collator.num_cells,
        )
        evaluator: Evaluator = config.evaluator.build("evaluator")
        check_best_metric(config, evaluator)
        windows = len(atoms.lengths) - len(atoms.sentences)
        if windows > 0:
            log.info("%d training sentences exceed the window and became %d more", _num_long(atoms), windows)
        report_sharing(plan)
        weights = Weights.of(model, precision)
        return Training(
            config=config,
            labels=labels,
            scheme=scheme,
            precision=precision,
            tokenizer=tokenizer,
            weights=weights,
            optimizer=build_optimizer(weights, config.train.weight_decay, precision, config.train.optimizer),
            collator=collator,
            evaluator=evaluator,
            predictor=Predictor(
                labels, alignment, collator, build_decodings(config.decoding, labels, scheme), accelerator, interruption
            ),
            features=features["train"],
            examples=dataset.splits["train"],
            splits={
                n: Split.of(e, alignment, collator, features[n]) for n, e in dataset.splits.items() if n != "train"
            },
            plan=plan,
            num_steps=config.train.max_steps or plan.num_steps(config.train.epochs),
        )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that was set, else the default one."""
        default = demo.LEARNING_RATE if self.config.is_demo else settings.LEARNING_RATE
        return default if self.config.train.learning_rate is None else self.config.train.learning_rate

    def collate(self, indices: Sequence[int]) -> MicroBatch:
        """Return the micro-batch of some training features; of none, a dummy row that has no labels."""
        if indices:
            return self.collator([self.features[i] for i in indices])
        shortest = self.features[int(np.argmin(self.plan.atoms.lengths))]
        return self.collator([replace(shortest, labels=np.full(len(shortest), IGNORE, dtype=np.int64))])

    def evaluate(self, model: Any, split: str) -> dict[str, dict[str, Any]]:
        """Return the metrics of a split by decoding, the same on every process."""
        return self.predictor.evaluate(model, self.splits[split], self.evaluator)

    def locations(self, step: Step) -> list[str]:
        """Return where the sentences of a step come from."""
        return list(dict.fromkeys(self.examples[e].location for f in step.features for e in self.features[f].examples))

    def is_evaluation_due(self, step: int) -> bool:
        """Whether to evaluate when `step` steps are done."""
        return self._is_due(step, self.config.train.eval_every)

    def is_save_due(self, step: int) -> bool:
        """Whether to write a checkpoint when `step` steps are done."""
        return self._is_due(step, self.config.train.save_every)

    def _is_due(self, step: int, every: int | None) -> bool:
        if step == self.num_steps:
            return True
        return step % every == 0 if every else self.plan.num_steps(self.plan.epoch_of(step)) == step


def _build_features(
    config: Config, dataset: Dataset, alignment: Alignment, tokenizer: Tokenizer, labels: Sequence[str]
) -> dict[str, Features]:
    """Return the features of every split, from the cache where it has them; the demo's are not kept."""
    cache = Cache.temporary() if config.is_demo else Cache.at(config.data.cache_dir)
    made_by = recipe(config.alignment, alignment, tokenizer, labels)
    features = {
        split: build_features(examples, alignment, cache, made_by) for split, examples in dataset.splits.items()
    }
    cache.prune()  # now that what this run needs is in use
    return features


def look_through(config: Config, dataset: Dataset) -> None:
    """Say what the splits hold and what is odd about them, sentence by sentence. Raises DataError."""
    names = {split: _name_of(config, dataset, split) for split in dataset.splits}
    keys = {split: getattr(examples, "key", None) for split, examples in dataset.splits.items()}
    key = None
    if all(keys.values()):
        key = fingerprint(code_fingerprint("inspection", "tags.py"), names, keys)
    cache = Cache.temporary() if key is None else Cache.at(config.data.cache_dir)
    found = cache.value("look", key, lambda: _look_through(dataset, names))
    for line in found["counts"]:
        log.info("%s", line)
    for line in found["errors"]:
        raise DataError(line)
    for line in found["warnings"]:
        log.warning("warning: %s", line)


def _name_of(config: Config, dataset: Dataset, split: str) -> tuple[str, bool]:
    """Return what findings call a split, and whether each of its tokens has a line of its own."""
    paths = config.data.files().get(split, [])
    return paths[0] if paths else f"{dataset.name}/{split}", is_line_per_token(paths, config.data.format)


def _look_through(dataset: Dataset, names: Mapping[str, tuple[str, bool]]) -> dict[str, list[str]]:
    """Return the lines about the splits: how much there is of what, errors, warnings."""
    parts = []
    for split, examples in dataset.splits.items():
        path, has_lines = names[split]
        statistics = inspection.Statistics.of(examples)
        parts.append(Part(split, path, examples, statistics, has_line_per_token=has_lines))
    findings = find_all(parts)
    return {
        "counts": [counts_line(part) for part in parts],
        "errors": [finding.line for finding in findings if finding.severity is Severity.ERROR],
        "warnings": [finding.line for finding in findings if finding.severity is Severity.WARNING],
    }


def check_counts(dataset: Dataset) -> None:
    """Say what can be told from the counts that are kept with the sentences. Raises DataError."""
    in_training = TagCounts.of(dataset.splits["train"]).tags
    for split, examples in dataset.splits.items():
        statistics = TagCounts.of(examples)
        tags, spans = statistics.tags, statistics.num_spans
        log.info("%-10s %6d sentences %8d tokens %7d entities", split, len(examples), tags.total(), spans)
        if not spans and split == "train":
            raise DataError(
                f"{dataset.name}: found no entity in the training split, expected some; is data.tag_column right?"
            )
        if not spans:
            log.warning("warning: the %s split has no entity; its F1 says nothing", split)
        if unseen := {tag: n for tag, n in tags.items() if tag not in in_training}:
            found = ", ".join(f"{tag} ({n})" for tag, n in sorted(unseen.items()))
            log.warning("warning: the %s split has tags that the training split has not: %s", split, found)
        scheme, against = scheme_of(statistics.pairs)
        if against:
            log.warning("warning: the %s split has %d places that are not written as %s has it", split, against, scheme)


def report_scheme(dataset: Dataset) -> Scheme:
    """Return the scheme of all splits together, and say it; what is against it has been said."""
    scheme, _ = scheme_of(sum((TagCounts.of(e).pairs for e in dataset.splits.values()), Counter[tuple[str, str]]()))
    log.info("tags are %s", scheme)
    return scheme


def report_documents(dataset: Dataset) -> None:
    """Say of which splits documents are not known, which an alignment that shares windows goes by."""
    for split, examples in dataset.splits.items():
        known = TagCounts.of(examples)
        if problem := what_stands_alone(known.num_without_document, known.num_sentences, f"the {split} split"):
            log.warning("warning: %s", problem)


def report_sharing(plan: Plan) -> None:
    """Say how many sentences a window holds where some share one, and a step, which takes whole windows."""
    num_sentences, num_atoms = int(plan.atoms.sentences.sum()), len(plan.atoms.sentences)
    if num_sentences > num_atoms:
        log.info(
            "%d training sentences share %d windows: %.1f a window, %.1f a step (train.batch_size %d)",
            num_sentences, num_atoms, num_sentences / num_atoms, num_sentences / plan.num_steps(1), plan.batch_size,
        )  # fmt: skip


def build_model(config: Config, labels: Sequence[str], dataset: Dataset) -> tuple[Tokenizer, PreTrainedModel]:
    """Return tokenizer and model; the demo's are made on the spot."""
    if config.is_demo:
        log.info(
            "This is the embedded demo: made-up sentences and a small encoder with random weights. It shows how a run "
            "goes and what it leaves; its model is good for nothing else."
        )
        tokenizer = demo.build_tokenizer(dataset.splits["train"])
        return tokenizer, new_model(demo.build_config(tokenizer), config.model, labels, tokenizer)
    if config.model.trust_remote_code:
        log.warning("warning: model.trust_remote_code is on: code that comes with the model will be run")
    tokenizer = load_tokenizer(config.model)
    return tokenizer, load_model(config.model, labels, tokenizer)


def build_collator(config: Config, tokenizer: Tokenizer, model: PreTrainedModel) -> Collator:
    """Return the collator of the settings, or padding where the model can't do what it does."""
    collator: Collator = config.collator.build("collator", tokenizer)
    chosen, reason = choose_collator(collator, model, tokenizer)
    if reason:
        log.warning("warning: %s changes what this model computes: %s; padding", config.collator.name, reason)
    return chosen


def prune_embedding(
    model: PreTrainedModel, features: Features, collator: Collator, tokenizer: Tokenizer, accelerator: Accelerator
) -> None:
    """Let the model train the embeddings alone that occur in training, where that pays and is all the same to it."""
    fill_in = tokenizer.pad_token_id or 0  # of the collators, also where the tokenizer has none
    used_ids = np.union1d(features.used_ids, [fill_in, *tokenizer.all_special_ids])
    feature = features[int(np.argmin(features.atoms.lengths))]
    # One process decides: weights of other shapes on another one would never add up.
    if collectives.broadcast_from_main(accelerator, lambda: is_prunable(model, used_ids, feature, collator, tokenizer)):
        prune(model, used_ids)
        log.info(
            "the training text has %d of the model's %d subwords: their embeddings are trained, all others only decay, "
            "as they would anyway",
            len(used_ids), model.get_input_embeddings().num_embeddings,
        )  # fmt: skip


def check_best_metric(config: Config, evaluator: Evaluator) -> None:
    """Raise ConfigError unless the evaluator has the metric that decides which model is best."""
    numbers = [n for n, v in evaluator.metrics(Counter()).items() if isinstance(v, int | float)]
    if config.train.best_metric not in numbers:
        raise ConfigError(
            f"train.best_metric: found {config.train.best_metric!r}"
            f"{plugins.did_you_mean(config.train.best_metric, numbers)}, expected one of {', '.join(numbers)}"
        )


def _num_long(atoms: BatchUnits) -> int:
    return int((np.diff(atoms.offsets) > 1).sum())
