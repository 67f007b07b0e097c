"""Read and write settings as YAML: safe, with YAML 1.2 booleans and numbers, no aliases, no duplicate keys."""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_ENTRIES = 5_000
"""The longest list: jsonargparse's time grows with its square, to about ten seconds here."""


class SettingsLoader(yaml.SafeLoader):
    """Safe YAML in which only true and false are booleans (`no` and `off` are values of ours), without duplicate keys.

    Aliases are refused: a few lines of them can expand to billions of values, or to one that contains itself.
    """

    def get_single_data(self) -> Any:
        """Return the value of the only document. Raises yaml.YAMLError for every mistake, also in tags and numbers."""
        try:
            return super().get_single_data()
        except LookupError as error:
            raise yaml.YAMLError("found a tag that does not fit its value") from error
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:  # yaml itself does not catch them
            raise yaml.YAMLError(str(error)) from error

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"found the alias *{event.anchor}, expected the value itself"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def construct_sequence(self, node: yaml.SequenceNode, deep: bool = False) -> list[Any]:
        """Refuse lists that are too long for jsonargparse."""
        if len(node.value) > MOST_ENTRIES:
            problem = f"found a list of {len(node.value):,} entries, expected at most {MOST_ENTRIES:,}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_sequence(node, deep=deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that are given twice."""
        mapping: dict[Any, Any] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in mapping:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            mapping[key] = None
        return super().construct_mapping(node, deep=deep)


# Types that plain text can have in YAML 1.1 but not here: the first three get narrower patterns below, dates get none.
_NOT_AS_IN_YAML_1_1 = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")}
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}
SettingsLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _NOT_AS_IN_YAML_1_1]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SettingsLoader.yaml_constructors = {  # None: the constructor that refuses all other tags
    tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag in _PLAIN or tag is None
}
SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
# YAML 1.1 takes 12:30 for 750, 010 for 8, and tens of thousands of binary digits for a number.
SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9](?:_?[0-9])*)$"), list("-+0123456789")
)
SettingsLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))
# YAML 1.1 takes 3e-5 for a string: it asks for a dot and a sign. People write learning rates like that.
SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Quotes any text that `SettingsLoader` would read as another type."""


_Dumper.yaml_implicit_resolvers = SettingsLoader.yaml_implicit_resolvers


def dump_yaml(values: dict[str, Any]) -> str:
    """Return settings as YAML that `--config` reads back unchanged."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def load_yaml(text: str) -> Any:
    """Return the values in a YAML text of settings. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=SettingsLoader)  # noqa: S506 (a SafeLoader)


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the nodes of YAML of settings, which know their lines. Raises yaml.YAMLError."""
    return yaml.compose(text, Loader=SettingsLoader)
