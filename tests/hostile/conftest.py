"""What the property tests share: strange tokens, a way to feed inputs and count them, and what a refusal looks like."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerloop.data.read_warnings import MAX_LISTED
from nerloop.errors import BadRecordsError, NerloopError

LONGEST_MESSAGE = 1000
PLAIN = ("Anna", "lives", "in", "New", "York", ".")

# No subwords, zero width, right to left, combining, whatever else ends lines somewhere, blanks, escapes, what some
# format, tokenizer or terminal gives a meaning, and names of files.
ODD = (
    "", "\u200e", "\u200b", "\u200d", "\u00ad", "\ufffd", "\ufeff", "\ufeffA", "\ufeff\ufeff", "שלום", "\u202eمرحبا",
    "e\u0301", "👩‍👩‍👧", "\U0001f600", "\U0010ffff", "東京", "\x0b", "\x0c", "\x1c", "a\x1db", "\x1e", "\x85", "\u2028",
    "a\u2029b", "\u00a0", "\u3000", "\0", "a\0b", "\x1b[2J", "\x7f", " ", "a b", "\t", "a\tb", "\n", "a\n\nb", "\r",
    "a\rb", "\r\n", "\\", "\\\\", "\\e", "\\s", "\\-DOCSTART-", "\\0", "\\b", "#", "# id", "#O", "-DOCSTART-",
    "-DOCSTART-x", "O", "B-PER", "[SEP]", "[UNK]", "</s>", "<s>", "##s", "▁", "Ġ", "'", '"', "{", '{"tokens": []}',
    "NaN", "null", "-1", "1e999", "9" * 50, "/etc/passwd", "file:///etc/passwd", "../x", "~", "https://x.org/?a=b&c#d",
    "A" * 200, "ab." * 60, "\u0301" * 40,
)  # fmt: skip


@pytest.fixture(scope="session")
def tokens() -> st.SearchStrategy[str]:
    """Return a strategy of tokens: plain, odd, or any text at all but halves of surrogate pairs."""
    return st.sampled_from((*PLAIN * 5, *ODD)) | st.sampled_from((*PLAIN * 5, *ODD)) | st.text(max_size=5)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return an empty folder, in memory where the machine has that: thousands of files are written there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.fixture(params=[pytest.param(4, id="a quarter"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def share(request: pytest.FixtureRequest) -> int:
    """Return 4, in the default tier, which feeds one input of so many, or 1, with -m slow, which feeds all of them."""
    return request.param


@pytest.fixture
def feed(share: int) -> Callable[..., Counter[Hashable]]:
    """Return a function that runs a check on a number of inputs, or a share of them, and counts what it returned.

    The counts of a share are scaled up to the whole number.
    """

    def run(number: int, inputs: st.SearchStrategy[Any], check: Callable[[Any], Hashable]) -> Counter[Hashable]:
        outcomes: Counter[Hashable] = Counter()

        # Health checks go by the clock, which on a busy machine says nothing of the strategy.
        @settings(
            max_examples=number // share,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(inputs)
        def one(value: Any) -> None:
            outcomes[check(value)] += 1

        one()
        assert sum(outcomes.values()) >= number // share
        return Counter({outcome: times * share for outcome, times in outcomes.items()})

    return run


@pytest.fixture
def attempt() -> Callable[..., Any]:
    """Return a function that gives what an action returns, or the NerloopError that it ends with."""

    def run(action: Callable[[], Any], *starts: str) -> Any:
        try:
            return action()
        except NerloopError as error:
            found = error
        messages = found.messages if isinstance(found, BadRecordsError) else (str(found),)
        assert str(found).split("\n") == list(messages), "one line each"
        assert len(messages) <= MAX_LISTED
        for message in messages:
            assert message.isprintable()
            assert len(message) <= LONGEST_MESSAGE
            assert not starts or message.startswith(starts), message
        return found

    return run
