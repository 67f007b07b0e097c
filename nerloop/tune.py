"""Search settings: `python -m nerloop.tune base.yaml --space space.yaml --trials 30`. Needs the extra `tune` (Optuna).

Exit codes: 0 done, 1 training failed, 2 bad input (one line on stderr), 130 stopped (the same command goes on).
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop import cli
from nerloop.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from nerloop.config import Config

MOST = 100_000
"""The largest value of a flag that counts something."""


def main() -> None:
    """Parse the command line, search, print the result; leave with the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the runs, as Ctrl-C does
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: tune(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.tune",
        description="Search the settings that are best on the validation split; test data are not read. "
        "Flags after -- are settings for all trials, such as -- --train.epochs 5.",
    )
    parser.add_argument("config", metavar="CONFIG", help="settings file (YAML) of nerloop.train to start from")
    parser.add_argument("--space", required=True, metavar="FILE", help="YAML file: the settings to search")
    parser.add_argument("--trials", type=int, default=30, help="trials of the study, earlier ones included")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="seeds for each trial; its value is their mean"
    )
    parser.add_argument("--name", help="name of the study (default: that of the settings file)")
    parser.add_argument("--dir", help="folder of the study (default: runs/tune/NAME); several machines may share it")
    parser.add_argument(
        "--storage", metavar="URL", help="database of the study (default: a journal file in its folder)"
    )
    parser.add_argument("--sampler_seed", type=int, default=0, help="seed of the sampler that chooses values")
    parser.add_argument("--jobs", type=int, help="trials at a time (none: one a GPU, or one on all cores)")
    parser.add_argument("--rerun", type=int, default=0, metavar="K", help="train the best K trials with new seeds")
    parser.add_argument("--rerun_seeds", default="1..5", metavar="SEEDS", help="seeds of --rerun (default: 1..5)")
    ours, shared = cli.split_settings(argv)
    arguments = parser.parse(ours)
    arguments.shared = shared
    return arguments


def tune(arguments: argparse.Namespace) -> None:
    """Train the trials that the study lacks, write its files and print the tables. Raises NerloopError."""
    from nerloop.experiments.runner import slots_of
    from nerloop.experiments.seeds import parse_seeds
    from nerloop.experiments.space import read_space

    for flag, least in (("trials", 1), ("seeds", 1), ("rerun", 0), ("sampler_seed", 0)):
        if not least <= getattr(arguments, flag) <= MOST:
            raise ConfigError(f"--{flag}: found {getattr(arguments, flag)}, expected {least} to {MOST}")
    base = ["--config", arguments.config, *arguments.shared]
    config = _base_config(arguments.config, base)
    space = read_space(arguments.space, base)
    slots = slots_of(arguments.jobs)
    seeds = [config.train.seed + i for i in range(arguments.seeds)]
    new_seeds = parse_seeds(arguments.rerun_seeds, "--rerun_seeds")
    if used := sorted(set(seeds) & set(new_seeds)):
        raise ConfigError(f"--rerun_seeds: found {used[0]}, with which the trials are trained, expected new seeds")
    fingerprints = _fingerprints(config)
    try:
        from nerloop.experiments.study import Study, open_study
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError('nerloop.tune needs Optuna: pip install "nerloop[tune]"') from error
    from nerloop.experiments.search import configuration, search
    from nerloop.experiments.trials import ranked, rerun

    name = arguments.name or Path(arguments.config).stem
    folder = Path(arguments.dir or Path("runs", "tune", name))
    metric, greater_is_better = _metric(config)
    identity = {
        "space": space.to_dict(),
        "base configuration": _settings_that_count(config),
        "number of seeds": len(seeds),
        "data": fingerprints,
        "metric": metric,
    }
    opened = open_study(name, arguments.storage, folder, greater_is_better=greater_is_better, identity=identity)
    # Machines that share a database but not a folder need different salts; see `Study`.
    salt = "" if arguments.storage is None else f"{platform.node()} {folder.resolve()}"
    study = Study(opened, space, folder, seed=arguments.sampler_seed, salt=salt)
    search(study, arguments.trials, base, seeds, slots, f"{name}: {arguments.trials} trials, {len(seeds)} seeds each")
    records = ranked(study.records(), greater_is_better=greater_is_better)
    complete = [record for record in records if record["state"] == "complete"]
    if not complete:
        raise TrainingError(f"study {name}: no trial was trained to its end; {folder} has their logs")
    again = rerun(complete[: arguments.rerun], folder / "rerun", base, new_seeds, slots) if arguments.rerun else []
    best, found_by = complete[0], f"{metric} {complete[0]['value']:.4f}, mean of {len(seeds)} seeds"
    if again:  # the new seeds decide, since they took no part in the choice of these trials
        first = (max if greater_is_better else min)(again, key=lambda one: one["new"]["mean"])
        best = next(record for record in complete if record["number"] == first["number"])
        found_by = f"{metric} {first['new']['mean']:.4f}, mean of {len(new_seeds)} new seeds"
    found = {
        "name": name, "metric": metric, "greater_is_better": greater_is_better, "seeds": seeds, "trials": records,
        "importances": study.importances(), "rerun": again, "best": best["number"],
        "best_yaml": str(folder / "best.yaml"),
    }  # fmt: skip
    header = f"nerloop.tune: trial {best['number']} of {len(records)} from {arguments.config}: validation {found_by}"
    _write(study, found, configuration(base, best["settings"]), header)


def _write(study: Any, found: dict[str, Any], best: Config, header: str) -> None:
    """Write the files of the study's folder and print the tables."""
    from nerloop.experiments.trials import as_csv, as_text, best_yaml, write_hparams
    from nerloop.run import atomic

    try:
        with study.locked():
            atomic.write_text(study.folder / "best.yaml", best_yaml(best, header))
            atomic.write_json(study.folder / "trials.json", found)
            atomic.write_text(study.folder / "trials.csv", as_csv(found["trials"]))
            write_hparams(found["trials"], found["metric"], study.folder / "hparams")
    except OSError as error:
        raise ConfigError(f"{study.folder}: can't be written: {error.strerror}") from error
    cli.print_report(as_text(found))


def _base_config(path: str, flags: Sequence[str]) -> Config:
    """Return the validated settings that all trials share. Raises ConfigError if they set run.dir."""
    from nerloop.config import validate
    from nerloop.config.parse import parse
    from nerloop.experiments.runner import refuse_run_dir

    config = parse(flags, prog="nerloop.tune")
    validate(config)
    refuse_run_dir(path, config)
    return config


def _fingerprints(config: Config) -> dict[str, str]:
    """Return the fingerprints of the data by split, test left out. Raises ConfigError without a validation split."""
    from nerloop.data.read_dataset import read_dataset

    if config.is_demo:
        return {"train": "demo", "validation": "demo"}
    dataset = read_dataset(dataclasses.replace(config.data, read_test=False))
    if "validation" not in dataset.splits:
        raise ConfigError("data.validation: found none, expected sentences that trials are compared on")
    return dict(dataset.fingerprints)


def _metric(config: Config) -> tuple[str, bool]:
    """Return the metric that trials are compared by, and whether a greater value is better."""
    evaluator = config.evaluator.build("evaluator")
    return config.train.best_metric or str(evaluator.main_metric), bool(evaluator.greater_is_better)


def _settings_that_count(config: Config) -> dict[str, Any]:
    """Return the settings that change a result: those that a resumed run may not change."""
    from nerloop.config import flatten
    from nerloop.run.resume import FREE_TO_CHANGE

    flat = flatten(config.resolved().to_dict())  # the names that studies are stored with
    return {name: value for name, value in flat.items() if not name.startswith((*FREE_TO_CHANGE, "data.read_test"))}


if __name__ == "__main__":
    main()
