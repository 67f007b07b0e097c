"""The Training: everything that the loop needs, built by setup.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from accelerate import Accelerator

from nerloop.batching.plan import Plan, Step, dropout_seed
from nerloop.batching.targets import lay_out_targets
from nerloop.collators import Collator
from nerloop.config import Config
from nerloop.errors import TrainingError
from nerloop.evaluation.predictor import Predictor, Split
from nerloop.evaluators import Evaluator
from nerloop.model.adaptation import Adaptation
from nerloop.objectives import Objective
from nerloop.optim.master_weights import Weights
from nerloop.optim.schedule import learning_rate
from nerloop.optim.step import TrainStep
from nerloop.run.environment import computed_on
from nerloop.run.token_record import TokenRecorder
from nerloop.tags import Scheme
from nerloop.training.teachers import Distillation
from nerloop.types import IGNORE, Example, Feature, MicroBatch, Tokenizer


@dataclass(eq=False)
class Training:
    """Everything that the loop needs: settings, data, plan, model, optimizer and plugins."""

    config: Config
    labels: tuple[str, ...]
    scheme: Scheme
    precision: str
    accelerator: Accelerator
    tokenizer: Tokenizer
    adaptation: Adaptation
    weights: Weights
    model: Any  # the compute weights, as accelerate prepared them
    optimizer: Any  # as accelerate prepared it
    objective: Objective  # with its trained parameters, if it has any
    step: TrainStep
    collator: Collator
    evaluator: Evaluator
    predictor: Predictor
    features: Sequence[Feature]  # of the training split
    examples: Sequence[Example]  # of the training split
    splits: Mapping[str, Split]  # validation and test, if given
    plan: Plan
    num_steps: int
    best_metric: str  # the validation metric that decides which weights are best
    fingerprints: Mapping[str, str]  # of the data, by split
    distillation: Distillation | None = None
    tokens: TokenRecorder | None = None  # with run.record_tokens

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run's files."""
        return bool(self.accelerator.is_main_process)

    @property
    def identity(self) -> dict[str, Any]:
        """Values that must be the same for a run to be resumed, in addition to the settings."""
        identity = {"precision": self.precision, "fingerprints": self.fingerprints, "labels": list(self.labels)}
        return identity if self.distillation is None else identity | {"distillation": self.distillation.fingerprints}

    @property
    def computed_on(self) -> dict[str, Any]:
        """Values that must be the same for a resumed run to end with bit-identical weights."""
        return computed_on(self.accelerator)

    @property
    def patience(self) -> int | None:
        """Number of evaluations without a new best after which training stops; None: never."""
        return self.config.train.early_stopping_patience

    @property
    def is_update_skipped(self) -> bool:
        """Whether fp16's scaler skipped the last update because of an overflow."""
        return self.accelerator.scaler is not None and bool(self.optimizer.step_was_skipped)

    def dropout_seed(self, step: int) -> int:
        """Return the seed of a step's dropout on this process."""
        return dropout_seed(self.config.train.seed, step, self.accelerator.process_index)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step (counted from 0)."""
        t = self.config.train
        peak = self.config.learning_rate
        return learning_rate(
            step, num_steps=self.num_steps, peak=peak, warmup_ratio=t.warmup_ratio, schedule=t.schedule
        )

    def weight_of(self, batch: Step) -> float:
        """Return the divisor of a batch's summed loss: its subwords that have a label or a target, each counted once.

        An objective may weigh the labels of each feature itself.
        """
        weigh = getattr(self.objective, "weight", None)
        if weigh is None:
            return max(1, batch.num_labelled)
        return float(sum(weigh(self.features[i].labels) for i in batch.features)) or 1.0

    def collate(self, indices: Sequence[int]) -> MicroBatch:
        """Return the micro-batch of some training features; for no features, a dummy row without labels."""
        features = [self.features[i] for i in indices]
        if not features:
            # Every process must run the same number of forwards, because DDP synchronises in the backward pass.
            shortest = self.features[int(np.argmin(self.plan.atoms.lengths))]
            features = [replace(shortest, labels=np.full(len(shortest), IGNORE, dtype=np.int64), targets=None)]
        return lay_out_targets(replace(self.collator(features), features=features))

    def num_subwords(self, indices: Sequence[int]) -> int:
        """Return the number of subwords of some training features."""
        return int(self.plan.atoms.lengths[list(indices)].sum())

    def check_finite(self, first_bad: int) -> None:
        """Raise TrainingError, naming the sentences of step `first_bad`, unless it is -1: all gradients were finite."""
        if first_bad >= 0:
            features = self.plan[first_bad].features
            locations = dict.fromkeys(self.examples[e].location for f in features for e in self.features[f].examples)
            where = ", ".join(list(locations)[:8])
            raise TrainingError(f"step {first_bad + 1}: the gradient is not finite; its sentences (8 at most): {where}")

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
