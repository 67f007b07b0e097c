"""Where does the time of a step go? Its parts in milliseconds, medians of the steps behind the warm-up; CPU only.

    python tests/benchmarks/step_parts.py --batch_sizes 8 32 --json step_parts.json

The parts are those of the loop in nerloop/train.py, in its order, each timed to its end; page faults are a step's, too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from turns import default_data, default_model, finish

PARTS = ("batch", "forward", "backward", "collect gradients", "norm", "update", "cast weights", "page faults")


def work(arguments: argparse.Namespace) -> None:
    """Print the parts of the steps of one training, in a process of its own."""
    import resource

    import torch

    from nerloop.batching.plan import dropout_seed
    from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
    from nerloop.distributed import launch as hardware
    from nerloop.model.forward import logits_of
    from nerloop.objectives.cross_entropy import token_loss
    from nerloop.optim.optimizer import clip, uses_compute_weights
    from nerloop.run.signals import Interruption
    from nerloop.training.setup import Training, read_dataset

    config = Config(
        model=ModelSettings(name_or_path=arguments.model),
        data=DataSettings(train=str(Path(arguments.data, "train.conll"))),
        train=TrainSettings(mixed_precision=arguments.precision, batch_size=arguments.batch_sizes[0]),
        run=RunSettings(log_level="warning"),
    )
    accelerator, precision = hardware.start(config)
    task = Training.build(config, read_dataset(config), precision, accelerator, Interruption())
    weights, parameters = task.weights, list(task.weights.master.parameters())
    model, optimizer = accelerator.prepare(weights.model, task.optimizer)
    model.train()
    is_one_pass = uses_compute_weights(optimizer)
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(arguments.warmup + arguments.steps):
        step, clock = task.plan[number], time.perf_counter()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        parts = dict.fromkeys(PARTS, 0.0)

        def end_of(part: str, parts: dict[str, float] = parts) -> None:
            nonlocal clock
            now = time.perf_counter()
            parts[part] += 1e3 * (now - clock)
            clock = now

        torch.manual_seed(dropout_seed(config.train.seed, number, 0))
        for indices in step.micro_batches[0]:
            batch = task.collate(indices).to(accelerator.device, weights.model.dtype)
            end_of("batch")
            loss = token_loss(logits_of(model, batch), batch.labels)
            end_of("forward")
            accelerator.backward(loss / max(1, step.num_labelled))
            end_of("backward")
            if not is_one_pass:
                weights.accumulate_from_compute()
            end_of("collect gradients")
        clip(accelerator, optimizer, parameters, 1.0)
        end_of("norm")
        for group in optimizer.param_groups:
            group["lr"] = task.peak_learning_rate
        optimizer.step()
        optimizer.zero_grad()
        end_of("update")
        if not is_one_pass:
            weights.sync_to_compute()
        end_of("cast weights")
        parts["page faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        if number >= arguments.warmup:
            for part, value in parts.items():
                found[part].append(value)
    print(json.dumps({part: statistics.median(values) for part, values in found.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=default_model(), required=default_model() is None)
    parser.add_argument("--data", default=default_data(), help="folder with train.conll")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--precision", default="auto", choices=["auto", "no", "bf16"])
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--worker", action="store_true", help="what the processes are told; not for people")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    print("| batch |", " | ".join(PARTS), "| ms in all |\n|---:|" + "---:|" * (len(PARTS) + 1))
    rows = []
    for batch_size in arguments.batch_sizes:
        command = [sys.executable, __file__, "--worker", "--model", arguments.model, "--data", arguments.data]
        command += ["--precision", arguments.precision, "--batch_sizes", str(batch_size)]
        command += ["--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
        rounds = []
        for _ in range(arguments.rounds):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
        row = {part: statistics.median(one[part] for one in rounds) for part in PARTS}
        rows.append({"batch_size": batch_size, **row, "rounds": rounds})
        in_all = sum(row[part] for part in PARTS[:-1])
        cells = [f"{row[part]:.1f}" for part in PARTS[:-1]] + [f"{row[PARTS[-1]]:.0f}", f"{in_all:.0f}"]
        print(f"| {batch_size} |", " | ".join(cells), "|", flush=True)
    finish({"step_parts": rows, "precision": arguments.precision}, arguments.json)


if __name__ == "__main__":
    main()
