"""Read data sets of the hub, and folders that `save_to_disk` wrote, with the `datasets` library."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nerloop.data import ReadOptions
from nerloop.data.arrow_cache import Cache
from nerloop.data.cached_examples import examples_key, store_examples
from nerloop.data.checks import LOOK_AHEAD, TagStyle, as_example, shorten_message
from nerloop.data.column_names import DOCUMENT_COLUMNS, TAG_COLUMNS, TOKEN_COLUMNS, document_of, pick_column
from nerloop.data.dataset import Dataset
from nerloop.data.read_warnings import ReadWarnings, log
from nerloop.errors import DataError, shorten
from nerloop.types import Example

DICT, STATE = "dataset_dict.json", "state.json"
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def read_hub(
    name: str,
    config: str | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
    *,
    cache: Cache | None = None,
    with_test: bool = True,
    warnings: dict[str, ReadWarnings] | None = None,
) -> Dataset:
    """Return the splits of a hub data set or a local folder: lists in memory or, with a cache, mapped from there.

    The log says which tags are read as others; if `warnings` is given, it gets their counts by split instead.
    Raises DataError for a data set that can't be loaded or used.
    """
    from datasets import DatasetDict

    loaded = _load(name, config)
    if not isinstance(loaded, DatasetDict):
        loaded = DatasetDict(train=loaded)
    dataset = Dataset(name=name)
    for split, names in SPLITS.items():
        if split == "test" and not with_test:
            continue
        if found := next((n for n in names if n in loaded), None):
            rows = loaded[found]
            where = f"{name}/{found}"
            noted, lines = ReadWarnings(), list[str]()
            read = functools.partial(_noting, rows, where, options, noted, lines)
            digest = dataset.fingerprints[split] = rows._fingerprint  # the key of datasets' own cache
            if cache is None:
                dataset.splits[split] = list(read())
            else:
                files = [file["filename"] for file in rows.cache_files]
                # The files' own digest as well: a saved folder states its fingerprint itself.
                key = examples_key(where, asdict(options), digest, str(rows.features), cache.digest(files))
                stored = store_examples(read, cache, key, lines)
                dataset.splits[split], lines = stored, stored.warnings  # also those of the run that filled the cache
            if warnings is not None:
                warnings[split] = noted
            else:
                for line in lines:
                    log.warning("%s", line)
    if not dataset.splits.get("train"):
        raise DataError(f"data.dataset {name}: found splits {', '.join(loaded) or 'none'}, expected 'train' with rows")
    return dataset


def _noting(rows: Any, where: str, options: ReadOptions, noted: ReadWarnings, lines: list[str]) -> Iterator[Example]:
    """Yield the examples of some rows; at their end append what was noted while they were read to `lines`."""
    yield from _examples(rows, where, options, noted)
    lines += noted.lines(where)


def is_path(name: str) -> bool:
    """Whether a name can only be a path: the hub's are "name" or "owner/name"."""
    return name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def _load(name: str, config: str | None) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import OfflineModeIsEnabled

    datasets.disable_progress_bars()
    if not os.path.exists(name) and is_path(name):
        raise DataError(f"data.dataset {name}: no such folder")
    if os.path.isfile(name):
        raise DataError(f"data.dataset {name}: found a file; name it as data.train")
    is_saved = os.path.exists(os.path.join(name, DICT)) or os.path.exists(os.path.join(name, STATE))
    if os.path.isdir(name) and not is_saved:  # a README.md in it could name any file or address as data
        raise DataError(
            f"data.dataset {name}: found neither {DICT} nor {STATE} in this folder, expected one that save_to_disk "
            "wrote; name data files as data.train, data.validation, data.test"
        )
    unreachable = (
        f"data.dataset: can't reach the hub for {name!r}. Offline, give a folder that save_to_disk wrote "
        "(--data.dataset FOLDER) or files (--data.train, --data.validation, --data.test)"
    )
    try:
        if is_saved:
            _check_saved(Path(name))
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, config)
    except DataError:
        raise
    except (ConnectionError, OfflineModeIsEnabled, TimeoutError) as error:
        raise DataError(unreachable) from error
    except DatasetNotFoundError as error:
        raise DataError(
            f"data.dataset: {name!r} is neither a folder here nor a data set of the hub that can be read"
        ) from error
    except LookupError as error:  # datasets raises it for all of these cases
        raise DataError(
            f"data.dataset: {name!r} is no name of a data set, or a folder that is damaged or has an empty split "
            f"({type(error).__name__}: {shorten_message(str(error))})"
        ) from error
    except Exception as error:  # datasets may raise anything for damaged files
        raise DataError(f"data.dataset {name}: {type(error).__name__}: {shorten_message(str(error))}") from error


def _check_saved(folder: Path) -> None:
    """Raise DataError if a folder that save_to_disk wrote names files outside itself: `datasets` would open them."""
    splits = json.loads((folder / DICT).read_text(encoding="utf-8"))["splits"] if (folder / DICT).exists() else []
    _check_names(folder / DICT, splits, "folder")
    for path in (folder / STATE, *(folder / split / STATE for split in splits)):
        if path.exists():
            state = json.loads(path.read_text(encoding="utf-8"))
            _check_names(path, [file["filename"] for file in state["_data_files"]], "file")


def _check_names(path: Path, names: Sequence[Any], what: str) -> None:
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name or name == ".." or ":" in name:
            raise DataError(f"{path}: found {shorten(name, 200)}, expected the name of a {what} in this folder")


def _examples(rows: Any, where: str, options: ReadOptions, warnings: ReadWarnings) -> Iterator[Example]:
    columns = list(rows.features)
    tokens = pick_column(options.token_column, TOKEN_COLUMNS, columns, "data.token_column", where)
    tags = pick_column(options.tag_column, TAG_COLUMNS, columns, "data.tag_column", where)
    names = getattr(getattr(rows.features[tags], "feature", None), "names", None)  # ClassLabel has them
    first = (row[tags] for row in _rows(rows, [tags], where))
    style = TagStyle.of_lists(itertools.islice(first, LOOK_AHEAD), options.labels or names, warnings)
    documents = [name for name in DOCUMENT_COLUMNS if name in columns and name not in (tokens, tags)]
    for i, row in enumerate(_rows(rows, [tokens, tags, *documents], where)):
        document = document_of(row, where) or ""
        at, labels = f"{where}:{i + 1}", options.labels or names
        yield as_example(row[tokens], row[tags], labels, at, (tokens, tags), document, style)


def _rows(rows: Any, columns: list[str], where: str) -> Iterator[dict[str, Any]]:
    """Yield the plain values of some columns, whatever format was saved with them.

    Nothing is decoded: an image's or a sound's value may name a file anywhere, which `datasets` would open.
    """
    for batch in rows.with_format("arrow").select_columns(columns).iter(batch_size=1000):
        try:
            batch.validate(full=True)
            plain = batch.to_pylist()
        except ValueError as error:
            raise DataError(f"{where}: damaged: {shorten_message(str(error))}") from error
        yield from plain
