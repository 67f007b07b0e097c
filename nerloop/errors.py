"""Errors meant for people: each is one line that says where, what was found, what was expected, what to do.

NerloopError            exit code 2: bad input, found before any training time is spent
  ConfigError           a setting, a flag, a YAML file, a launch profile
  DataError             a data file or data set; the line starts with file:line
  PluginError           a plugin that can't be found, built, or breaks its contract
  ModelError            a model or tokenizer that can't be used
  CheckpointError       a checkpoint that is damaged or doesn't fit
  TrainingError         exit code 1: training itself went wrong (a gradient that is not finite, a full disk)
  Interrupted           exit code 130: a signal stopped the run, which can be resumed
"""

from collections.abc import Sequence


class NerloopError(Exception):
    """Base of every error that nerloop raises for its user; the message is one line, whatever was found."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ConfigError(NerloopError):
    """A setting that can't be used."""


class DataError(NerloopError):
    """Input data that can't be read; starts with file:line where there is one."""


class BadRecordsError(DataError):
    """Several records of one file that can't be read: a line each."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(messages[0])
        self.messages = tuple(map(printable, messages))

    def __str__(self) -> str:
        return "\n".join(self.messages)


class PluginError(NerloopError):
    """A plugin that can't be found or built, or that breaks its contract."""


class ModelError(NerloopError):
    """A model or tokenizer that can't be used."""


class CheckpointError(NerloopError):
    """A checkpoint that is damaged, or that belongs to another configuration."""


class TrainingError(NerloopError):
    """Training failed, and continuing as before would not help."""

    exit_code = 1


class Interrupted(NerloopError):  # noqa: N818 (nobody's mistake, as KeyboardInterrupt is not)
    """A signal stopped the run between two steps, after its work was saved."""

    exit_code = 130


STOPPED = "nerloop: stopped by Ctrl-C"
"""The message of a command that was stopped and has nothing to resume."""


def printable(text: str) -> str:
    """Return a text in which line breaks and invisible characters are escaped: "a\\nb" -> "a\\\\nb"."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(value: object, limit: int = 60) -> str:
    """Return the repr of a value on one line of at most `limit` characters, for messages.

    shorten("a" * 100, 10) -> "'aaaaa...'"
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer with more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"
