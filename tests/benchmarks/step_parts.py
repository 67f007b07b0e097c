"""Where does the time of a step go? Its parts in milliseconds, medians of the steps after the warm-up; CPU only.

    python tests/benchmarks/step_parts.py --batch_sizes 8 32 --json step_parts.json

The parts are those of the loop in nerloop/train.py, in its order, each timed to its end. The page faults of a step are
counted too.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from harness import benchmark_parser, launch_worker, report, training_of

PARTS = ("batch", "forward", "backward", "collect gradients", "norm", "update", "cast weights", "page faults")


def work(arguments: argparse.Namespace) -> None:
    """Print the parts of the steps of one training."""
    from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings

    config = Config(
        model=ModelSettings(name_or_path=arguments.model),
        data=DataSettings(train=str(Path(arguments.data, "train.conll"))),
        train=TrainSettings(mixed_precision=arguments.precision, batch_size=arguments.batch_sizes[0]),
        run=RunSettings(log_level="warning"),
    )
    with training_of(config) as training:
        training.model.train()
        steps = [parts_of_step(training, number) for number in range(arguments.warmup + arguments.steps)]
        medians = {part: statistics.median(step[part] for step in steps[arguments.warmup :]) for part in PARTS}
        print(json.dumps({**medians, "threads": torch.get_num_threads()}))


def parts_of_step(training: Any, number: int) -> dict[str, float]:
    """Take a step of one process; return the milliseconds of its parts, and its page faults."""
    from nerloop.model.forward import logits_of
    from nerloop.optim.optimizer import clip, uses_compute_weights

    accelerator, weights, optimizer = training.accelerator, training.weights, training.optimizer
    is_one_pass = uses_compute_weights(optimizer)
    parts = dict.fromkeys(PARTS, 0.0)
    batch, clock = training.plan[number], time.perf_counter()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def end_of(part: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        parts[part] += 1e3 * (now - clock)
        clock = now

    torch.manual_seed(training.dropout_seed(number))
    for indices in batch.micro_batches[0]:
        micro_batch = training.collate(indices).to(accelerator.device, weights.model.dtype)
        end_of("batch")
        loss = training.objective.loss(logits_of(training.model, micro_batch), micro_batch)
        end_of("forward")
        accelerator.backward(loss / training.weight_of(batch))
        end_of("backward")
        if not is_one_pass:
            weights.accumulate_from_compute()
        end_of("collect gradients")
    clip(accelerator, optimizer, list(weights.master.parameters()), training.config.train.max_grad_norm)
    end_of("norm")
    for group in optimizer.param_groups:
        group["lr"] = training.learning_rate(number)
    optimizer.step()
    optimizer.zero_grad()
    end_of("update")
    if not is_one_pass:
        weights.sync_to_compute()
    end_of("cast weights")
    parts["page faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return parts


def main() -> None:
    parser = benchmark_parser(__doc__, batch_sizes=[8, 32], steps=35, warmup=10, rounds=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "no", "bf16"])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    print("| batch |", " | ".join(PARTS), "| ms in all |\n|---:|" + "---:|" * (len(PARTS) + 1))
    rows = []
    for batch_size in arguments.batch_sizes:
        flags = ["--worker", "--model", arguments.model, "--data", arguments.data, "--precision", arguments.precision]
        flags += ["--batch_sizes", str(batch_size), "--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
        rounds = [launch_worker(__file__, *flags) for _ in range(arguments.rounds)]
        row = {part: statistics.median(one[part] for one in rounds) for part in PARTS}
        rows.append({"batch_size": batch_size, **row, "rounds": rounds})
        in_all = sum(row[part] for part in PARTS[:-1])
        cells = [f"{row[part]:.1f}" for part in PARTS[:-1]] + [f"{row[PARTS[-1]]:.0f}", f"{in_all:.0f}"]
        print(f"| {batch_size} |", " | ".join(cells), "|", flush=True)
    report({"step_parts": rows, "precision": arguments.precision}, arguments.json)


if __name__ == "__main__":
    main()
