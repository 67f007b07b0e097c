"""How fast is training? nerloop and the plain loop in turn, in samples a second.

    python tests/benchmarks/train.py --json train.json
    python tests/benchmarks/train.py --quick --json train.json      # under three minutes
    python tests/benchmarks/train.py --batch_sizes 32 --precisions no --data ../shared/data/wnut17
    python tests/benchmarks/train.py --batch_sizes 8 --precisions no --busy 2     # beside two busy processes

Both sides have the same model, data, sentences per update and number of steps; the first steps of both are left out.
nerloop is started by `accelerate launch -m nerloop.train`, the plain loop by `python plain_loop.py`. The plain loop is
fp32. For nerloop, `auto` is bf16 where the CPU has it, and `no` is fp32.
"""

import argparse
import tempfile
from pathlib import Path

from harness import (
    benchmark_parser,
    busy_processes,
    compare,
    compared_cells,
    report,
    run_plain,
    samples_per_second,
    threads_of,
    train_steps,
    write_few,
)


def train_ours(arguments: argparse.Namespace, batch_size: int, precision: str) -> dict[str, float]:
    """Return the speed after the first `warmup` steps."""
    steps = {"steps": arguments.steps, "warmup": arguments.warmup}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        timings = train_steps(arguments.model, arguments.data, batch_size, precision, **steps, run=run)
        return {"samples_per_second": samples_per_second(timings), "threads": threads_of(run)}


def train_plain(arguments: argparse.Namespace, batch_size: int) -> dict[str, float]:
    files = ["--train", f"{arguments.data}/train.conll", "--validation", arguments.few]
    steps = ["--batch_size", str(batch_size), "--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
    return run_plain(["--model", arguments.model, *files, *steps])


def main() -> None:
    parser = benchmark_parser(__doc__, batch_sizes=[8, 32], steps=40, warmup=5, rounds=3)
    parser.add_argument("--precisions", nargs="+", default=["auto", "no"], choices=["auto", "no", "bf16"])
    parser.add_argument("--busy", type=int, default=0, help="processes that keep cores busy meanwhile")
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds, `auto` alone")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.precisions = 15, 2, ["auto"]
    if arguments.steps % arguments.warmup:
        parser.error("--steps: expected a multiple of --warmup")
    rows = []
    print("| batch | precision | nerloop, samples/s | plain loop fp32, samples/s | ratio of medians | threads |")
    print("|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, busy_processes(arguments.busy):
        arguments.few = write_few(arguments.data, folder)
        for batch_size in arguments.batch_sizes:
            for precision in arguments.precisions:
                row = compare(
                    lambda b=batch_size, p=precision: train_ours(arguments, b, p),
                    lambda b=batch_size: train_plain(arguments, b),
                    "samples_per_second",
                    arguments.rounds,
                )
                rows.append({"batch_size": batch_size, "precision": precision, **row})
                print(f"| {batch_size} | `{precision}` | {compared_cells(row)}", flush=True)
    report(
        {"train": rows, "busy": arguments.busy, "data": Path(arguments.data).name, "steps": arguments.steps},
        arguments.json,
    )


if __name__ == "__main__":
    main()
