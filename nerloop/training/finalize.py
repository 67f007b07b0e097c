"""The end of a run: score and save the best weights; write model card, results.json, report.html, predictions files."""

from __future__ import annotations

import itertools
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nerloop import demo
from nerloop.config import Config
from nerloop.decoding.operating_points import Calibration
from nerloop.distributed.collectives import broadcast_from_main, gather
from nerloop.evaluation.calibration import LEAST_SPANS, fit, measure, with_test
from nerloop.evaluation.model_card import model_card
from nerloop.evaluation.pipeline_score import STRATEGIES, count_pipeline, f1_of
from nerloop.evaluation.predictor import Split
from nerloop.evaluation.report.as_html import as_html
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.evaluation.report.predictions import analysis_of_run
from nerloop.evaluation.tables import evaluation_markdown, example_line, final_report
from nerloop.evaluators import Counts
from nerloop.model.saved import SavedModel, code_flags
from nerloop.objectives.parameters import detach, learned_by
from nerloop.optim.pruned_embedding import restore
from nerloop.run.atomic import write_folder, write_json, write_text
from nerloop.run.checkpoint import num_bytes_of
from nerloop.run.folder import REPORT, RESULTS, Run
from nerloop.run.monitor import Monitor
from nerloop.run.trackers import TENSORBOARD
from nerloop.tags import OUTSIDE
from nerloop.training.scoring import (
    held_out_of,
    load_best,
    metrics_of_best,
    score_split,
    write_predictions,
)
from nerloop.training.state import State
from nerloop.training.training import Training
from nerloop.types import Example

log = logging.getLogger(__name__)


class Results(dict[str, Any]):
    """The content of results.json, with the run's folder and a sample: the entities found in one sentence, as text."""

    def __init__(self, values: dict[str, Any], *, folder: Path, sample: str = "") -> None:
        super().__init__(values)
        self.folder = folder
        self.sample = sample

    def report(self, config: Config) -> str:
        """Return the report printed at the end of a run: tables, paths, and how to use the model."""
        flags = "".join(f" {flag} {name}" for flag, name in code_flags(config).items())
        return final_report(
            self, self.folder, entities=self.sample, is_demo=config.is_demo, flags=flags,
            has_tensorboard=TENSORBOARD in config.run.trackers,
        )  # fmt: skip


def finalize(training: Training, state: State, run: Run, monitor: Monitor) -> Results:
    """Score and save the best weights; write results.json and the predictions files. Call it on every process.

    The validation split is not scored again: the metrics of the best weights were kept with them.
    """
    timing = {"train_seconds": state.seconds, **monitor.end_steps(), "first_step_seconds": state.first_step_seconds}
    best_step = state.best_step if state.best_step is not None else state.step
    results: dict[str, Any] = {}
    calibration = Calibration()
    if "validation" in training.splits:
        log.info("the best weights are those of step %d", best_step)
        best = run.best(best_step)
        results["validation"] = {"last": state.last_metrics, "best": dict(metrics_of_best(best))}
        if best_step != state.step:
            training.accelerator.wait_for_everyone()
            load_best(training, best)
        calibration = calibrate(training, best, run.folder)
        if calibration.points:
            results["validation"]["calibration"] = {"temperature": calibration.temperature}
    if "test" in training.splits:
        log.info("scoring the test split")
        with run.scratch_folder(training.is_main) as scratch:
            results["test"] = {"best": score_split(training, "test", run.folder, scratch)}
            measured = broadcast_from_main(training.accelerator, lambda: _measured(training, scratch, calibration))
        results["test"] |= measured
        calibration = with_test(calibration, measured)
    for split, metrics in results.items():
        main = metrics["best"][training.predictor.main_decoding]
        monitor.log_best(state.step, split, main)
        markdown = evaluation_markdown(main)
        monitor.log_text(f"{split} (best)", markdown, best_step)
    if "validation" in training.splits and (pipeline_f1 := _pipeline_f1(training)):
        results["validation"]["pipeline"] = pipeline_f1
    results |= {
        "decoding": training.config.decoding.name,
        "alignment": training.config.alignment.name,
        "steps": state.step,
        "best_step": best_step,
        "timing": timing | training.step.timing,
    }
    if training.distillation is not None:
        results["distillation"] = training.distillation.to_dict()
        results["timing"]["teacher_seconds"] = training.distillation.seconds
    sample = _sample(training)
    if training.is_main:
        save_model(run.model, training, results, calibration)
        write_json(run.folder / RESULTS, results)
        write_report(training, run, results)
        run.set_status("done", step=state.step)
    training.accelerator.wait_for_everyone()
    return Results(results, folder=run.folder, sample=sample)


def calibrate(training: Training, best: Path, folder: Path) -> Calibration:
    """Fit confidences and operating points on validation, the same on every process; the predictor uses them from now.

    The scores are those kept with the best weights. The predictions files of the validation split are written into
    `folder`, with the fitted confidences.
    """
    training.predictor.learn(learned_by(training.objective))
    predictor = training.predictor
    held = held_out_of(training, "validation", best) if training.is_main else None

    def fitted() -> Calibration:
        return Calibration() if held is None else fit(held, predictor.decodings[predictor.main_decoding])

    calibration = broadcast_from_main(training.accelerator, fitted)
    training.predictor = replace(predictor, temperature=calibration.temperature)
    if calibration.points:
        log.info("confidences: temperature %.2f, fitted on validation", calibration.temperature)
    else:
        log.info(
            "confidences are not calibrated: this takes %d entities in validation, and a decoding with probabilities",
            LEAST_SPANS,
        )
    if training.is_main:
        for file in best.glob("predictions.*"):
            shutil.copy(file, folder / file.name)
        if held is not None:
            write_predictions(training, held, "validation", folder)
    return calibration


def _measured(training: Training, scratch: Path, calibration: Calibration) -> dict[str, Any]:
    """Return how the calibration and its operating points do on the test split; {} if nothing was fitted."""
    held = held_out_of(training, "test", scratch)
    return (
        {}
        if held is None
        else measure(held, training.predictor.decodings[training.predictor.main_decoding], calibration)
    )


def save_model(folder: Path, training: Training, results: dict[str, Any], calibration: Calibration) -> None:
    """Write a plain transformers model, its tokenizer, its card and nerloop.json, whole or not at all."""
    learned = learned_by(training.objective)
    master = training.weights.master
    restore(master)  # the whole embedding
    detach(master)
    model: PreTrainedModel = training.adaptation.merge(master)
    saved = SavedModel.of(training.config, training.scheme, training.precision, learned, calibration)

    def write(beside: Path) -> None:
        model.save_pretrained(str(beside))
        training.tokenizer.save_pretrained(str(beside))
        saved.write(beside)
        card = model_card(training.config, results, training.labels, training.predictor.alignment)
        (beside / "README.md").write_text(card, encoding="utf-8")

    write_folder(folder, write, num_bytes=num_bytes_of(model), checksums=False)


def write_report(training: Training, run: Run, results: dict[str, Any]) -> None:
    """Write report.html, the page of `nerloop.evaluate`, for the test split, else validation; nothing without both."""
    split = next((name for name in ("test", "validation") if name in training.splits), None)
    if split is None:
        return
    examples, predictions = training.splits[split].examples, run.folder / f"predictions.{split}.jsonl"
    analysis = analysis_of_run(predictions, examples, TrainingNames.of(training.examples))
    found = analysis.to_json(results[split]["best"][results["decoding"]])
    measured = results[split].get("calibration", {})
    if "bins" in measured:
        found["calibration"] = measured  # the predictions file does not have the confidences before calibration
    found["targets"] = results[split].get("targets", {})
    scored = ", ".join(training.config.data.files().get(split, [])) or training.config.data_name
    write_text(run.folder / REPORT, as_html(found, f"{scored}, {split} split"))


def _pipeline_f1(training: Training) -> dict[str, float]:
    """Return the F1 of transformers' pipeline by aggregation strategy, and under "sentences" how many were scored.

    Each process scores a share of the validation sentences. {} if run.score_pipeline is 0 or the pipeline fails.
    """
    limit = training.config.run.score_pipeline
    examples = training.splits["validation"].examples[:limit]
    if not examples:
        return {}
    log.info("scoring transformers' pipeline on %d validation sentences", len(examples))
    accelerator, interruption = training.accelerator, training.predictor.interruption
    problem, counts = "", dict.fromkeys(STRATEGIES, Counts())
    try:
        share = examples[accelerator.process_index :: accelerator.num_processes]
        until_signal = itertools.takewhile(lambda _: not interruption.signal, share)
        counts = count_pipeline(training.weights.master, training.tokenizer, until_signal)
    except Exception as error:  # the pipeline may fail on odd input, which must not lose a long run
        problem = f"{type(error).__name__}: {error}"
    interruption.check()
    if problems := [p for p in gather(accelerator, problem) if p]:
        log.warning("warning: transformers' pipeline can't score the validation split: %s", problems[0])
        return {}
    totals = {strategy: training.predictor.sum_over_processes(counts[strategy]) for strategy in STRATEGIES}
    return {strategy: f1_of(total) for strategy, total in totals.items()} | {"sentences": len(examples)}


def _sample(training: Training) -> str:
    """Return the entities found in one sentence, as text.

    The sentence is the demo's sample, or the first test or validation sentence that has entities.
    """
    held_out = (e for name in ("test", "validation") if name in training.splits for e in training.splits[name].examples)
    with_entities = (e for e in held_out if any(tag != OUTSIDE for tag in e.tags))
    example = Example(demo.SENTENCE) if training.config.is_demo else next(with_entities, None)
    if example is None:
        return ""
    predictor = training.predictor
    split = Split.of([example], predictor.alignment, predictor.collator)
    predictions = predictor.gather(predictor.tag(training.model, split), range(1))
    return example_line(example.tokens, predictions[0], predictor.main_decoding)
