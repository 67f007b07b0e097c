"""Data sets of the hub, and folders that `save_to_disk` wrote, through the `datasets` library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerloop.data import Dataset
from nerloop.data.checks import as_example, shorten_message
from nerloop.data.jsonl import TAG_COLUMNS, TOKEN_COLUMNS, pick_column
from nerloop.errors import DataError
from nerloop.types import Example

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def read_hub(
    name: str,
    config: str | None = None,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Return the splits of a hub data set or a local folder. Raises DataError where it can't be had or used."""
    from datasets import DatasetDict

    loaded = _load(name, config)
    if not isinstance(loaded, DatasetDict):
        loaded = DatasetDict(train=loaded)
    dataset = Dataset(name=name)
    for split, names in SPLITS.items():
        if found := next((n for n in names if n in loaded), None):
            rows = loaded[found]
            dataset.splits[split] = _examples(rows, f"{name}/{found}", token_column, tag_column, labels)
            dataset.fingerprints[split] = rows._fingerprint  # what datasets' own cache goes by
    if not dataset.splits.get("train"):
        raise DataError(f"data.dataset {name}: found splits {', '.join(loaded) or 'none'}, expected 'train' with rows")
    return dataset


def is_path(name: str) -> bool:
    """Whether a name can only be a path: the hub's are "name" or "owner/name"."""
    return name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def _load(name: str, config: str | None) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    datasets.disable_progress_bars()
    if not Path(name).exists() and is_path(name):
        raise DataError(f"data.dataset {name}: no such folder")
    if Path(name).is_file():
        raise DataError(f"data.dataset {name}: found a file; name it as data.train")
    unreachable = (
        f"data.dataset: can't reach the hub for {name!r}. Offline, give a folder that save_to_disk wrote "
        "(--data.dataset FOLDER) or files (--data.train, --data.validation, --data.test)"
    )
    try:
        if Path(name, "dataset_dict.json").exists() or Path(name, "state.json").exists():
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, config)
    except (ConnectionError, OfflineModeIsEnabled, TimeoutError) as error:
        raise DataError(unreachable) from error
    except DatasetNotFoundError as error:
        raise DataError(
            f"data.dataset: {name!r} is neither a folder here nor a data set of the hub that can be read"
        ) from error
    except LookupError as error:  # datasets' way to say so
        raise DataError(
            f"data.dataset: {name!r} is no name of a data set, or a folder that is damaged or has an empty split "
            f"({type(error).__name__}: {shorten_message(str(error))})"
        ) from error
    except (HfHubHTTPError, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"data.dataset {name}: {type(error).__name__}: {shorten_message(str(error))}") from error


def _examples(
    rows: Any, where: str, token_column: str | None, tag_column: str | None, labels: Sequence[str] | None
) -> list[Example]:
    columns = list(rows.features)
    tokens = pick_column(token_column, TOKEN_COLUMNS, columns, "data.token_column", where)
    tags = pick_column(tag_column, TAG_COLUMNS, columns, "data.tag_column", where)
    names = getattr(getattr(rows.features[tags], "feature", None), "names", None)  # ClassLabel has them
    return [
        as_example(row[tokens], row[tags], labels or names, f"{where}:{i + 1}", (tokens, tags))
        for i, row in enumerate(rows.select_columns([tokens, tags]))
    ]
