"""Inspect the splits of a training before it starts: their counts and what is odd about them, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from nerloop.alignment.document import describe_lone_sentences
from nerloop.config import DataSettings
from nerloop.data import ReadOptions
from nerloop.data.arrow_cache import Cache, code_fingerprint, fingerprint
from nerloop.data.dataset import Dataset
from nerloop.data.tag_counts import TagCounts
from nerloop.inspection.as_text import counts_line, inspect_command
from nerloop.inspection.finding import Severity
from nerloop.inspection.findings import find_all
from nerloop.inspection.first_sentence import describe_sentence, first_sentences
from nerloop.inspection.parts import Part, is_line_per_token
from nerloop.inspection.statistics import Statistics
from nerloop.tags import scheme_of

MAX_SENTENCES = 50_000
"""Training inspects each sentence if there are at most this many, which takes seconds. `nerloop.inspect` has no limit.

The cache keeps the result for the next training on the same sentences.
"""


@dataclass(frozen=True)
class SplitReport:
    """Lines about the splits, by severity. If there is an error, training is impossible or of no use."""

    info: list[str]
    errors: list[str]
    warnings: list[str]


def inspect_splits(dataset: Dataset, settings: DataSettings) -> SplitReport:
    """Return the report on the splits that training logs: a short form of `python -m nerloop.inspect`.

    It logs nothing and raises nothing, so one process of a launch can do it for all.
    """
    if sum(map(len, dataset.splits.values())) <= MAX_SENTENCES:
        report = _inspect_sentences(dataset, settings)
    else:
        report = inspect_counts(dataset)
    info, warnings = [*report.info, f"tags are {dataset.scheme}"], list(report.warnings)
    if settings.dataset is not None or settings.files():
        for split, examples in dataset.splits.items():
            shown = first_sentences(examples) if split == "train" else examples[:1]
            info += [f"{split} as it was read: {describe_sentence(example)}" for example in shown]
        info.append(f"more on the data: {inspect_command(settings)}")
    if "validation" not in dataset.splits:
        warnings.append("no validation split: no best model and no early stopping, the last weights are kept")
    return SplitReport(info, report.errors, warnings)


def _inspect_sentences(dataset: Dataset, settings: DataSettings) -> SplitReport:
    names = {split: _name_of(dataset, split, settings) for split in dataset.splits}
    keys = {split: getattr(examples, "key", None) for split, examples in dataset.splits.items()}
    key = None
    if all(keys.values()):
        key = fingerprint(code_fingerprint("inspection", "tags.py"), names, keys)
    cache = Cache.temporary() if key is None else Cache.at(settings.cache_dir)
    return SplitReport(**cache.value("look", key, lambda: asdict(_findings(dataset, names))))


def _name_of(dataset: Dataset, split: str, settings: DataSettings) -> tuple[str, bool]:
    """Return the name of a split in findings, and whether each of its tokens has a line of its own."""
    paths = settings.files().get(split, [])
    return paths[0] if paths else f"{dataset.name}/{split}", is_line_per_token(paths, ReadOptions.of(settings))


def _findings(dataset: Dataset, names: Mapping[str, tuple[str, bool]]) -> SplitReport:
    parts = []
    for split, examples in dataset.splits.items():
        path, has_lines = names[split]
        parts.append(Part(split, path, examples, Statistics.of(examples), has_line_per_token=has_lines))
    findings = find_all(parts)
    return SplitReport(
        [counts_line(part) for part in parts],
        [finding.line for finding in findings if finding.severity is Severity.ERROR],
        [finding.line for finding in findings if finding.severity is Severity.WARNING],
    )


def inspect_counts(dataset: Dataset) -> SplitReport:
    """Return the report that follows from the counts stored with the sentences; no sentence is read."""
    info, errors, warnings = [], [], []
    in_training = TagCounts.of(dataset.splits["train"]).tags
    for split, examples in dataset.splits.items():
        statistics = TagCounts.of(examples)
        tags, spans = statistics.tags, statistics.num_spans
        info.append(f"{split:<10} {len(examples):6} sentences {tags.total():8} tokens {spans:7} entities")
        if not spans and split == "train":
            errors.append(
                f"{dataset.name}: found no entity in the training split, expected some; is data.tag_column right?"
            )
        elif not spans:
            warnings.append(f"the {split} split has no entity; its F1 says nothing")
        if unseen := {tag: n for tag, n in tags.items() if tag not in in_training}:
            found = ", ".join(f"{tag} ({n})" for tag, n in sorted(unseen.items()))
            warnings.append(f"the {split} split has tags that the training split does not have: {found}")
        scheme, against = scheme_of(statistics.pairs)
        if against:
            warnings.append(f"{against} tags of the {split} split violate {scheme}")
    return SplitReport(info, errors, warnings)


def about_documents(dataset: Dataset) -> list[str]:
    """Return a line for each split with sentences whose document is unknown, for alignments that use documents."""
    found = []
    for split, examples in dataset.splits.items():
        counts = TagCounts.of(examples)
        found.append(describe_lone_sentences(counts.num_without_document, counts.num_sentences, f"the {split} split"))
    return [line for line in found if line]
