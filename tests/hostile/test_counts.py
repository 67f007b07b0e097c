"""How many inputs the property tests generate, read from the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

LEAST = 10_000


def tables() -> dict[str, dict[str, int]]:
    """Return the table of counts of each file here that has one."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        table = next(
            (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "COUNTS"), None
        )
        if table is not None:
            found[path.name] = ast.literal_eval(table)
            calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "feed"]
            fed = [ast.unparse(call.args[0]) for call in calls]
            # What is counted is what is fed, once, and `feed` asserts that as many inputs really came.
            assert sorted(fed) == sorted(f"COUNTS[{name!r}]" for name in found[path.name]), path.name
    return found


def test_at_least_ten_thousand_inputs_are_generated():
    found = tables()
    assert sorted(found) == [
        "test_alignment.py",
        "test_columns.py",
        "test_predictions.py",
        "test_readers.py",
        "test_settings.py",
        "test_tags.py",
        "test_texts.py",
    ]
    assert sum(number for table in found.values() for number in table.values()) >= LEAST
