"""Ask teachers (saved models) for the probabilities of the tags of the training sentences, which a new model learns."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator

from nerloop.alignment import Alignment
from nerloop.batching.features import Features, in_chunks
from nerloop.batching.targets import Probabilities, TargetFeatures, store_probabilities
from nerloop.config import Config, ModelSettings
from nerloop.data.arrow_cache import Cache, Table, code_fingerprint, fingerprint
from nerloop.data.dataset import Dataset
from nerloop.distributed import collectives
from nerloop.distributed.precision import precision_here
from nerloop.errors import ConfigError, ModelError, PluginError
from nerloop.evaluation.predictor import Split, softmax
from nerloop.evaluation.tagger import load_predictor
from nerloop.model.load import saved_labels
from nerloop.model.saved import SavedModel
from nerloop.objectives import Objective
from nerloop.run.environment import VERSIONS, version_of
from nerloop.types import Example, Feature

log = logging.getLogger(__name__)

SCORED_BY = (
    "alignment",
    "batching",
    "collators",
    "distributed/precision.py",
    "evaluation/backends.py",
    "evaluation/predictor.py",
    "evaluation/tagger.py",
    "kernels",
    "model",
    "training/teachers.py",
)
"""The code that affects a teacher's probabilities. Its fingerprint is a part of their key in the cache."""


@dataclass(frozen=True)
class Distillation:
    """The teachers of a training, and the unlabelled sentences that they were asked about."""

    num_teachers: int
    num_unlabelled: int
    seconds: float  # that the teachers took, now or when their answers were cached
    fingerprints: Mapping[str, str]  # of the teachers, and of the unlabelled sentences

    def to_dict(self) -> dict[str, Any]:
        """Return the values for results.json."""
        return {"teachers": self.num_teachers, "unlabelled_sentences": self.num_unlabelled}


def check_targets(config: Config, objective: Objective, alignment: Alignment) -> None:
    """Raise an error if unlabelled text has no teacher, or the alignment can't spread a teacher's probabilities."""
    has_teachers = bool(getattr(objective, "teachers", ()))
    if config.data.unlabelled and not has_teachers:
        raise ConfigError(
            f"data.unlabelled: set, but objective {config.objective.name} learns from labels alone; expected one with "
            "a teacher, such as distill"
        )
    if has_teachers and not hasattr(alignment, "spread"):
        raise PluginError(
            f"alignment {config.alignment.name}: has no method spread, which objective {config.objective.name} needs; "
            "expected one such as all"
        )


def add_targets(
    features: Features,
    objective: Objective,
    alignment: Any,
    dataset: Dataset,
    accelerator: Accelerator,
    cache: Cache,
) -> tuple[Sequence[Feature], Distillation | None]:
    """Return the training features with the probabilities of the objective's teachers, and which teachers these are.

    Without teachers the features are returned as they are, with None. On each machine one process asks the teachers;
    the others map its cache. Raises NerloopError if a teacher can't teach these labels.
    """
    folders: Sequence[str] = getattr(objective, "teachers", ())
    if not folders:
        return features, None
    probabilities, teachers = collectives.local_main_first(
        accelerator, lambda: ask_teachers(folders, dataset.labels, dataset.trained_on, accelerator, cache)
    )
    num_labelled = len(dataset.splits["train"])
    distillation = Distillation(
        num_teachers=len(folders),
        num_unlabelled=len(dataset.unlabelled),
        seconds=probabilities.seconds,
        fingerprints={"teacher": teachers, "unlabelled": dataset.unlabelled_fingerprint},
    )
    return TargetFeatures(features, alignment, probabilities, num_labelled), distillation


@dataclass(frozen=True)
class Teacher:
    """A saved model to learn from."""

    folder: str
    saved: SavedModel
    order: list[int]  # for each label of the training, its index among the teacher's labels
    digest: str  # of its files

    @staticmethod
    def of(folder: str, labels: Sequence[str], cache: Cache) -> Teacher:
        """Return the teacher in a folder; its labels may be in another order. Raises NerloopError if it can't teach."""
        try:
            saved = SavedModel.read(folder)
            own = saved_labels(ModelSettings(name_or_path=folder))
        except (ModelError, PluginError) as error:
            reason = str(error).removeprefix(f"model {folder}: ").removeprefix(f"{folder}: ")
            raise type(error)(f"objective.teacher {folder}: {reason}") from error
        if set(own) != set(labels):
            missing, more = sorted({*labels} - {*own}), sorted({*own} - {*labels})
            differences = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(more)}"] * bool(more)
            raise ConfigError(
                f"objective.teacher {folder}: found labels {' and '.join(differences)}, expected those of the data: "
                f"{', '.join(labels)}"
            )
        return Teacher(folder, saved, [own.index(label) for label in labels], cache.digest([folder]))

    def probabilities(self, examples: Sequence[Example], device: Any) -> Iterator[np.ndarray]:
        """Yield the probabilities of the tags of each sentence's tokens, (tokens, labels), in the training's order.

        They are the model's own, without what decoding adds, such as learned transitions. A sentence of any length has
        all its tokens. A token without subwords gets zeros.
        """
        precision = precision_here(self.saved.precision, device)
        predictor, model = load_predictor(
            self.folder, self.saved, collectives.SingleProcess(device, precision), precision
        )
        for chunk in in_chunks(examples, predictor.alignment):
            split = Split.untagged(chunk, predictor.alignment, predictor.collator)
            found: dict[int, np.ndarray] = {}
            for scores in predictor.scores(model, split):
                found.update(scores)
            for i in range(len(chunk)):
                # A token that no subword decides has zeros from `join`, which can't be log-probabilities.
                is_decided = (found[i] != 0).any(axis=1)
                yield softmax(found[i].astype(np.float64))[:, self.order] * np.reshape(is_decided, (-1, 1))


def ask_teachers(
    folders: Sequence[str], labels: Sequence[str], examples: Sequence[Example], accelerator: Accelerator, cache: Cache
) -> tuple[Probabilities, str]:
    """Return the mean probabilities of teachers for sentences, from the cache if they are there, and a fingerprint.

    The fingerprint is that of the teachers' files. All folders are checked before the first teacher starts. Raises
    NerloopError.
    """
    teachers = [Teacher.of(folder, labels, cache) for folder in folders]
    tables = []
    for number, teacher in enumerate(teachers, start=1):
        title = f"teacher {number} of {len(teachers)} ({teacher.folder})"
        tables.append(_table_of(teacher, title, labels, examples, accelerator, cache))
    return Probabilities(tables), fingerprint([teacher.digest for teacher in teachers])


def _table_of(
    teacher: Teacher,
    title: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    accelerator: Accelerator,
    cache: Cache,
) -> Table:
    def sentences() -> Iterator[np.ndarray]:
        log.info("%s scores %d sentences", title, len(examples))
        return teacher.probabilities(examples, accelerator.device)

    data, key = getattr(examples, "key", None), None
    if data is not None:
        versions = {name: version_of(name) for name in VERSIONS}
        key = fingerprint(
            data, teacher.digest, list(labels), code_fingerprint(*SCORED_BY), versions, str(accelerator.device.type)
        )
    return store_probabilities(sentences, cache, key)
