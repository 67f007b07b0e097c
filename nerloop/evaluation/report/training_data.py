"""Find the training data of a saved model: the run that saved it names its files in config.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerloop import demo
from nerloop.config.parse import read_yaml
from nerloop.data import ReadOptions, read_files
from nerloop.data.options import SETTINGS
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.run.folder import CONFIG, ENVIRONMENT


def names_of_run(model: str, tokenizer: str) -> tuple[TrainingNames | None, str]:
    """Return the names in the training data of a model's run, and a line that says their source or why there are none.

    The run's folder is the parent of the model's folder. Its files are read with `tokenizer`, not with the tokenizer
    that config.yaml names, because a folder must not choose which code runs.
    """
    run = Path(model).resolve().parent
    try:
        data, files = _data_of(run)
        if not files and data.get("dataset") is None:
            names = TrainingNames.of(demo.splits()["train"])
            return names, "known names are those of the embedded demo's training data"
        if not files:
            return None, _unknown(f"{run / CONFIG} names no files, but a data set")
        given = {setting.name: data[setting.name] for setting in SETTINGS if setting.name in data}
        examples, digest = read_files(files, ReadOptions.from_dict({**given, "tokenizer": tokenizer}))
    except (ConfigError, DataError, KeyError, TypeError, ValueError) as error:
        return None, _unknown(f"the training data can't be found: {error}")
    changed = "" if digest == _fingerprint(run) else ", which has changed since the training"
    return TrainingNames.of(examples), f"known names are those of the training data in {', '.join(files)}{changed}"


def trained_on(model: str, files: Sequence[str]) -> list[str]:
    """Return those of some files that a model was trained on, by their paths in the config.yaml of its run."""
    try:
        _, trained = _data_of(Path(model).resolve().parent)
    except (ConfigError, KeyError, TypeError, ValueError):
        return []
    paths = {os.path.abspath(file) for file in trained}
    return [file for file in files if os.path.abspath(file) in paths]


def _data_of(run: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the data settings of a run and its training files.

    Raises ConfigError, KeyError, TypeError or ValueError if config.yaml is missing or not that of a run.
    """
    settings, _ = read_yaml(str(run / CONFIG))
    data = dict(settings["data"])
    return data, [data["train"]] if isinstance(data["train"], str) else list(data["train"] or [])


def _unknown(reason: str) -> str:
    return f"without names of the training data ({reason}); --train FILE names them"


def _fingerprint(run: Path) -> Any:
    """Return the fingerprint of the data that a run was trained on; None if it is not known."""
    try:
        return json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))["fingerprints"]["train"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
