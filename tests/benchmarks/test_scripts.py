"""The table of scripts in data/README.md is what the rules do."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_scripts_is_what_the_rules_do():
    rows = list(runpy.run_path(str(ROOT / "tests/benchmarks/scripts.py"))["rows"]())
    assert len(rows) > 17
    assert "\n".join(rows) in (ROOT / "nerloop/data/README.md").read_text(encoding="utf-8")
