"""Find suspects in training data by the loss and margin of each token that the training recorded in each epoch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerloop import demo
from nerloop.config import DEMO, DataSettings
from nerloop.config.parse import read_yaml
from nerloop.data.dataset import Dataset
from nerloop.data.options import SETTINGS, ReadOptions
from nerloop.data.read_dataset import read_dataset
from nerloop.data.segmentation import RULES
from nerloop.decoding.viterbi import Viterbi
from nerloop.errors import ConfigError, DataError
from nerloop.evaluation.suspects.suspects import LEAST, Doubts, Suspects
from nerloop.inspection.parts import is_line_per_token
from nerloop.run.folder import CHECKPOINTS, CONFIG, IDENTITY
from nerloop.run.token_record import TokenRecord, read_records
from nerloop.tags import OUTSIDE, to_spans


def suspects_of_run(run: str, files: Sequence[str], tokenizer: str | None) -> Suspects:
    """Return the suspects in a run's training data: the files of config.yaml, or `files` with the same contents.

    Raises NerloopError if the data have changed since the run, can't be found, or if the run recorded no tokens.
    """
    dataset, has_lines = _training_data(Path(run), files, tokenizer)
    examples = dataset.splits["train"]
    lengths = [len(example.tokens) for example in examples]
    records = read_records(Path(run), sum(lengths))
    used, weights = weighted(records, np.array([tag != OUTSIDE for example in examples for tag in example.tags]))
    labels = list(records[0].labels)
    ids = {label: i for i, label in enumerate(labels)}
    decode = Viterbi(labels, dataset.scheme).decode
    epochs = "epoch 1" if len(records) == 1 else f"epochs 2 to {len(records)}"
    found = Suspects(f"the training of {run}, {epochs}", has_line_per_token=has_lines)
    at = 0
    for example, length in zip(examples, lengths, strict=True):
        tokens = slice(at, at + length)
        at += length
        probabilities = mean_probabilities(
            used, weights, tokens, np.array([ids[tag] for tag in example.tags], dtype=int)
        )
        (best,) = decode([np.log(np.maximum(probabilities, LEAST))])
        found.add(example, to_spans([labels[i] for i in best]), Doubts(labels, probabilities))
    return found


def weighted(records: Sequence[TokenRecord], is_entity: np.ndarray) -> tuple[Sequence[TokenRecord], np.ndarray]:
    """Return the records of the epochs to use, and the weight of each.

    The first epoch is left out, because its first steps use a model that has not learned anything yet. An epoch in
    which the model has memorised the labels says nothing about them. So the weight of an epoch is the mean, over the
    tokens of the file's entities, of the probability that the model does not give to the file's label. `is_entity` is
    (tokens,).
    """
    used = records[1:] or records
    losses = [record.loss[is_entity].astype(np.float64) for record in used]
    doubts = [float((1 - np.exp(-loss[~np.isnan(loss)])).mean()) if (~np.isnan(loss)).any() else 0.0 for loss in losses]
    return used, np.maximum(doubts, LEAST)


def mean_probabilities(
    records: Sequence[TokenRecord], weights: Sequence[float] | np.ndarray, tokens: slice, file: np.ndarray
) -> np.ndarray:
    """Return the weighted mean over epochs of the probabilities of some tokens, (tokens, labels).

    A record has the probabilities of the file's label and of its rival. The rest is divided equally among the other
    labels. A token that was not trained on gets equal probabilities.

    Args:
        records: one per epoch
        weights: one per epoch
        tokens: the indices of the tokens
        file: the ids of their labels in the file, (tokens,)
    """
    num_labels = len(records[0].labels)
    total, count = np.zeros((len(file), num_labels)), np.zeros((len(file), 1))
    for record, weight in zip(records, weights, strict=True):
        loss, margin = (np.asarray(v[tokens], dtype=np.float64) for v in (record.loss, record.margin))
        is_seen = ~np.isnan(loss)  # NaN: not trained on in this epoch
        own, rival = np.exp(-loss[is_seen]), np.exp(-loss[is_seen] - margin[is_seen])
        rest = np.maximum(1 - own - rival, 0) / max(1, num_labels - 2)
        one = np.repeat(rest[:, None], num_labels, axis=1)
        seen = np.arange(len(one))
        one[seen, file[is_seen]] = own
        one[seen, record.rival[tokens][is_seen]] = rival
        total[is_seen] += weight * one
        count[is_seen] += weight
    return np.where(count > 0, total / np.where(count > 0, count, 1), 1 / num_labels)


def _training_data(run: Path, files: Sequence[str], tokenizer: str | None) -> tuple[Dataset, bool]:
    """Return only the training split of a run, and whether each of its tokens has a line of its own."""
    if not (run / CONFIG).is_file():
        hint = f", such as {run.parent}" if (run.parent / CONFIG).is_file() else ""
        raise ConfigError(f"--run {run}: found no {CONFIG}, expected the folder of a run{hint}")
    try:
        settings, _ = read_yaml(str(run / CONFIG), "--run")
        named: dict[str, Any] = {k: v for k, v in settings["data"].items() if k in _DATA}
        data = DataSettings(**{**named, "validation": None, "test": None, "read_test": False})
        data = dataclasses.replace(data, tokenizer=_safe_tokenizer(data.tokenizer, tokenizer))
        if files:
            data = dataclasses.replace(data, train=list(files), dataset=None, dataset_config=None)
        options = ReadOptions.of(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{run / CONFIG}: not the settings of a run: {error}") from error
    paths = data.files().get("train", [])
    if paths or data.dataset is not None:
        dataset = read_dataset(data)
    else:
        examples = demo.splits()["train"]
        dataset = Dataset(DEMO, {"train": examples}, {"train": str(len(examples))})
    if dataset.fingerprints.get("train") != _fingerprint(run):
        raise DataError(
            f"{', '.join(paths) or dataset.name}: not the data that {run} was trained on; expected them unchanged "
            "(has a label been corrected since? then train again)"
        )
    return dataset, is_line_per_token(paths, options)


_DATA = {setting.name for setting in SETTINGS} | {"dataset", "dataset_config", "train", "cache_dir"}


def _safe_tokenizer(of_run: str, given: str | None) -> str:
    """Return the rule that cuts texts into tokens. A rule in custom code must be named on the command line."""
    if given is not None or of_run in RULES:
        return given or of_run
    raise ConfigError(f"--tokenizer: not given, but the run used {of_run!r}, which is code; expected the same here")


def _fingerprint(run: Path) -> str:
    try:
        return str(json.loads((run / CHECKPOINTS / IDENTITY).read_text(encoding="utf-8"))["fingerprints"]["train"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run}: not a run: {CHECKPOINTS}/{IDENTITY} can't be read") from error
