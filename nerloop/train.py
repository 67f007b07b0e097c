"""Train a model: `accelerate launch -m nerloop.train`, or `python -m nerloop.train` for one process.

Exit codes: 0 done; 1 training failed; 2 bad input (one line on stderr, before training starts); 130 stopped by a
signal. After 130 the work so far is saved, and --run.resume auto continues from there.
"""

from __future__ import annotations

import logging
import sys
import time
import types
from typing import TYPE_CHECKING

from nerloop.errors import Interrupted, NerloopError, TrainingError

STARTED = time.perf_counter()  # the time to the first step includes the imports

if TYPE_CHECKING:
    from nerloop.config import Config
    from nerloop.run.folder import Run
    from nerloop.run.monitor import Monitor
    from nerloop.training.finalize import Results
    from nerloop.training.session import Session
    from nerloop.training.state import State
    from nerloop.training.training import Training

MAX_SKIPPED_UPDATES = (
    20  # in a row, in fp16: the loss scaler needs a few to find its scale; this many mean that it can't
)

log = logging.getLogger("nerloop.train")  # by name: run with -m, __name__ is "__main__"


def train(config: Config, *, started: float | None = None) -> Results:
    """Train with these settings and return the content of results.json.

    Thread counts, logging and signal handlers are restored afterwards. `started` is the time.perf_counter() value from
    which the time to the first step is measured (default: now). Raises NerloopError.
    """
    from nerloop.training.finalize import Results, finalize
    from nerloop.training.session import open_session
    from nerloop.training.setup import build_training, open_monitor, restore

    with open_session(config, started=started) as session:
        training = build_training(config, session)  # data, model, optimizer, plan: nothing trained, nothing written yet
        run = session.open_run(training.identity)
        if run.results is not None:
            return Results(run.results, folder=run.folder)
        state = restore(training, run)  # step 0, or the state of the checkpoint
        with open_monitor(training, state, run) as monitor:
            loop(training, state, run, monitor, session)
            return finalize(training, state, run, monitor)


def loop(training: Training, state: State, run: Run, monitor: Monitor, session: Session) -> None:
    """Run the steps from `state.step` to the last; evaluate and save whenever they are due."""
    import torch

    from nerloop.optim.step import fetching

    accelerator, plan = session.accelerator, training.plan
    clock = time.perf_counter() - state.seconds
    training.model.train()  # evaluation restores this mode when it is done
    while True:  # one turn more than there are steps, so the last evaluation and checkpoint run here, too
        is_stopping = session.interruption.is_agreed()
        is_evaluation_due = state.step > state.evaluated and training.is_evaluation_due(state.step)
        is_save_due = training.is_save_due(state.step)  # always after the last step
        if is_stopping or is_evaluation_due or is_save_due:
            monitor.flush()  # log a step's metrics before its evaluation and checkpoint
        if is_evaluation_due:
            with monitor.paused():
                evaluate(training, state, run, monitor)
        state.seconds = time.perf_counter() - clock
        is_last = state.step == training.num_steps or state.is_patience_over(training.patience)
        if state.step > state.saved and (is_last or is_stopping or is_save_due):
            with monitor.paused():
                save(training, state, run, monitor)
        if is_last:
            return
        if is_stopping:
            signal = session.interruption.signal or "a signal to another process"
            raise Interrupted(f"{signal}: stopped after step {state.step}")

        batch = plan[state.step]  # the same on every process
        if training.tokens is not None:
            training.tokens.begin(batch.epoch, run.folder)
        # Dropout depends only on seed, step and process, so checkpoints need no random generator states.
        torch.manual_seed(training.dropout_seed(state.step))
        lr = training.learning_rate(state.step)
        weight = training.weight_of(batch)
        # DDP averages gradients over the processes; multiplying by their number gives the sum.
        scale = accelerator.num_processes / weight
        micro_batches = batch.micro_batches[accelerator.process_index]
        loss_sum = torch.zeros((), device=accelerator.device, dtype=training.weights.master.dtype)
        for i, indices in enumerate(micro_batches):
            micro_batch = training.collate(indices)
            monitor.count(micro_batch, training.num_subwords(indices))
            loss_sum += training.step.backward(micro_batch, scale, is_last=i + 1 == len(micro_batches))
        grad_norm = training.step.update(state.step, lr)  # clip, skip if not finite, optimizer step
        # Reading the previous step's metrics waits for the GPU. By now this step is queued, so the GPU stays busy.
        monitor.flush()

        if training.is_update_skipped:  # fp16 overflow: retry the same batch, the scaler has lowered its scale
            state.skipped_in_a_row += 1
            if state.skipped_in_a_row == MAX_SKIPPED_UPDATES:
                raise TrainingError(
                    f"step {state.step + 1}: {MAX_SKIPPED_UPDATES} updates in a row overflowed in fp16; use bf16"
                )
            continue
        state.skipped_in_a_row = 0
        state.step += 1
        if not state.first_step_seconds:
            loss_sum.item()  # waits for the device
            state.first_step_seconds = time.perf_counter() - session.started
        if state.step % training.config.run.log_every == 0 or state.step == training.num_steps:
            fetch = fetching([training.step.first_bad, accelerator.reduce(loss_sum), grad_norm])
            monitor.log_step(state.step, fetch, weight=weight, epoch=plan.epoch_at(state.step), lr=lr)
            if accelerator.device.type == "cpu":
                monitor.flush()
        monitor.end_step(state.step, batch)


def evaluate(training: Training, state: State, run: Run, monitor: Monitor) -> None:
    """Score the validation split. If the result is the best so far, keep weights, metrics and predictions."""
    from nerloop.evaluation.tables import evaluation_markdown
    from nerloop.training.scoring import keep_best, score_split

    if "validation" not in training.splits:
        return
    training.check_finite(int(training.step.first_bad))
    with run.scratch_folder(training.is_main) as predictions:
        try:
            metrics = score_split(training, "validation", predictions)
        except Interrupted:  # the resumed run evaluates this step
            if state.step > state.saved:
                save(training, state, run, monitor)
            raise
        main = metrics[training.predictor.main_decoding]
        value = float(main[training.best_metric])
        is_best = state.note_evaluation(state.step, value, greater_is_better=training.evaluator.greater_is_better)
        state.last_metrics = metrics
        if is_best and training.is_main:
            keep_best(training, run.best(state.step), metrics, predictions)
    monitor.log_evaluation(state.step, main, epoch=training.plan.epoch_at(state.step), best=state.best)
    monitor.log_text("validation", evaluation_markdown(main), state.step)
    mark = " (best)" if is_best else ""
    log.info("step %d: validation %s %.4f%s", state.step, training.best_metric, value, mark)


def save(training: Training, state: State, run: Run, monitor: Monitor) -> None:
    """Write a checkpoint, then delete the oldest ones beyond run.keep_checkpoints."""
    from nerloop.run import checkpoint

    training.check_finite(int(training.step.first_bad))
    if training.tokens is not None:
        training.tokens.write()  # before the checkpoint, which must not be newer
    if training.is_main:
        monitor.sync()
        scaler = training.accelerator.scaler  # fp16 only
        scale = scaler.state_dict() if scaler is not None else None
        kept = {"step": state.step, "best_step": state.best_step, "progress": state.to_dict(), "scaler": scale}
        folder = run.checkpoints / f"step-{state.step}"
        optimizer = training.optimizer.optimizer  # the one that accelerate wrapped
        checkpoint.save_checkpoint(folder, training.weights.master, optimizer, kept | training.computed_on)
        checkpoint.prune(run.checkpoints, training.config.run.keep_checkpoints)
        run.set_status("running", step=state.step, num_steps=training.num_steps)
    training.accelerator.wait_for_everyone()
    state.saved = state.step


def main() -> None:
    """Parse the command line, train, print the report, and exit with the exit code."""
    from nerloop.distributed import threads

    threads.limit_spinning()  # before anything imports torch
    from nerloop import cli
    from nerloop.config import parse
    from nerloop.distributed import collectives
    from nerloop.run import signals

    signals.end_at_once_on_signals()
    signals.follow_launcher()
    cli.end_without_collecting()
    try:
        config = parse.parse(sys.argv[1:])
        results = _train_as_command(config)
        if collectives.is_main():
            cli.print_report(results.report(config))
        collectives.destroy_process_group()
    except KeyboardInterrupt:  # a second Ctrl-C, while the first one waits for the step to finish and be saved
        print("nerloop: stopped at once; --run.resume auto continues from the last checkpoint", file=sys.stderr)
        sys.exit(Interrupted.exit_code)
    except Interrupted as stop:
        signals.ignore_signals()
        if collectives.is_local_main():
            print(f"nerloop: {stop}", file=sys.stderr)
        collectives.destroy_process_group()
        sys.exit(stop.exit_code)
    except (NerloopError, ModuleNotFoundError) as error:
        told = error if isinstance(error, NerloopError) else cli.missing_package(error)
        if collectives.is_local_main():
            print(cli.error_lines(told), file=sys.stderr)
        sys.exit(told.exit_code)
    except RuntimeError as error:
        if not collectives.is_lost_peer(error):
            raise
        print(f"nerloop: error: {collectives.lost_peer_line(error)}", file=sys.stderr)
        sys.exit(TrainingError.exit_code)
    signals.ignore_signals()


def _train_as_command(config: Config) -> Results:
    """Train, with settings for a process that nothing else uses: keep freed memory, compile kernels at once."""
    import os

    from nerloop.kernels import compile as kernels

    profile = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    precision = profile if config.train.mixed_precision == "profile" else config.train.mixed_precision
    kernels.start(with_bf16=precision in ("auto", "bf16"))  # compiles in the background while torch is imported

    from nerloop.distributed.precision import has_accelerator
    from nerloop.run.malloc import keep_freed_memory

    if not has_accelerator():
        keep_freed_memory()
    return train(config, started=STARTED)


class _CallableModule(types.ModuleType):
    """Makes this module callable: importing it replaces the function `nerloop.train`, and both must train."""

    def __call__(self, config: Config) -> Results:
        return train(config)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
