"""Build a training from the settings: data, features, plan, model, optimizer. Restore its state from a checkpoint."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel

from nerloop import config as settings
from nerloop import demo, plugins
from nerloop.alignment import Alignment
from nerloop.batching.features import Features, build_features, recipe
from nerloop.batching.plan import Plan
from nerloop.collators import Collator
from nerloop.config import Config
from nerloop.data.arrow_cache import Cache
from nerloop.data.dataset import Dataset
from nerloop.data.read_dataset import read_dataset, read_unlabelled
from nerloop.data.tag_counts import TagCounts
from nerloop.distributed import collectives
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.predictor import Predictor, Split, build_decodings
from nerloop.evaluators import Evaluator, metrics_of
from nerloop.inspection.splits import about_documents, inspect_splits
from nerloop.kernels.modules import replace_with_fused
from nerloop.model.adaptation import Adaptation
from nerloop.model.cased import add_cased_subwords, can_be_cased, lower_cases
from nerloop.model.compat import choose_collator, freeze_unused, prepare_collator
from nerloop.model.load import load_model, load_tokenizer, new_model
from nerloop.objectives import Objective
from nerloop.objectives.parameters import attach, attached, learned_by
from nerloop.optim.groups import LearningRateFactors
from nerloop.optim.master_weights import Weights, check_equal_weights
from nerloop.optim.optimizer import build_optimizer, is_exact_for_pruned_rows
from nerloop.optim.pruned_embedding import is_prunable, prune
from nerloop.optim.step import TrainStep
from nerloop.run import checkpoint
from nerloop.run.folder import Run
from nerloop.run.monitor import Monitor
from nerloop.run.profiling import SKIPPED
from nerloop.run.token_record import TokenRecorder
from nerloop.training.session import Session
from nerloop.training.state import State
from nerloop.training.teachers import add_targets, check_targets
from nerloop.training.training import Training
from nerloop.types import Tokenizer

log = logging.getLogger(__name__)


def load_dataset(config: Config, accelerator: Accelerator) -> Dataset:
    """Return the splits that the settings name and log their problems. Raises DataError if they can't be trained on.

    On each machine one process reads the files; the others map its cache. Only the main process inspects the splits.
    """
    if config.is_demo:
        splits = demo.splits()
        if not config.data.read_test:
            del splits["test"]
        dataset = Dataset(settings.DEMO, {**splits}, {split: str(len(examples)) for split, examples in splits.items()})
    else:
        dataset = collectives.local_main_first(accelerator, lambda: read_dataset(config.data))
    dataset.unlabelled, dataset.unlabelled_fingerprint = collectives.local_main_first(
        accelerator, lambda: read_unlabelled(config.data)
    )
    report = collectives.broadcast_from_main(accelerator, lambda: inspect_splits(dataset, config.data))
    for line in report.info:
        log.info("%s", line)
    for line in report.errors:
        raise DataError(line)
    for line in report.warnings:
        log.warning("warning: %s", line)
    if dataset.unlabelled:
        num_tokens = TagCounts.of(dataset.unlabelled).num_tokens
        log.info("unlabelled %6d sentences %8d tokens", len(dataset.unlabelled), num_tokens)
    if len(dataset.splits["train"]) < config.train.batch_size:
        log.warning(
            "warning: %d training sentences are fewer than train.batch_size %d: each epoch is one step",
            len(dataset.splits["train"]), config.train.batch_size,
        )  # fmt: skip
    return dataset


def build_training(config: Config, session: Session) -> Training:
    """Read the data and build everything that the settings name. Nothing is trained or written yet.

    The order matters: the adaptation sees the plain model, fused kernels replace modules of the adapted one, and the
    objective's parameters are attached before the weights are copied and wrapped. Raises NerloopError.
    """
    accelerator, precision = session.accelerator, session.precision
    dataset = load_dataset(config, accelerator)
    labels, scheme = dataset.labels, dataset.scheme
    evaluator: Evaluator = config.evaluator.build("evaluator")
    best_metric = best_metric_of(config, evaluator)
    adaptation: Adaptation = config.adaptation.build("adaptation")
    tokenizer, model = build_model(config, labels, dataset)
    model = model.double() if precision == "float64" else model
    model.to(accelerator.device)
    objective: Objective = config.objective.build("objective", labels)
    alignment: Alignment = config.alignment.build("alignment", tokenizer, labels)
    check_targets(config, objective, alignment)
    if getattr(alignment, "needs_documents", False):
        for line in about_documents(dataset):
            log.warning("warning: %s", line)
    collator = build_collator(config, tokenizer, model)
    model = adaptation.apply(model)
    if accelerator.num_processes > 1 and (unused := freeze_unused(model, collator, tokenizer)):
        log.info("not trained, since the logits don't depend on them: %s", ", ".join(unused))
    if accelerator.device.type == "cpu":
        replace_with_fused(model)
    features = collectives.local_main_first(
        accelerator, lambda: _build_features(config, dataset, alignment, tokenizer, labels)
    )
    train_features, distillation = add_targets(
        features["train"], objective, alignment, dataset, accelerator, cache_of(config)
    )
    if is_exact_for_pruned_rows(config.train.optimizer, config.train.weight_decay):
        prune_embedding(model, features["train"], collator, tokenizer, accelerator)
    attach(model, objective)
    plan = build_plan(config, features["train"], collator, accelerator)
    weights = Weights.of(model, precision)
    prepare_collator(collator, weights.model)  # again, since the type may have changed
    factors = LearningRateFactors(config.train.head_learning_rate_factor, config.train.layer_decay)
    prepared, optimizer = accelerator.prepare(
        weights.model, build_optimizer(weights, config.train.weight_decay, precision, config.train.optimizer, factors)
    )
    check_equal_weights(weights.master)
    decodings = build_decodings(config.decoding, labels, scheme)
    predictor = Predictor(labels, alignment, collator, decodings, accelerator, session.interruption)
    if ignored := predictor.describe_unused(learned_by(objective)):
        log.warning("warning: %s", ignored)
    tokens = None
    if config.run.record_tokens:
        lengths = features["train"].num_tokens[: len(dataset.splits["train"])]  # without unlabelled sentences
        tokens = TokenRecorder(accelerator, labels, lengths)
    held_out = {n: Split.of(e, alignment, collator, features[n]) for n, e in dataset.splits.items() if n != "train"}
    return Training(
        config=config,
        labels=labels,
        scheme=scheme,
        precision=precision,
        accelerator=accelerator,
        tokenizer=tokenizer,
        adaptation=adaptation,
        weights=weights,
        model=prepared,
        optimizer=optimizer,
        objective=attached(model, objective),
        step=TrainStep(
            accelerator, weights, prepared, optimizer, config.train.max_grad_norm, config.train.cuda_graphs,
            objective=objective, record=None if tokens is None else tokens.record,
        ),
        collator=collator,
        evaluator=evaluator,
        predictor=predictor,
        features=train_features,
        examples=dataset.trained_on,
        splits=held_out,
        plan=plan,
        num_steps=config.train.max_steps or plan.num_steps(config.train.epochs),
        best_metric=best_metric,
        fingerprints=dataset.fingerprints,
        distillation=distillation,
        tokens=tokens,
    )  # fmt: skip


def build_plan(config: Config, features: Features, collator: Collator, accelerator: Accelerator) -> Plan:
    """Return the plan of the training split. Log long sentences, and windows that hold several sentences."""
    atoms = features.atoms
    plan = Plan(
        atoms,
        config.train.batch_size,
        config.train.seed,
        num_processes=accelerator.num_processes,
        gradient_accumulation_steps=config.train.gradient_accumulation_steps,
        max_subwords=config.train.max_subwords,
        cost=collator.num_cells,
    )
    windows = len(atoms.lengths) - len(atoms.sentences)  # features beyond one for each atom
    if windows > 0:
        num_long = int((np.diff(atoms.offsets) > 1).sum())
        log.info("%d training sentences are longer than a window and are cut into %d", num_long, num_long + windows)
    report_sharing(plan)
    return plan


def restore(training: Training, run: Run) -> State:
    """Return the state to start from: step 0, or that of a checkpoint, after loading its weights and optimizer."""
    resumed_from, accelerator = run.resume_from, training.accelerator
    state = State()
    if resumed_from is not None:
        checkpoint.load_checkpoint(resumed_from, training.weights.master, training.optimizer.optimizer)
        training.weights.sync_to_compute()
        kept = checkpoint.read_state(resumed_from)
        state = State.from_dict(kept.get("progress"), resumed_from)
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(kept["scaler"])
        log.info("resumed from %s", resumed_from)
        if changed := [name for name, value in training.computed_on.items() if kept.get(name) != value]:
            log.warning("warning: resumed with other %s: equal up to rounding and dropout", ", ".join(changed))
    log.info(
        "%s: %d steps of %d sentences on %d process(es), %s", run.folder, training.num_steps,
        training.config.train.batch_size, accelerator.num_processes,
        "float32" if training.precision == "no" else training.precision,
    )  # fmt: skip
    return state


def open_monitor(training: Training, state: State, run: Run) -> Monitor:
    """Return the monitor of a run, a context manager."""
    trace_steps = training.config.run.profile
    warmup = training.step.num_warmup_steps(training.num_steps - state.step - trace_steps)
    return Monitor(
        run.folder,
        first_step=state.step,
        num_steps=training.num_steps,
        is_main=training.is_main,
        check_finite=training.check_finite,
        trace_steps=trace_steps,
        warmup_steps=max(SKIPPED, warmup),
        trackers=training.config.run.trackers,
        settings=training.config.resolved().to_flat(),
    )


def _build_features(
    config: Config, dataset: Dataset, alignment: Alignment, tokenizer: Tokenizer, labels: Sequence[str]
) -> dict[str, Features]:
    """Return the features of every split, from the cache if they are there. Features of the demo are not cached."""
    cache = cache_of(config)
    made_by = recipe(config.alignment, alignment, tokenizer, labels)
    splits = {**dataset.splits, "train": dataset.trained_on}
    features = {split: build_features(examples, alignment, cache, made_by) for split, examples in splits.items()}
    cache.prune()  # only now: the entries that this run uses are locked
    return features


def cache_of(config: Config) -> Cache:
    """Return the cache of the settings; the demo keeps nothing."""
    return Cache.temporary() if config.is_demo else Cache.at(config.data.cache_dir)


def report_sharing(plan: Plan) -> None:
    """Log how many sentences a window and a step hold, if sentences share windows.

    A step takes whole windows, so its average may exceed train.batch_size.
    """
    num_sentences, num_atoms = int(plan.atoms.sentences.sum()), len(plan.atoms.sentences)
    if num_sentences > num_atoms:
        log.info(
            "%d training sentences share %d windows: %.1f a window, %.1f a step (train.batch_size %d)",
            num_sentences, num_atoms, num_sentences / num_atoms, num_sentences / plan.num_steps(1), plan.batch_size,
        )  # fmt: skip


def build_model(config: Config, labels: Sequence[str], dataset: Dataset) -> tuple[Tokenizer, PreTrainedModel]:
    """Return tokenizer and model. The demo's are created here, not loaded."""
    if config.is_demo:
        log.info(
            "This is the embedded demo: made-up sentences and a small encoder with random weights. It shows how a run "
            "works and which files it writes; its model has no other use."
        )
        tokenizer = demo.build_tokenizer(dataset.splits["train"])
        model = new_model(demo.build_config(tokenizer), config.model, labels, tokenizer)
        return see_case(config, model, tokenizer), model
    if config.model.trust_remote_code:
        log.warning("warning: model.trust_remote_code is on: code that comes with the model will be run")
    tokenizer = load_tokenizer(config.model)
    model = load_model(config.model, labels, tokenizer)
    return see_case(config, model, tokenizer), model


def see_case(config: Config, model: PreTrainedModel, tokenizer: Tokenizer) -> Tokenizer:
    """Add cased subwords to a model if the settings ask for it; return the tokenizer to use. Raises ModelError."""
    if not config.model.cased_subwords:
        if can_be_cased(tokenizer):
            log.info("hint: this encoder lower-cases its text; --model.cased_subwords true lets it see capitals")
        return tokenizer
    if not lower_cases(tokenizer):
        log.info("model.cased_subwords: this encoder sees capitals already, so nothing is added")
        return tokenizer
    cased = add_cased_subwords(model, tokenizer)
    log.info("the encoder's vocabulary gets cased subwords: %d became %d", len(tokenizer), len(cased))
    return cased


def build_collator(config: Config, tokenizer: Tokenizer, model: PreTrainedModel) -> Collator:
    """Return the collator of the settings, or Pad if the model computes other logits with it."""
    collator: Collator = config.collator.build("collator", tokenizer)
    chosen, reason = choose_collator(collator, model, tokenizer)
    if reason:
        log.warning("warning: %s changes what this model computes: %s; using pad instead", config.collator.name, reason)
    return chosen


def prune_embedding(
    model: PreTrainedModel, features: Features, collator: Collator, tokenizer: Tokenizer, accelerator: Accelerator
) -> None:
    """Keep only the embedding rows that training uses, if that saves time and leaves the result unchanged.

    Rows for subwords absent from the training text never receive a gradient, so their final values follow from weight
    decay alone; `finalize` restores them.
    """
    # Without added_ids a collator may add any subword, so no row can go. An inherited added_ids does not count: the
    # subclass may add others.
    if "added_ids" not in vars(type(collator)):
        return
    added_ids: Sequence[int] = collator.added_ids  # type: ignore[attr-defined]
    used_ids = np.union1d(features.used_ids, [*added_ids, *tokenizer.all_special_ids])
    feature = features[int(np.argmin(features.atoms.lengths))]
    # One process decides for all: gradients of different shapes could not be summed.
    if collectives.broadcast_from_main(accelerator, lambda: is_prunable(model, used_ids, feature, collator, tokenizer)):
        prune(model, used_ids)
        log.info(
            "the training text uses %d of the model's %d subwords: only their embeddings are trained; the others get "
            "no gradient and only decay",
            len(used_ids), model.get_input_embeddings().num_embeddings,
        )  # fmt: skip


def best_metric_of(config: Config, evaluator: Evaluator) -> str:
    """Return the metric that decides which weights are best. Raises NerloopError if there is no such metric."""
    name = config.train.best_metric or evaluator.main_metric
    numbers = [n for n, v in metrics_of(evaluator, Counter()).items() if isinstance(v, int | float)]
    if name not in numbers:
        is_own = name == evaluator.main_metric
        setting = f"{plugins.title_of('evaluator', evaluator)}: main_metric" if is_own else "train.best_metric"
        expected = f"one of {', '.join(numbers)}" if numbers else "a number among the metrics, which have none"
        raise ConfigError(f"{setting}: found {name!r}{plugins.did_you_mean(name, numbers)}, expected {expected}")
    return name
