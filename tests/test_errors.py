"""Messages: one line, whatever was found."""

from __future__ import annotations

import pickle

from nerloop.errors import ConfigError, DataError, shorten


def test_a_message_is_one_line_that_can_be_seen():
    assert str(DataError("a\nb\x1b[2J\u2028\ud800é: no such file")) == r"a\nb\x1b[2J\u2028\ud800é: no such file"


def test_an_error_passes_between_processes_as_it_is():
    error = pickle.loads(pickle.dumps(ConfigError("a\nb")))
    assert (type(error), str(error)) == (ConfigError, r"a\nb")


def test_shorten_keeps_both_ends_of_what_is_long():
    assert shorten("a" * 100, 10) == "'aaaaa...'"
    assert shorten([1, 2]) == "[1, 2]"


def test_shorten_of_what_has_no_repr_is_its_type():
    nested: list[object] = []
    for _ in range(200_000):
        nested = [nested]
    assert shorten(nested) == "<list>"
    assert shorten(16**5000) == "<int>"
