"""How files are read: one frozen object with every option of the readers."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from nerloop.data.segmentation import DEFAULT_RULE, RULES, Rule, rule_of
from nerloop.errors import DataError, shorten
from nerloop.plugins import did_you_mean


def _setting(default: Any, help: str, choices: Sequence[str] = (), *, is_of_files: bool = False) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "choices": tuple(choices), "is_of_files": is_of_files})


@dataclass(frozen=True)
class ReadOptions:
    """Every option of the readers. Those with a help text are the settings `data.*` and flags of the commands.

    A new option is a field here, a setting of the same name in `nerloop.config.schema.DataSettings`, and its use in a
    reader: `of`, the flags in `nerloop.cli`, the key of the cache and the saved model take the names from here.
    """

    format: str = _setting("auto", "format of the files (auto: by suffix and content)", is_of_files=True)
    token_column: str | None = _setting(None, "index or name of the column with tokens or text", is_of_files=True)
    tag_column: str | None = _setting(None, "index or name of the column with tags or spans", is_of_files=True)
    labels: Sequence[str] | None = _setting(None, "tag names of integer tags, in order")
    tokenizer: str = _setting(DEFAULT_RULE, "rule that cuts texts: words, whitespace, or the dotted path of your own")
    offsets: str = _setting("auto", "what character spans count", ("auto", "codepoints", "utf16"))
    overlaps: str = _setting(
        "outermost", "which of nested or overlapping spans is kept", ("outermost", "innermost", "error")
    )
    discontinuous: str = _setting("hull", "how a brat span of several pieces is read", ("hull", "skip"))
    encoding: str = _setting("utf-8", "encoding of the files, such as latin-1", is_of_files=True)
    token_prefix: str | None = _setting(None, "prefix to remove from every token, such as en:", is_of_files=True)
    on_bad_record: str = _setting(
        "stop", "what a sentence or record that can't be read does", ("stop", "skip"), is_of_files=True
    )
    with_tags: bool = True
    """Whether gold tags are read. Without them, records that nobody annotated are read as well."""
    for_prediction: bool = False
    """Whether the files are to be tagged: text without tags is expected, and examples keep their `source`."""

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value, known = getattr(self, setting.name), setting.metadata["choices"]
            if known and value not in known:
                raise DataError(f"data.{setting.name}: found {shorten(value)}, expected one of {', '.join(known)}")
        try:
            codecs.lookup(self.encoding)
        except (LookupError, ValueError) as error:
            raise DataError(f"data.encoding: found {shorten(self.encoding)}, expected one such as latin-1") from error

    @staticmethod
    def of(values: Any) -> ReadOptions:
        """Return the options of an object with attributes of these names: DataSettings, or parsed flags.

        Raises DataError for a value that is none of the choices.
        """
        return ReadOptions(**{setting.name: getattr(values, setting.name) for setting in SETTINGS})

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON: {"format": "auto", "labels": None, ...}."""
        values = {setting.name: getattr(self, setting.name) for setting in SETTINGS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ReadOptions:
        """Return the options that `to_dict` gave; missing ones have their defaults. Raises DataError for others."""
        names = [setting.name for setting in SETTINGS]
        for name, value in values.items():
            if name not in names:
                raise DataError(f"found {shorten(name)}{did_you_mean(str(name), names)}, expected a read option")
            may_be_none = next(setting.default is None for setting in SETTINGS if setting.name == name)
            is_text = isinstance(value, str) or (value is None and may_be_none)
            is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
            if not (is_list or value is None if name == "labels" else is_text):
                expected = "a list of texts" if name == "labels" else "a text"
                raise DataError(f"data.{name}: found {shorten(value)}, expected {expected}")
        return ReadOptions(**values)

    @property
    def has_built_in_tokenizer(self) -> bool:
        """Whether `tokenizer` is the name of a built-in rule."""
        return self.tokenizer in RULES

    @cached_property
    def rule(self) -> Rule:
        """The function that `tokenizer` names. Raises PluginError where there is none."""
        return rule_of(self.tokenizer)


SETTINGS = tuple(f for f in fields(ReadOptions) if f.metadata)
"""The fields that are settings and flags. Their metadata: a help text, the choices (none: any), and `is_of_files`.

Those of files name a format and columns, which differ from file to file. For the others, `predict` takes the values of
the training, which the saved model keeps.
"""
