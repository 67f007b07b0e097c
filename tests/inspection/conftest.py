"""Parts made of literals."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import read_files
from nerloop.inspection.parts import Part
from nerloop.inspection.statistics import Statistics
from nerloop.types import Example


@pytest.fixture
def make_part():
    """Return a function that makes a part of lines like "EU/B-ORG rejects/O"."""

    def make(split: str, *sentences: str) -> Part:
        pairs = [[token.rpartition("/") for token in sentence.split()] for sentence in sentences]
        examples = [
            Example(tuple(t for t, _, _ in pair), tuple(g for _, _, g in pair), f"{split}.jsonl:{i}")
            for i, pair in enumerate(pairs, start=1)
        ]
        return Part(split, f"{split}.jsonl", examples, Statistics.of(examples))

    return make


@pytest.fixture
def read_part(tmp_path: Path):
    """Return a function that writes a file of columns and reads it as a part."""

    def read(split: str, text: str) -> Part:
        path = tmp_path / f"{split}.conll"
        path.write_text(text, encoding="utf-8")
        examples, _ = read_files([str(path)])
        return Part(split, str(path), examples, Statistics.of(examples), has_line_per_token=True)

    return read
