"""Report the trials of a search as text, CSV and TensorBoard's HParams page, and rerun the best with new seeds."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nerloop.config import SECTIONS, Config
from nerloop.config.yaml import dump_yaml
from nerloop.evaluation.tables import plain_table
from nerloop.experiments import statistics
from nerloop.experiments.as_text import points, spread
from nerloop.experiments.comparison import summary
from nerloop.experiments.runner import train_all
from nerloop.experiments.search import best_value, tasks_of
from nerloop.experiments.space import as_text as as_flag

Record = Mapping[str, Any]
"""A trial, as `Study.records` gives it."""


def ranked(records: Sequence[Record], *, greater_is_better: bool) -> list[Record]:
    """Return the trials, best first: complete ones, then pruned ones, then those without a value."""
    sign = -1 if greater_is_better else 1
    order = ("complete", "pruned")
    return sorted(
        records,
        key=lambda r: (order.index(r["state"]) if r["state"] in order else 2, sign * (r["value"] or 0.0), r["number"]),
    )


def rerun(
    best: Sequence[Record], folder: Path, base: Sequence[str], seeds: Sequence[int], slots: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Train trials again with new seeds; return how far the new values fall below those that they were chosen for.

    [{"number", "value", "seeds", "new": {"mean", "sd", "min", "max", "values"}, "luck", "interval"}]: `luck` is the
    value in the study minus the mean of the new seeds, with its 95% interval over seeds (None with one seed).
    """
    tasks = {
        record["number"]: tasks_of(folder / f"trial-{record['number']:04}", base, record["settings"], seeds)
        for record in best
    }
    title = f"the best {len(best)} again, {len(seeds)} new seeds"
    train_all([task for some in tasks.values() for task in some], slots, title=title)
    found = []
    for record in best:
        values = [best_value(task) for task in tasks[record["number"]]]
        # The value in the study is a constant here. The interval is that of the new seeds alone.
        luck = statistics.compare_values(values, [record["value"]] * len(values))
        found.append(
            {
                "number": record["number"],
                "value": record["value"],
                "seeds": list(seeds),
                "new": summary(values),
                "luck": luck.difference,
                "interval": luck.interval and list(luck.interval),
            }
        )
    return found


def as_text(found: Mapping[str, Any]) -> str:
    """Return the tables of a search; `found` is the content of trials.json. Values are percentages."""
    records, metric = found["trials"], found["metric"]
    settings = _settings(records)
    rows = [
        [
            str(record["number"]),
            "" if record["value"] is None else f"{100 * record['value']:.1f}",
            record["state"],
            str(record["evaluations"]),
            *(_cell(record["settings"].get(name)) for name in settings),
        ]
        for record in records
    ]
    parts = [plain_table(rows, ["trial", metric, "state", "evaluations", *settings])]
    failed = [record for record in records if record["error"]]
    if failed:
        parts.append("\n".join(f"trial {record['number']} failed: {record['error']}" for record in failed))
    if found["importances"]:
        shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in found["importances"].items())
        parts.append(f"share of each setting in the variance of {metric} (fANOVA): {shares}")
    if found["rerun"]:
        rows = [
            [
                str(one["number"]),
                f"{100 * one['value']:.1f}",
                spread(one["new"]),
                points(one["luck"]),
                "" if one["interval"] is None else " to ".join(map(points, one["interval"])),
            ]
            for one in found["rerun"]
        ]
        headings = [
            "trial",
            "in the study",
            f"with {len(found['rerun'][0]['seeds'])} new seeds",
            "luck",
            "95% interval",
        ]
        parts.append(plain_table(rows, headings))
    else:
        parts.append(
            "The best of many is partly luck: --rerun 3 trains the best trials with new seeds and shows how much."
        )
    parts.append(f"best: trial {found['best']}, {found['best_yaml']}")
    return "\n\n".join(parts)


def as_csv(records: Sequence[Record]) -> str:
    """Return the trials as CSV, a line each."""
    settings = _settings(records)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "value", "state", "evaluations", *settings])
    for r in records:
        cells = ["" if r["value"] is None else r["value"], r["state"], r["evaluations"]]
        writer.writerow([r["number"], *cells, *(as_flag(r["settings"].get(name, "")) for name in settings)])
    return file.getvalue()


def write_hparams(records: Sequence[Record], metric: str, folder: Path) -> None:
    """Write the files of TensorBoard's HParams page anew: settings and value of each trial that has a value."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        for record in records:
            if record["value"] is not None:
                settings = {n: v if isinstance(v, int | float) else _cell(v) for n, v in record["settings"].items()}
                name = f"trial-{record['number']:04}"
                writer.add_hparams(settings, {f"validation/{metric}": record["value"]}, run_name=name)


def best_yaml(config: Config, header: str) -> str:
    """Return settings as YAML for `nerloop.train`, without those at their defaults."""
    default, changed = Config().to_dict(), {}
    for section, values in config.to_dict().items():
        kept = values  # a plugin with all its options: they mean nothing without its name
        if section in SECTIONS:
            kept = {name: value for name, value in values.items() if value != default[section][name]}
        if kept and kept != default[section]:
            changed[section] = kept
    return f"# {header}\n{dump_yaml(changed)}"


def _settings(records: Sequence[Record]) -> list[str]:
    """Return the names of all settings that any trial has, since a condition leaves some out of a trial."""
    return list(dict.fromkeys(name for record in records for name in record["settings"]))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
