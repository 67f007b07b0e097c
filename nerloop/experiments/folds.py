"""Cross-validate: divide a training file into parts, documents whole, and hold out each part once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nerloop.config import Config, DataSettings
from nerloop.data.read_dataset import read_dataset
from nerloop.data.writers import token_lines
from nerloop.errors import ConfigError
from nerloop.evaluators import Evaluator
from nerloop.experiments.finished import FinishedRun
from nerloop.run import atomic
from nerloop.types import Example

SPLIT = "out_of_fold"
"""The name of the split that consists of all held-out parts."""
NEVER = 1_000_000_000
"""A `train.eval_every` that no run reaches. Only the final weights are then scored, since the held-out part must not
choose the best ones."""


def write_folds(config: Config, number: int, folder: Path) -> list[dict[str, str]]:
    """Write `number` pairs of files, each with one part of the training data held out; return the settings for each.

    The parts depend only on the data and their number, of which the name of the files' folder has a digest. So files
    that exist already, as after a restart, hold the same. Raises ConfigError if there are fewer documents (or
    sentences, where documents are not known) than parts.
    """
    if config.is_demo:
        raise ConfigError("--folds: found the embedded demo, expected a configuration with data.train")
    examples = read_dataset(only_training(config.data)).splits["train"]
    parts = assign(examples, number)
    lines = list(token_lines(examples))
    digest = hashlib.sha256("".join(lines).encode() + parts.tobytes()).hexdigest()[:12]
    folder = folder / f"{number}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = []
    for fold in range(number):
        sides = {"train": parts != fold, "validation": parts == fold}
        paths = {side: folder / f"fold-{fold + 1}.{side}.jsonl" for side in sides}
        for side, chosen in sides.items():
            if not paths[side].exists():
                atomic.write_text(paths[side], "".join(itertools.compress(lines, chosen)))
        settings.append(
            {
                "data.train": str(paths["train"]), "data.validation": str(paths["validation"]), "data.test": "null",
                "data.dataset": "null", "data.format": "jsonl", "data.token_column": "tokens",
                "data.tag_column": "tags", "train.eval_every": str(NEVER),
            }
        )  # fmt: skip
    return settings


def only_training(data: DataSettings) -> DataSettings:
    """Return the settings without the files of other splits. Those of a data set stay, as it has no such files."""
    return dataclasses.replace(data, validation=None, test=None) if data.dataset is None else data


def assign(examples: Sequence[Example], number: int) -> np.ndarray:
    """Return the part of each sentence, (sentences,) ints below `number`: documents whole, parts of similar size.

    Raises ConfigError if there are too few documents or sentences, or if a part would be empty.
    """
    ids: dict[str, int] = {}
    # A sentence of no known document is a document of its own; no real one has a name that starts with \0.
    documents = [ids.setdefault(e.document or f"\0{i}", len(ids)) for i, e in enumerate(examples)]
    if len(ids) < number:
        raise ConfigError(f"--folds {number}: found {len(ids)} documents or sentences, expected at least {number}")
    sizes = np.bincount(documents)
    part_of = np.zeros(len(ids), dtype=int)
    filled = np.zeros(number, dtype=int)
    for document in np.random.default_rng(0).permutation(len(ids)):
        part_of[document] = filled.argmin()  # the part with the fewest sentences so far
        filled[part_of[document]] += sizes[document]
    if not filled.all():
        raise ConfigError(f"--folds {number}: some part would be empty, expected fewer parts")
    return part_of[documents]


@dataclass(frozen=True)
class CrossValidated(FinishedRun):
    """The runs of one seed, one for each part, seen as one run that has scored every sentence of the training file."""

    parts: Sequence[FinishedRun] = ()

    @staticmethod
    def of(folder: Path, parts: Sequence[FinishedRun]) -> CrossValidated:
        """Return the combined run after writing the predictions of all parts to predictions.out_of_fold.jsonl."""
        lines = [
            json.dumps({"fold": fold, **record}, ensure_ascii=False) + "\n"
            for fold, part in enumerate(parts, start=1)
            for record in part.predictions("validation")
        ]
        atomic.write_text(folder / f"predictions.{SPLIT}.jsonl", "".join(lines))
        return CrossValidated(folder, parts)

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of the first part; it is the same for all."""
        return self.parts[0].environment

    @property
    def config(self) -> Config:
        """The settings of the first part."""
        return self.parts[0].config

    @property
    def splits(self) -> list[str]:
        """The one split, which consists of all held-out parts."""
        return [SPLIT]

    @property
    def memory_gib(self) -> float | None:
        """The peak memory of any part, in GiB."""
        return max((m for part in self.parts if (m := part.memory_gib) is not None), default=None)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The metrics of all held-out parts together; training times are sums."""
        evaluator: Evaluator = self.config.evaluator.build("evaluator")
        records = list(self.predictions(SPLIT))
        metrics = evaluator.metrics(evaluator.count([r["gold"] for r in records], [r["tags"] for r in records]))
        first = self.parts[0].results
        seconds = sum(float(part.results["timing"]["train_seconds"]) for part in self.parts)
        return {
            SPLIT: {"best": {first["decoding"]: metrics}},
            "decoding": first["decoding"],
            "timing": {"train_seconds": seconds},
        }
