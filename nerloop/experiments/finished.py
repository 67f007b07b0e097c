"""Read the files of a finished run: its settings, metrics, cost, and the span counts of each sentence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nerloop.config import Config
from nerloop.config.parse import parse
from nerloop.errors import ConfigError, shorten
from nerloop.run.folder import CONFIG, ENVIRONMENT, METRICS, RESULTS, STATUS
from nerloop.tags import to_spans

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run, whose files are read on access."""

    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        return _json(self.folder / RESULTS)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json."""
        return _json(self.folder / ENVIRONMENT)

    @cached_property
    def config(self) -> Config:
        """The settings of the run, from its config.yaml."""
        return parse(["--config", str(self.folder / CONFIG)], prog="nerloop.compare")

    @property
    def seed(self) -> int:
        """The seed of the training, `train.seed`."""
        return self.config.train.seed

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by dotted name, without those that differ between seeds: seed, folder, resume."""
        return {
            name: value
            for name, value in self.config.to_flat().items()
            if name not in ("train.seed", "run.dir", "run.resume")
        }

    @property
    def metric(self) -> str:
        """The name of the metric that decides which weights are best."""
        return self.config.train.best_metric or str(self.config.evaluator.build("evaluator").main_metric)

    @property
    def greater_is_better(self) -> bool:
        """Whether larger values of `metric` are better."""
        return bool(self.config.evaluator.build("evaluator").greater_is_better)

    @property
    def splits(self) -> list[str]:
        """The splits that the best weights were scored on."""
        return [split for split in SPLITS if "best" in self.results.get(split, {})]

    def scores(self, split: str, decoding: str | None = None) -> dict[str, Any]:
        """Return the metrics of the best weights on a split, with the run's own decoding or another one."""
        scored: dict[str, Any] = self.results[split]["best"][decoding or self.results["decoding"]]
        return scored

    @property
    def pipeline(self) -> dict[str, float]:
        """The F1 of transformers' `pipeline` on validation by aggregation strategy; empty if it was not measured.

        `run.score_pipeline` may limit it to the first sentences of the split, so each key says how many were scored.
        """
        scored = dict(self.results.get("validation", {}).get("pipeline", {}))
        number = scored.pop("sentences", 0)
        return {f"pipeline {strategy}, {number:,} sentences": f1 for strategy, f1 in scored.items()}

    @property
    def memory_gib(self) -> float | None:
        """The peak memory that was logged, in GiB; None if none was."""
        lines = (json.loads(line) for line in (self.folder / METRICS).read_text(encoding="utf-8").splitlines())
        found = [line["timing"]["memory_gib"] for line in lines if "memory_gib" in line.get("timing", {})]
        return max(found, default=None)

    def predictions(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the predictions of the best weights, one record for each sentence."""
        path = self.folder / f"predictions.{split}.jsonl"
        try:
            with path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: can't be read, expected the predictions of a finished run") from error

    def span_counts(self, split: str) -> np.ndarray:
        """Return correct, predicted and gold spans of each sentence of a split: (3, sentences)."""
        return np.array([counts_of(record) for record in self.predictions(split)], dtype=float).reshape(-1, 3).T


def counts_of(record: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the numbers of correct, predicted and gold spans in a record of a predictions file."""
    if "gold_character_spans" in record:  # from a text, where gold spans may begin or end within a token
        gold, predicted = (
            {(span["start"], span["end"], span["type"]) for span in record[name]}
            for name in ("gold_character_spans", "character_spans")
        )
    else:
        gold, predicted = set(to_spans(record["gold"])), set(to_spans(record["tags"]))
    return len(gold & predicted), len(predicted), len(gold)


def is_done(folder: Path) -> bool:
    """Return whether a folder holds a finished run."""
    try:
        return _json(folder / STATUS).get("state") == "done" and (folder / RESULTS).exists()
    except ConfigError:
        return False


def refuse_other_run(folder: Path, config: Config, fingerprints: Mapping[str, str] | None) -> None:
    """Raise ConfigError if a finished run had other settings, or other data, than it would have today.

    Without fingerprints, as for a part of `--folds`, the names of the files tell the data apart: they hold a digest.
    """
    run = FinishedRun(folder)
    before, now = (c.resolved().to_flat() for c in (run.config, config))
    for of_one in (before, now):
        for split in run.environment["fingerprints"]:
            path = of_one.pop(f"data.{split}", None)
            if fingerprints is None and isinstance(path, str):
                of_one[f"data.{split}"] = "/".join(Path(path).parts[-2:])
    free = ("run.", "data.cache_dir", "train.threads")  # where files are, what is printed, and how many threads compute
    differing = [
        f"{name} {shorten(before.get(name))}, but {shorten(now.get(name))} is asked for"
        for name in sorted(now.keys() | before.keys())
        if before.get(name) != now.get(name) and not name.startswith(free)
    ]
    if not differing and fingerprints is not None and run.environment["fingerprints"] != fingerprints:
        differing = ["other data than those of today"]
    if differing:
        raise ConfigError(
            f"{folder}: is done with {'; '.join(differing)}; choose another --dir, or delete the finished runs of this "
            "configuration"
        )


def read_finished(folders: Sequence[Path], *, folds: int = 1) -> list[FinishedRun]:
    """Return the runs of one configuration, sorted by seed; each seed must occur `folds` times.

    Raises ConfigError for a run that isn't finished, for a seed that occurs more often, and for differing settings.
    """
    runs = []
    for folder in folders:
        if not is_done(folder):
            raise ConfigError(
                f"{folder}: found no finished run (status.json says so), expected one; train it to its end"
            )
        runs.append(FinishedRun(folder))
    runs.sort(key=lambda run: run.seed)
    # The folds of a seed have different training data, so only the first fold of each seed is compared.
    for one, other in itertools.pairwise(runs[::folds]):
        if one.settings != other.settings:
            names = sorted(one.settings.keys() | other.settings.keys())
            names = [name for name in names if one.settings.get(name) != other.settings.get(name)]
            raise ConfigError(
                f"{other.folder}: differs from {one.folder} in {', '.join(names)}, expected runs of one configuration"
            )
        if one.seed == other.seed:
            raise ConfigError(
                f"{other.folder}: found seed {one.seed} again, which {one.folder} has, expected each once"
            )
    return runs


def _json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read, expected a file that a finished run leaves") from error
    return values
