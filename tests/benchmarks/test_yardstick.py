"""The plain loop is the shared one, unchanged."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "plain_loop.py"


def test_the_copy_of_the_plain_loop_is_equal_to_the_byte():
    if not SHARED.is_file():
        pytest.skip(f"no {SHARED} to compare with")
    assert Path(__file__).with_name("plain_loop.py").read_bytes() == SHARED.read_bytes()
