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
from nerloop.alignment.document import Document
from nerloop.batching.features import Features, build_features, recipe
from nerloop.batching.plan import BatchUnits, Plan, Step
from nerloop.collators import Collator
from nerloop.config import Config
from nerloop.data.arrow_cache import Cache
from nerloop.data.dataset import Dataset
from nerloop.data.read_dataset import read_dataset
from nerloop.distributed import collectives
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.predictor import Predictor, Split, build_decodings
from nerloop.evaluators import Evaluator
from nerloop.inspection.splits import about_documents, inspect_splits
from nerloop.kernels.modules import replace_with_fused
from nerloop.model.compat import choose_collator, freeze_unused
from nerloop.model.load import load_model, load_tokenizer, new_model
from nerloop.optim.adamw import build_optimizer
from nerloop.optim.master_weights import Weights
from nerloop.optim.pruned_embedding import is_prunable, prune
from nerloop.run.signals import Interruption
from nerloop.tags import Scheme
from nerloop.types import IGNORE, Example, Feature, MicroBatch, Tokenizer

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def load_dataset(config: Config, accelerator: Accelerator) -> Dataset:
    """Return the splits that the settings name, inspected. Raises DataError if training on them makes no sense.

    One process of each machine reads, the others map what it cached. The main process inspects for all.
    """
    if config.is_demo:
        splits = demo.splits()
        dataset = Dataset(settings.DEMO, {**splits}, {split: str(len(examples)) for split, examples in splits.items()})
    else:
        dataset = collectives.local_main_first(accelerator, lambda: read_dataset(config.data))
    report = collectives.broadcast_from_main(accelerator, lambda: inspect_splits(dataset, config.data))
    for line in report.info:
        log.info("%s", line)
    for line in report.errors:
        raise DataError(line)
    for line in report.warnings:
        log.warning("warning: %s", line)
    if len(dataset.splits["train"]) < config.train.batch_size:
        log.warning(
            "warning: %d training sentences are fewer than train.batch_size %d: each epoch is one step",
            len(dataset.splits["train"]), config.train.batch_size,
        )  # fmt: skip
    return dataset


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
        labels, scheme = dataset.labels, dataset.scheme
        tokenizer, model = build_model(config, labels, dataset)
        model = model.double() if precision == "float64" else model
        model.to(accelerator.device)
        alignment: Alignment = config.alignment.build("alignment", tokenizer, labels)
        if isinstance(alignment, Document):
            for line in about_documents(dataset):
                log.warning("warning: %s", line)
        collator = build_collator(config, tokenizer, model)
        if accelerator.num_processes > 1 and (unused := freeze_unused(model, collator, tokenizer)):
            log.info("not trained, since the logits don't depend on them: %s", ", ".join(unused))
        if accelerator.device.type == "cpu":
            replace_with_fused(model)
        features = collectives.local_main_first(
            accelerator, lambda: _build_features(config, dataset, alignment, tokenizer, labels)
        )
        if config.collator.name in plugins.BUILT_IN["collator"]:  # one of one's own may put other subwords in
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
            optimizer=build_optimizer(weights, config.train.weight_decay, precision),
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
