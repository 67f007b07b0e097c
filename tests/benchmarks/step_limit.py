"""How far is a step from what the hardware allows? Step time over the time of its matrix products and its update alone.

    python tests/benchmarks/step_limit.py --json step_limit.json

limit = 6 x encoder parameters without embeddings x subwords / measured bf16 matmul rate
      + bytes that the update moves / measured copy rate

An update by AdamW reads float32 weights, gradients and both moments and writes weights and moments: 28 bytes a
parameter, and casting the weights for the next step 6 more. A second, lower limit counts only the bytes that nerloop's
update has to move: 30 (gradients are bf16, read for their norm and for the update) for each trained parameter, without
the embeddings of subwords that the training text lacks. Rates are the best that matrices of the model's own widths and
larger squares reach, measured in turn with the steps.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from harness import benchmark_parser, median_and_spread, report, threads_of, train_steps
from safetensors.torch import load_file

WARMUP = 5


def measure_rates() -> tuple[float, float]:
    """Return FLOPs a second of bf16 matrix products, and bytes a second of a copy (read and written ones)."""
    best = 0.0
    for m, k, n in ((1024, 384, 1536), (1024, 1536, 384), (1024, 1024, 1024), (2048, 2048, 2048)):
        a, b = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
        for _ in range(12):
            start = time.perf_counter()
            a @ b
            best = max(best, 2 * m * k * n / (time.perf_counter() - start))
    source, target = torch.randn(2, 1 << 24)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return best, 2 * source.numel() * 4 / min(seconds)


def count_parameters(model: str) -> tuple[int, int]:
    """Return the encoder's parameters without embeddings, and all."""
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(model)
    embedded = sum(p.numel() for name, p in encoder.named_parameters() if "embeddings" in name)
    total = sum(p.numel() for p in encoder.parameters())
    return total - embedded, total


def time_steps(arguments: argparse.Namespace) -> tuple[list[tuple[float, float]], int, int]:
    """Return seconds and subwords of steps (means of five), the number of trained parameters, and the threads."""
    size, steps = arguments.batch_size, {"steps": arguments.steps, "warmup": WARMUP}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        timings = train_steps(arguments.model, arguments.data, size, "bf16", **steps, run=run)
        threads = threads_of(run)
        (file,) = run.glob(f"checkpoints/step-{arguments.steps + WARMUP}/optimizer.safetensors")
        trained = sum(tensor.numel() for name, tensor in load_file(str(file)).items() if name.startswith("exp_avg:"))
    steps_taken = [
        (size / t["samples_per_second"], size * t["subwords_per_second"] / t["samples_per_second"]) for t in timings
    ]
    return steps_taken, trained, threads


def main() -> None:
    parser = benchmark_parser(__doc__, batch_size=32, steps=40, rounds=3)
    arguments = parser.parse_args()
    in_layers, in_all = count_parameters(arguments.model)
    rows = []
    for _ in range(arguments.rounds):
        flops, copied = measure_rates()
        steps, trained, threads = time_steps(arguments)
        seconds = statistics.median(s for s, _ in steps)
        subwords = statistics.mean(n for _, n in steps)
        products, update, least = 6 * in_layers * subwords / flops, 34 * in_all / copied, 30 * trained / copied
        rows.append({"seconds": seconds, "subwords": subwords, "gflops": flops / 1e9, "gb_per_second": copied / 1e9,
                     "products": products, "update": update, "ratio": seconds / (products + update),
                     "trained": trained, "least": least, "over_least": seconds / (products + least),
                     "threads": threads})  # fmt: skip
        print({k: round(v, 4) for k, v in rows[-1].items()}, file=sys.stderr, flush=True)
    print("| what | median (range) |\n|---|---:|")
    for name, text, factor in (
        ("seconds", "step, ms", 1e3), ("products", "its matrix products alone, ms", 1e3),
        ("update", "its update alone, ms", 1e3), ("gflops", "bf16 matmul, GFLOP/s", 1.0),
        ("gb_per_second", "copy, GB/s", 1.0), ("ratio", "step over limit", 1.0),
        ("least", "the update of what is trained alone, ms", 1e3), ("over_least", "step over that limit", 1.0),
    ):  # fmt: skip
        print(f"| {text} | {median_and_spread([factor * row[name] for row in rows])} |")
    report({"step_limit": rows, "parameters": {"layers": in_layers, "all": in_all}}, arguments.json)


if __name__ == "__main__":
    main()
