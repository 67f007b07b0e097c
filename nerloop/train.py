"""The loop: `accelerate launch -m nerloop.train`, or `python -m nerloop.train` for one process.

Exit codes of the latter: 0 done, 1 training went wrong, 2 bad input (one line on stderr, before any training time),
130 interrupted by a signal: what was done is saved, and --run.resume auto goes on from there.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from nerloop.config import Config, validate
from nerloop.errors import Interrupted, NerloopError, TrainingError
from nerloop.run.lock import FolderLock

STARTED = time.perf_counter()  # the time to the first step counts from here: imports are a part of the wait
MAX_SKIPPED_UPDATES = 20  # of fp16 in a row: its scaler needs a few to find the scale, not so many

log = logging.getLogger("nerloop.train")  # by name: run with -m, __name__ is "__main__"


def main() -> None:
    """Parse the command line, train, print the report; leave with the exit code."""
    from nerloop.config import parse as settings
    from nerloop.distributed import collectives
    from nerloop.run import signals as interruption

    interruption.end_at_once_on_signals()
    interruption.follow_launcher()
    try:
        train(settings.parse(sys.argv[1:]))
        collectives.destroy_process_group()
    except KeyboardInterrupt:  # a second Ctrl-C, while the step of the first is finished and saved
        print("nerloop: stopped at once; --run.resume auto goes on from the last checkpoint", file=sys.stderr)
        sys.exit(Interrupted.exit_code)
    except Interrupted as stop:
        interruption.ignore_signals()
        if collectives.is_local_main():
            print(f"nerloop: {stop}", file=sys.stderr)
        collectives.destroy_process_group()
        sys.exit(stop.exit_code)
    except NerloopError as error:
        if collectives.is_local_main():
            print(f"nerloop: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        if not collectives.is_lost_peer(error):
            raise
        print(
            "nerloop: error: another process of this launch has ended, and says above why if it could", file=sys.stderr
        )
        sys.exit(TrainingError.exit_code)
    interruption.ignore_signals()


def train(config: Config) -> dict[str, Any]:
    """Train as the settings say and return what results.json holds. Raises NerloopError."""
    with contextlib.ExitStack() as held:  # the run's folder, and the signals
        return _train(config, held)


def _train(config: Config, held: contextlib.ExitStack) -> dict[str, Any]:
    validate(config)
    import torch
    from accelerate.utils import set_seed

    from nerloop.batching.plan import dropout_seed
    from nerloop.distributed import collectives
    from nerloop.distributed import launch as hardware
    from nerloop.distributed.precision import hint_at_bf16
    from nerloop.evaluation import tables as report
    from nerloop.optim.schedule import learning_rate
    from nerloop.optim.step import TrainStep, fetching
    from nerloop.run import atomic, checkpoint, environment, malloc
    from nerloop.run import folder as runs
    from nerloop.run.logging import release_log, set_up_logging
    from nerloop.run.meter import Meter
    from nerloop.run.profiling import SKIPPED, profiling
    from nerloop.run.signals import Interruption
    from nerloop.run.tracking import Tracker
    from nerloop.training.finalize import finish
    from nerloop.training.setup import Training, read_dataset

    accelerator, precision = hardware.start(config)
    if accelerator.device.type == "cpu":
        malloc.keep_freed_memory()
    set_up_logging(config.run.log_level, is_main=accelerator.is_main_process)
    hint_at_bf16(config, precision)
    set_seed(config.train.seed)  # the same on every process: the head's initial weights
    collectives.broadcast_from_main(accelerator, lambda: runs.check_free(config))  # before anything takes long
    dataset = read_dataset(config)
    interruption = Interruption(accelerator.num_processes)
    task = Training.build(config, dataset, precision, accelerator, interruption)
    identity = {"precision": precision, "fingerprints": dataset.fingerprints, "labels": list(task.labels)}
    held.enter_context(interruption)  # from here on there is a run to leave in order
    lock = held.enter_context(FolderLock())
    run = collectives.broadcast_from_main(accelerator, lambda: runs.open_run(config, identity, lock))
    release_log()
    if run.results is not None:
        log.info("%s is done", run.folder)
        if accelerator.is_main_process:
            print(report.final_report(run.results, run.folder, is_demo=config.is_demo))
        return run.results
    if accelerator.is_main_process:
        atomic.write_json(
            run.folder / runs.ENVIRONMENT, {**environment.environment(accelerator, precision), **identity}
        )
    weights, master = task.weights, task.weights.master
    model, optimizer = accelerator.prepare(weights.model, task.optimizer)
    scaler = accelerator.scaler
    plan, num_steps = task.plan, task.num_steps
    progress = runs.Progress()
    computed_on = environment.computed_on(accelerator)
    if run.resume_from is not None:
        checkpoint.load_checkpoint(run.resume_from, master, optimizer.optimizer)
        weights.sync_to_compute()
        state = checkpoint.read_state(run.resume_from)
        progress = runs.Progress.of(state, run.resume_from)
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        log.info("resumed from %s", run.resume_from)
        if others := [name for name, value in computed_on.items() if state.get(name) != value]:
            log.warning("warning: resumed with other %s: equal up to rounding and dropout", ", ".join(others))
    log.info("%s: %d steps of %d sentences on %d process(es), %s", run.folder, num_steps, config.train.batch_size,
             accelerator.num_processes, "float32" if precision == "no" else precision)  # fmt: skip

    train_step = TrainStep(accelerator, weights, model, optimizer, config.train.max_grad_norm, config.train.cuda_graphs)
    saved, skipped_in_a_row, first_step_seconds = progress.step, 0, 0.0
    meter = Meter()
    train_seconds, clock = progress.seconds, time.perf_counter()

    is_main = accelerator.is_main_process
    tracked = Tracker(run.folder, first_step=progress.step, num_steps=num_steps, is_main=is_main)
    num_before = max(SKIPPED, train_step.num_warmup_steps(num_steps - progress.step - config.run.profile))
    traced = profiling(config.run.profile, run.folder, is_main=is_main, skipped=num_before)
    with run.keeping_status(is_main), tracked as tracker, traced as end_of_step:
        due: list[Callable[[], None]] = []  # figures that are to be told, of one step at most

        def stop_if_not_finite(bad: int) -> None:
            if bad >= 0:
                where = ", ".join(task.locations(plan[bad])[:8])
                raise TrainingError(f"step {bad + 1}: the gradient is not finite; its sentences (8 at most): {where}")

        def tell(step: int, lr: float, num_labelled: int, fetch: Callable[[], list[float]]) -> None:
            bad, loss, grad_norm = fetch()
            stop_if_not_finite(int(bad))
            figures = {"epoch": plan.epoch_at(step), "loss": loss / max(1, num_labelled), "grad_norm": grad_norm}
            tracker.log(step, {**figures, "lr": lr, "timing": meter.read()})

        def tell_due() -> None:
            while due:
                due.pop()()

        def evaluate(step: int) -> None:
            """Score the validation split; note whether it is the best, and keep the weights if so."""
            with meter.paused():
                metrics = task.evaluate(model, "validation")[config.decoding.name]
            progress.evaluated = step
            figure = float(metrics[config.train.best_metric])
            is_best = progress.best is None or figure > progress.best  # ties keep the first
            progress.evaluations_without_best += 1
            if is_best:
                progress.best, progress.best_step, progress.evaluations_without_best = figure, step, 0
                if accelerator.is_main_process:
                    atomic.write_folder(run.checkpoints / f"best-{step}", lambda f: checkpoint.save_weights(master, f))
            tracker.log(step, {"epoch": plan.epoch_at(step), "split": "validation", **metrics, "best": progress.best})
            tracker.log_text("validation", report.evaluation_markdown(metrics), step)
            log.info(
                "step %d: validation %s %.4f%s", step, config.train.best_metric, figure, " (best)" if is_best else ""
            )

        @meter.paused()
        def save(step: int) -> None:
            stop_if_not_finite(int(train_step.first_bad))
            progress.step = step
            progress.seconds = train_seconds + time.perf_counter() - clock
            if accelerator.is_main_process:
                tracker.sync()
                scale = scaler.state_dict() if scaler is not None else None
                state = {"step": step, "best_step": progress.best_step, "progress": asdict(progress), "scaler": scale}
                state |= computed_on
                checkpoint.save_checkpoint(run.checkpoints / f"step-{step}", master, optimizer.optimizer, state)
                checkpoint.prune(run.checkpoints, config.run.keep_checkpoints)
                run.set_status("running", step=step, num_steps=num_steps)
            accelerator.wait_for_everyone()

        model.train()  # an evaluation leaves it so; to tell a large model's modules takes a while
        step = progress.step
        while True:  # one turn more than there are steps: the last evaluation and checkpoint need no second copy
            is_last, is_stopping = step == num_steps, interruption.is_agreed()
            is_evaluation_due = step > progress.evaluated and task.is_evaluation_due(step)
            if is_evaluation_due or is_last or is_stopping or task.is_save_due(step):
                tell_due()
            if is_evaluation_due and "validation" in task.splits:
                stop_if_not_finite(int(train_step.first_bad))
                try:
                    evaluate(step)
                except Interrupted:  # a resumed run makes up for it
                    if step > saved:
                        save(step)
                    raise
            is_last = is_last or progress.is_patience_over(config)
            if step > saved and (is_last or is_stopping or task.is_save_due(step)):
                save(step)
                saved = step
            if is_last:
                break
            if is_stopping:
                raise Interrupted(f"{interruption.signal or 'a signal to another process'}: stopped after step {step}")

            this = plan[step]
            torch.manual_seed(dropout_seed(config.train.seed, step, accelerator.process_index))
            lr = learning_rate(step, num_steps=num_steps, peak=task.peak_learning_rate,
                               warmup_ratio=config.train.warmup_ratio, schedule=config.train.schedule)  # fmt: skip
            micro_batches = this.micro_batches[accelerator.process_index]
            # DDP averages over the processes; their number takes that back.
            scale = accelerator.num_processes / max(1, this.num_labelled)
            loss_sum = torch.zeros((), device=accelerator.device, dtype=master.dtype)
            for i, indices in enumerate(micro_batches):
                batch = task.collate(indices)
                meter.count(batch, int(plan.atoms.lengths[list(indices)].sum()))
                loss_sum += train_step.add_gradient(batch, scale, is_last=i + 1 == len(micro_batches))
            grad_norm = train_step.update(step, lr)
            tell_due()  # of the step before, now that a GPU has this one to do
            if scaler is not None and optimizer.step_was_skipped:  # an overflow: the scaler tries a smaller scale
                skipped_in_a_row += 1
                if skipped_in_a_row == MAX_SKIPPED_UPDATES:
                    raise TrainingError(
                        f"step {step + 1}: {MAX_SKIPPED_UPDATES} updates in a row overflowed in fp16; use bf16"
                    )
                continue
            skipped_in_a_row = 0
            step += 1
            meter.end_step(this)
            if not first_step_seconds:
                loss_sum.item()
                first_step_seconds = time.perf_counter() - STARTED
            if step % config.run.log_every == 0 or step == num_steps:
                fetch = fetching([train_step.first_bad, accelerator.reduce(loss_sum), grad_norm])
                due.append(partial(tell, step, lr, this.num_labelled, fetch))
                if accelerator.device.type == "cpu":
                    tell_due()
            tracker.advance(step)
            end_of_step()

        train_seconds += time.perf_counter() - clock
        timing = {"train_seconds": train_seconds, **meter.total(), "first_step_seconds": first_step_seconds}
        tracker.end_bar()
        return finish(config, task, run, model, progress, step, timing | train_step.timing, tracker)


if __name__ == "__main__":
    main()
