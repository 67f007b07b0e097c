"""Read the data of a training: every split that the settings name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from nerloop.config import DataSettings
from nerloop.data import ReadOptions, read_files
from nerloop.data.arrow_cache import Cache
from nerloop.data.dataset import Dataset
from nerloop.data.formats import format_named
from nerloop.data.hub import read_hub
from nerloop.types import Example

log = logging.getLogger(__name__)


def read_dataset(settings: DataSettings) -> Dataset:
    """Return the splits that the settings name, mapped from the cache; splits without a sentence are left out.

    Without `read_test` the test split is not opened.

    Raises DataError for files or a data set that can't be read, and for a setting that can't be used.
    """
    options, cache = ReadOptions.of(settings), Cache.at(settings.cache_dir)
    if options.format != "auto":
        format_named(options.format)  # a wrong name is an error, also where a data set needs no format
    if settings.dataset is not None:
        dataset = read_hub(
            settings.dataset, settings.dataset_config, options, cache=cache, with_test=settings.read_test
        )
    else:
        files = settings.files()
        dataset = Dataset(files["train"][0])
        if not settings.read_test:
            files.pop("test", None)
        for split, paths in files.items():
            dataset.splits[split], dataset.fingerprints[split] = read_files(paths, options, cache=cache)
    for split in [s for s, examples in dataset.splits.items() if not examples and s != "train"]:
        log.warning("warning: the %s split has no sentence and is left out", split)
        del dataset.splits[split]
    return dataset


def read_unlabelled(settings: DataSettings) -> tuple[Sequence[Example], str]:
    """Return the sentences of `data.unlabelled` and the files' digest; no sentences and "" if there are none.

    Each file may have another format than the annotated ones, so the format is found out. Text is cut as theirs is.
    """
    named = settings.unlabelled
    if not named:
        return (), ""
    options = replace(ReadOptions.of(settings), format="auto", with_tags=False, for_prediction=True)
    return read_files([named] if isinstance(named, str) else list(named), options, cache=Cache.at(settings.cache_dir))
