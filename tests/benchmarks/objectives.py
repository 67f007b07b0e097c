"""What does an objective cost? Steps with cross entropy and with another objective in turn, on the same batches.

    python tests/benchmarks/objectives.py --objective crf --batch_sizes 16 32

CPU seconds of one thread, so that other processes on the machine matter little: medians, and the median ratio of the
two steps on the same batch.
"""

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from harness import benchmark_parser, launch_worker, report, training_of


def work(arguments: argparse.Namespace) -> None:
    """Print the CPU seconds of the steps with each objective."""
    from nerloop.config import Config, DataSettings, ModelSettings, Plugin, RunSettings, TrainSettings

    seconds: dict[str, list[float]] = {name: [] for name in ("cross_entropy", arguments.objective)}
    with ExitStack() as held:
        trainings = {}
        for name in seconds:
            config = Config(
                model=ModelSettings(name_or_path=arguments.model),
                data=DataSettings(train=str(Path(arguments.data, "train.conll"))),
                alignment=Plugin(arguments.alignment),
                objective=Plugin(name),
                train=TrainSettings(
                    mixed_precision=arguments.precision, batch_size=arguments.batch_sizes[0], threads=1
                ),
                run=RunSettings(log_level="error"),
            )
            trainings[name] = held.enter_context(training_of(config))
            trainings[name].model.train()
        torch.set_num_threads(1)
        for number in range(arguments.warmup + arguments.steps):
            for name in sorted(seconds, reverse=bool(number % 2)):  # each is the first as often as the other
                seconds[name].append(step(trainings[name], number))
    plain, other = (seconds[name][arguments.warmup :] for name in ("cross_entropy", arguments.objective))
    ratio = statistics.median(b / a for a, b in zip(plain, other, strict=True))
    print(json.dumps({"cross_entropy": statistics.median(plain), "other": statistics.median(other), "ratio": ratio}))


def step(training: Any, number: int) -> float:
    """Take a step of one process; return its CPU seconds."""
    start = time.process_time()
    batch = training.plan[number]
    torch.manual_seed(training.dropout_seed(number))
    micro_batches = batch.micro_batches[0]
    for i, indices in enumerate(micro_batches):
        scale = 1 / training.weight_of(batch)
        training.step.backward(training.collate(indices), scale, is_last=i + 1 == len(micro_batches))
    training.step.update(number, training.learning_rate(number))
    return time.process_time() - start


def main() -> None:
    parser = benchmark_parser(__doc__, batch_sizes=[16, 32], steps=30, warmup=5)
    parser.add_argument("--objective", default="crf")
    parser.add_argument("--alignment", default="all")
    parser.add_argument("--precision", default="no", choices=["auto", "no", "bf16"])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    print(f"| batch | cross_entropy, CPU s | {arguments.objective}, CPU s | ratio |\n|---:|---:|---:|---:|")
    rows = []
    for batch_size in arguments.batch_sizes:
        flags = ["--worker", "--model", arguments.model, "--data", arguments.data, "--precision", arguments.precision]
        flags += ["--objective", arguments.objective, "--alignment", arguments.alignment]
        flags += ["--batch_sizes", str(batch_size), "--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
        found = launch_worker(__file__, *flags)
        rows.append({"batch_size": batch_size, **found})
        print(f"| {batch_size} |", " | ".join(f"{value:.3f}" for value in found.values()), "|", flush=True)
    report({"objectives": rows, "precision": arguments.precision, "alignment": arguments.alignment}, arguments.json)


if __name__ == "__main__":
    main()
