"""Tell which configuration is better: `python -m nerloop.compare A.yaml B.yaml --seeds 1..10`.

Exit codes: 0 done, 1 a training failed, 2 bad input (one line on stderr), 130 stopped (the same command goes on).
"""

from __future__ import annotations

import argparse
import glob
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop import cli
from nerloop.errors import ConfigError, shorten

if TYPE_CHECKING:
    from nerloop.config import Config
    from nerloop.experiments.comparison import Configuration


def main() -> None:
    """Parse the command line, train the missing runs, compare; leave with the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the runs, as Ctrl-C does
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: compare(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.compare",
        description="Train configurations over several seeds and tell their differences from luck. "
        "Flags after -- are settings for all of them, such as -- --train.epochs 5.",
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="settings files (YAML) of nerloop.train")
    parser.add_argument("--seeds", default="1..5", help="seeds to train with, such as 1..10 or 1,2,5 (default: 1..5)")
    parser.add_argument("--dir", default="runs/compare", help="folder of the runs; several machines may share it")
    parser.add_argument(
        "--runs", nargs="+", metavar="PATTERN", default=[],
        help="compare finished runs instead: a pattern of folders for each configuration, such as 'runs/a-*'",
    )  # fmt: skip
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validate on the training file with K parts")
    parser.add_argument("--jobs", type=int, help="runs at a time (none: one a GPU, or one on all cores)")
    parser.add_argument("--json", metavar="FILE", help="write the comparison as JSON (-: to standard output)")
    parser.add_argument("--html", metavar="FILE", help="write the comparison as a page (-: to standard output)")
    ours, shared = cli.split_settings(argv)
    arguments = parser.parse(ours)
    arguments.shared = shared
    return arguments


def compare(arguments: argparse.Namespace) -> None:
    """Train or find the runs that the arguments name, and print their comparison. Raises NerloopError."""
    from nerloop.experiments import comparison
    from nerloop.experiments.as_html import as_html
    from nerloop.experiments.as_text import as_text
    from nerloop.run.output import writing

    if arguments.json and arguments.json == arguments.html:
        raise ConfigError(f"--json, --html: found {shorten(arguments.json)} for both, expected two outputs")
    if bool(arguments.configs) == bool(arguments.runs):
        raise ConfigError("expected settings files to train, or --runs with patterns of finished runs")
    if arguments.runs and (arguments.folds or arguments.shared):
        raise ConfigError("--runs: finished runs are not trained again; --folds and settings after -- don't go with it")
    found = find_runs(arguments.runs) if arguments.runs else train_runs(arguments)
    compared = comparison.compare(found)
    if "-" not in (arguments.json, arguments.html):
        cli.print_report(as_text(compared))
    if arguments.json:
        with writing(arguments.json) as write:
            write([json.dumps(compared, indent=1, ensure_ascii=False), "\n"])
    if arguments.html:
        with writing(arguments.html) as write:
            write([as_html(compared)])


def find_runs(patterns: Sequence[str]) -> list[Configuration]:
    """Return a configuration for each pattern of folders of finished runs. Raises ConfigError."""
    from nerloop.experiments.comparison import Configuration
    from nerloop.experiments.finished import read_finished

    found = []
    for pattern in patterns:
        folders = sorted(Path(path) for path in glob.glob(pattern) if Path(path).is_dir())
        if not folders:
            raise ConfigError(f"--runs {pattern}: found no folder, expected those of finished runs")
        found.append(Configuration(pattern, read_finished(folders)))
    return found


def train_runs(arguments: argparse.Namespace) -> list[Configuration]:
    """Return the configurations after training each with each seed that is not done yet. Raises NerloopError."""
    from nerloop.config.parse import parse
    from nerloop.experiments.comparison import Configuration
    from nerloop.experiments.finished import is_done, read_finished, refuse_other_run
    from nerloop.experiments.folds import CrossValidated, write_folds
    from nerloop.experiments.runner import Task, length_of, refuse_run_dir, slots_of, train_all
    from nerloop.experiments.seeds import parse_seeds

    seeds = parse_seeds(arguments.seeds)
    if arguments.folds is not None and not 2 <= arguments.folds <= 100:
        raise ConfigError(f"--folds: found {arguments.folds}, expected 2 to 100")
    base = Path(arguments.dir)
    names = _names(arguments.configs)
    flags = {name: ["--config", path, *arguments.shared] for name, path in zip(names, arguments.configs, strict=True)}
    configs = {name: parse(of_one, prog="nerloop.compare") for name, of_one in flags.items()}
    for name, config in configs.items():
        refuse_run_dir(name, config)
    fingerprints = _check_data(configs)
    if not arguments.folds and fingerprints is not None and not fingerprints.keys() - {"train"}:
        raise ConfigError(
            f"{arguments.configs[0]}: found neither data.validation nor data.test, expected one to compare on; name "
            "files, or use --folds 5"
        )
    folds: list[dict[str, str]] = [{}]
    if arguments.folds:
        folds = write_folds(next(iter(configs.values())), arguments.folds, base / "folds")
    tasks: dict[tuple[str, int], list[Task]] = {}
    for seed in seeds:  # all configurations of a seed come first, so that a stopped comparison is balanced
        for name in names:
            folder = base / name / f"seed-{seed}"
            tasks[name, seed] = [
                Task(
                    folder / f"fold-{number}" if of_fold else folder,
                    [*flags[name], "--train.seed", str(seed), *(x for n, v in of_fold.items() for x in (f"--{n}", v))],
                    length_of(configs[name]),
                )
                for number, of_fold in enumerate(folds, start=1)
            ]
    for task in (task for some in tasks.values() for task in some):
        if is_done(task.folder):
            refuse_other_run(
                task.folder, parse(task.flags, prog="nerloop.compare"), None if arguments.folds else fingerprints
            )
    title = f"{len(names)} configurations, {len(seeds)} seeds" + (f", {len(folds)} folds" if arguments.folds else "")
    train_all([task for some in tasks.values() for task in some], slots_of(arguments.jobs), title=title)
    found = []
    for name in names:
        runs = read_finished([task.folder for seed in seeds for task in tasks[name, seed]], folds=len(folds))
        if arguments.folds:
            runs = [
                CrossValidated.of(base / name / f"seed-{seed}", runs[at : at + len(folds)])
                for seed, at in zip(sorted(seeds), range(0, len(runs), len(folds)), strict=True)
            ]
        found.append(Configuration(name, runs))
    return found


def _names(paths: Sequence[str]) -> list[str]:
    """Return a name for each settings file: that of the file. Raises ConfigError for two of one name."""
    names = [Path(path).stem for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"found two configurations named {name}, expected each once; rename a file")
    return names


def _check_data(configs: dict[str, Config]) -> dict[str, str] | None:
    """Return the fingerprint of each split, None for the demo.

    Raises ConfigError unless all configurations have the same data and labels.
    """
    from nerloop.data.read_dataset import read_dataset

    seen: dict[str, tuple[Any, ...]] = {}
    for name, config in configs.items():
        if config.is_demo:
            seen[name] = ("the embedded demo",)
            continue
        dataset = read_dataset(config.data)
        seen[name] = (dataset.fingerprints, {split: len(e) for split, e in dataset.splits.items()}, dataset.labels)
    first = next(iter(seen))
    for name, of_one in seen.items():
        if of_one != seen[first]:
            what = "other labels" if of_one[:2] == seen[first][:2] else "other data"
            raise ConfigError(f"{name}: has {what} than {first}, expected the same data for all configurations")
    return None if configs[first].is_demo else seen[first][0]


if __name__ == "__main__":
    main()
