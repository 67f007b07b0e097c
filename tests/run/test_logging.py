"""Log lines of the set-up: lost with bad input alone; a notebook's logger is put back."""

from __future__ import annotations

import logging

import pytest

from nerloop.errors import DataError
from nerloop.run.logging import logging_to_terminal, release_log

log = logging.getLogger("nerloop.some_module")


def run(ending: BaseException | None) -> None:
    with logging_to_terminal("info", is_main=True):
        log.info("800 sentences")
        if ending is not None:
            raise ending


@pytest.mark.parametrize("ending", [TypeError("a bug"), KeyboardInterrupt(), SystemExit(1), MemoryError()], ids=repr)
def test_what_was_held_back_is_told_when_something_unforeseen_ends_the_set_up(capsys, ending):
    with pytest.raises(type(ending)):
        run(ending)
    assert capsys.readouterr().err == "800 sentences\n"


def test_what_was_held_back_is_told_at_a_good_end(capsys):
    run(None)
    assert capsys.readouterr().err == "800 sentences\n"


def test_bad_input_is_told_without_it(capsys):
    with pytest.raises(DataError):
        run(DataError("train.conll:1: bad"))
    assert capsys.readouterr().err == ""


def test_lines_are_held_back_until_they_are_released(capsys):
    with logging_to_terminal("info", is_main=True):
        log.info("one")
        assert capsys.readouterr().err == ""
        release_log()
        log.info("two")
        assert capsys.readouterr().err == "one\ntwo\n"


def test_other_processes_log_errors_alone(capsys):
    with logging_to_terminal("info", is_main=False):
        release_log()
        log.info("one")
        log.error("two")
    assert capsys.readouterr().err == "two\n"


def test_the_logger_is_put_back():
    logger = logging.getLogger("nerloop")
    mine = logging.NullHandler()
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:], logger.propagate = [mine], True
    logger.setLevel(logging.CRITICAL)
    try:
        run(None)
        assert (logger.handlers, logger.propagate, logger.level) == ([mine], True, logging.CRITICAL)
    finally:
        logger.handlers[:], logger.propagate, level = before
        logger.setLevel(level)
