"""The Inspection: parts, scheme and findings of some data in one object, which converts to JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nerloop.inspection.finding import Finding, Severity
from nerloop.inspection.findings import errors_first, find_all
from nerloop.inspection.first_sentence import MAX_LENGTH, MAX_SPANS, MAX_TOKENS, first_sentences
from nerloop.inspection.parts import Part, by_split
from nerloop.inspection.subwords import Limit
from nerloop.inspection.tagging import total_pairs
from nerloop.tags import Scheme, scheme_of, to_spans

PERCENTILES = (50, 90, 95, 99, 100)


@dataclass(frozen=True)
class Inspection:
    """The parts that could be read, the scheme of all of them together, and the findings."""

    parts: Sequence[Part]
    findings: Sequence[Finding]
    scheme: Scheme
    against_scheme: int  # number of tags that violate the scheme
    limit: Limit | None = None  # window size in subwords; None without a tokenizer
    model: str = ""

    @staticmethod
    def of(
        parts: Sequence[Part], of_readers: Sequence[Finding] = (), limit: Limit | None = None, model: str = ""
    ) -> Inspection:
        """Return the inspection of some parts, with the findings of their readers."""
        ordered = [part for of_split in by_split(parts).values() for part in of_split]
        findings = errors_first([*of_readers, *find_all(ordered, limit)])
        return Inspection(ordered, findings, *scheme_of(total_pairs(ordered)), limit, model)

    @property
    def has_errors(self) -> bool:
        """Whether training would be impossible or of no use."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def spans_per_split(self) -> dict[str, Counter[str]]:
        """Return the spans of each type in each split."""
        return {
            split: sum((part.statistics.spans_per_type for part in of_split), Counter())
            for split, of_split in by_split(self.parts).items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as plain values."""
        return {
            "scheme": str(self.scheme),
            "tags_against_scheme": self.against_scheme,
            "tokenizer": self.limit and {"model": self.model, **asdict(self.limit)},
            "splits": [_part_to_json(part) for part in self.parts],
            "findings": [
                {**asdict(finding), "details": [detail._asdict() for detail in finding.details]}
                for finding in self.findings
            ],
        }


def percentiles(lengths: np.ndarray) -> dict[str, int]:
    """Return percentiles of lengths, each a length that occurs: {"50": 21, ..., "100": 105}; {} if there are none."""
    if not len(lengths):
        return {}
    found = np.percentile(lengths, PERCENTILES, method="inverted_cdf").tolist()
    return {str(p): int(n) for p, n in zip(PERCENTILES, found, strict=True)}


def _part_to_json(part: Part) -> dict[str, Any]:
    statistics, subwords = part.statistics, part.subwords
    scheme, against = statistics.scheme
    record: dict[str, Any] = {
        "path": part.path,
        "split": part.split,
        "taken_as_split": part.taken_by,
        "sentences": statistics.num_sentences,
        "tokens": statistics.num_tokens,
        "spans": statistics.total_spans,
        "spans_per_type": dict(sorted(statistics.spans_per_type.items())),
        "tags": dict(sorted(statistics.tags.items())),
        "documents": statistics.num_documents,
        "scheme": str(scheme),
        "tags_against_scheme": against,
        "first_sentences": [
            {
                "location": example.location,
                "tokens": [token[:MAX_LENGTH] for token in example.tokens[:MAX_TOKENS]],
                "spans": [[start, end, type_] for start, end, type_ in to_spans(example.tags)][:MAX_SPANS],
            }
            for example in first_sentences(part.examples)
        ],
        "tokens_per_sentence": percentiles(statistics.lengths),
        "tokens_per_span": {str(n): count for n, count in sorted(statistics.span_lengths.items())},
    }
    if subwords is not None:
        record |= {
            "subwords": subwords.num_subwords,
            "subwords_per_token": round(subwords.num_subwords / max(1, statistics.num_tokens), 4),
            "subwords_per_sentence": percentiles(subwords.lengths),
            "sentences_cut_into_windows": subwords.num_long,
            "windows": subwords.num_windows,
            "tokens_without_subwords": subwords.num_without,
            "tokens_with_unknown_subwords": subwords.num_unknown,
        }
    return record
