"""The end of a run: evaluation of last and best, the saved model with its card, predictions, results, the report."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop import demo
from nerloop.config import Config
from nerloop.data import ReadOptions
from nerloop.evaluation import model_card, prediction_files
from nerloop.evaluation import tables as report
from nerloop.evaluation.pipeline_score import STRATEGIES, count_pipeline
from nerloop.evaluation.predictor import NERLOOP_JSON, Split
from nerloop.evaluators.seqeval import scores
from nerloop.optim.pruned_embedding import restore
from nerloop.plugins import BUILT_IN
from nerloop.run import atomic, checkpoint
from nerloop.run.folder import RESULTS, Progress, Run
from nerloop.run.tracking import Tracker
from nerloop.tags import OUTSIDE
from nerloop.training.setup import Training
from nerloop.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger(__name__)


def finish(
    config: Config,
    task: Training,
    run: Run,
    model: Any,
    progress: Progress,
    step: int,
    timing: dict[str, float],
    tracker: Tracker,
) -> dict[str, Any]:
    """Evaluate, save and report; return what results.json holds. On every process."""
    accelerator = task.predictor.accelerator
    master = task.weights.master
    results: dict[str, Any] = {}
    log.info("evaluating the last and the best weights")
    if "validation" in task.splits:
        results["validation"] = {"last": task.evaluate(model, "validation")}
    best_step = progress.best_step if progress.best_step is not None else step
    if best_step != step:
        accelerator.wait_for_everyone()
        checkpoint.load_weights(master, run.checkpoints / f"best-{best_step}")
        task.weights.sync_to_compute()
    for name, split in task.splits.items():
        results.setdefault(name, {})["best"] = _evaluate_and_write(task, run, model, name, split, tracker, best_step)
    if "validation" in task.splits and (found := _pipeline_f1(task, master)):
        results["validation"]["pipeline"] = found
    results |= {
        "decoding": config.decoding.name,
        "alignment": config.alignment.name,
        "steps": step,
        "best_step": best_step,
        "timing": timing,
    }
    entities = _entities(config, task, model)
    if accelerator.is_main_process:
        save_model(run.model, config, task, master, results)
        atomic.write_json(run.folder / RESULTS, results)
        run.set_status("done", step=step)
        print(report.final_report(results, run.folder, entities=entities, is_demo=config.is_demo))
    accelerator.wait_for_everyone()
    return results


def save_model(folder: Path, config: Config, task: Training, model: PreTrainedModel, results: dict[str, Any]) -> None:
    """Write a plain transformers model, its tokenizer, its card, and how nerloop decodes it, whole or not at all."""
    restore(model)

    def write(beside: Path) -> None:
        model.save_pretrained(str(beside))
        task.tokenizer.save_pretrained(str(beside))
        ours = {
            **{kind: asdict(getattr(config, kind)) for kind in BUILT_IN},
            "scheme": task.scheme,
            "mixed_precision": task.precision,
            "tokenizer": config.data.tokenizer,
            "data": ReadOptions.of(config.data).to_dict(),
        }
        (beside / NERLOOP_JSON).write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
        (beside / "README.md").write_text(model_card.model_card(config, results, task.labels), encoding="utf-8")

    atomic.write_folder(folder, write, num_bytes=checkpoint.num_bytes_of(model), checksums=False)


def _evaluate_and_write(
    task: Training, run: Run, model: Any, name: str, split: Split, tracker: Tracker, step: int
) -> dict[str, dict[str, Any]]:
    """Return the metrics of a split, and write its predictions files and its table."""
    predictor = task.predictor
    decoding = next(iter(predictor.decodings))
    is_main = predictor.accelerator.is_main_process
    writing = prediction_files.writing_predictions(run.folder / f"predictions.{name}", decoding) if is_main else None
    with writing or contextlib.nullcontext(prediction_files.write_nothing) as write:
        counts = predictor.tag_in_order(model, split, write, task.evaluator)
    metrics = predictor.metrics_of(counts, task.evaluator)
    if is_main:
        tracker.log_text(f"{name} (best)", report.evaluation_markdown(metrics[decoding]), step)
    return metrics


def _pipeline_f1(task: Training, model: PreTrainedModel) -> dict[str, float]:
    """Return by strategy the F1 of transformers' pipeline on the validation split; each process takes a share."""
    from accelerate.utils import gather_object

    predictor = task.predictor
    accelerator = predictor.accelerator
    examples = itertools.islice(
        task.splits["validation"].examples, accelerator.process_index, None, accelerator.num_processes
    )
    problem, counts = "", {}
    try:
        share = itertools.takewhile(lambda _: not predictor.interruption.signal, examples)
        counts = count_pipeline(model, task.tokenizer, share)
    except Exception as error:  # a long run must not be lost to another library's way with odd input
        problem = f"{type(error).__name__}: {error}"
    predictor.interruption.check()
    if problems := [p for p in gather_object([problem]) if p]:
        log.warning("warning: transformers' pipeline can't score the validation split: %s", problems[0])
        return {}
    found = {}
    for strategy in STRATEGIES:
        total = predictor.sum_over_processes(counts[strategy])
        found[strategy] = scores(total["correct",], total["gold",], total["predicted",])["f1"]
    return found


def _entities(config: Config, task: Training, model: Any) -> str:
    """Return the entities found in one sentence, as text: the demo's own, or the first held-out one that has some."""
    held_out = (e for name in ("test", "validation") if name in task.splits for e in task.splits[name].examples)
    with_entities = (e for e in held_out if any(tag != OUTSIDE for tag in e.tags))
    example = Example(demo.SENTENCE) if config.is_demo else next(with_entities, None)
    if example is None:
        return ""
    predictor = task.predictor
    split = Split.of([example], predictor.alignment, predictor.collator)
    tagged = predictor.gather(predictor.tag(model, split), range(1))
    return report.example_line(example.tokens, tagged[0], config.decoding.name)
