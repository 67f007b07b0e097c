"""Read settings from YAML files and flags: defaults < YAML (`--config`) < flags. Each mistake is a one-line error."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, _loaders_dumpers, set_loader, set_parsing_settings

from nerloop import plugins
from nerloop.config import SECTIONS, Config, Plugin, flatten
from nerloop.config.yaml import SettingsLoader, compose_yaml, load_yaml
from nerloop.errors import ConfigError, PluginError, shorten
from nerloop.plugins import CONTEXT

MOST_CHARACTERS = 1_000_000
"""Limit of a settings file. A larger file can't be meant, and YAML is slow to parse."""
EXAMPLE = "{class_path: my_module.MyPlugin, my_option: 1}"
OTHER_FLAGS = ("--config", "--print_config", "--help", "-h", *(f"--{kind}.help" for kind in CONTEXT))


def parse(argv: Sequence[str], prog: str = "nerloop.train") -> Config:
    """Return the settings that flags (and the YAML files they name) ask for. Raises ConfigError for any mistake.

    `--help` and `--print_config` print and leave with SystemExit(0).
    """
    # Other commands take the file without a flag.
    arguments, sources, chosen = _check_arguments(list(argv), "--config" if prog == "nerloop.train" else "")
    try:
        namespace = _parser(prog, chosen).parse_args(arguments)
    except ArgumentError as error:
        raise ConfigError(_explain(str(error), sources)) from error
    except OverflowError as error:
        raise ConfigError(f"found a number that is too large for its setting ({error})") from error
    config = to_config(namespace)
    _check_text(config, sources)
    return config


def to_config(namespace: Namespace) -> Config:
    """Return the settings of a parsed namespace."""
    chosen: dict[str, Any] = {name: section(**vars(namespace[name])) for name, section in SECTIONS.items()}
    for kind in CONTEXT:
        path = namespace[kind].class_path
        options = vars(namespace[kind].get("init_args") or Namespace())  # type: ignore[no-untyped-call]
        defaults = plugins.defaults_of(plugins.find(kind, path))
        # Options at their defaults are left out, so that the result without flags equals Config().
        changed = {n: v for n, v in options.items() if n not in defaults or v != defaults[n]}
        chosen[kind] = Plugin(plugins.name_of(kind, path), changed)
    return Config(**chosen)


def _parser(prog: str, chosen: dict[str, str]) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("yaml12", load_yaml, exceptions=(yaml.YAMLError,))
    # jsonargparse reads numbers and booleans with this loader, not with the one of set_loader.
    _loaders_dumpers.yaml_default_loader = SettingsLoader  # type: ignore[assignment]
    parser = ArgumentParser(
        prog=f"python -m {prog}",
        description="Fine-tune an encoder for named entity recognition. Without settings: the embedded demo.",
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode="yaml12",
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; flags win over it")
    for name, section in SECTIONS.items():
        parser.add_argument(f"--{name}", type=section, default=section())
    for kind, context in CONTEXT.items():
        parser.add_subclass_arguments(
            plugins.find(kind, chosen[kind]),  # names are replaced by paths, so no other class is possible
            kind,
            skip=set(context),
            default={"class_path": chosen[kind]},
            help=f"{', '.join(plugins.BUILT_IN[kind])}, or a dotted path to a class of your own",
        )
    return parser


def _check_arguments(argv: list[str], file_flag: str) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return the arguments, where each setting comes from, and the path of each kind's plugin.

    In the arguments, YAML files are replaced by what they say, and names of plugins by their paths. `file_flag` is the
    flag that messages name before a file.
    """
    sources: dict[str, str] = {}
    arguments: list[str] = []
    chosen = {kind: plugins.path_of(kind, getattr(Config(), kind).name) for kind in CONTEXT}
    # Files come first, so a flag overrides a file even if it stands before it on the command line.
    pairs = sorted(_pairs(argv), key=lambda pair: pair[0] != "--config")
    files: list[dict[str, Any]] = []
    for flag, value in pairs:
        if flag == "--config" and value is not None:
            files.append(_read_file(value, file_flag, sources, chosen))
            continue
        name = flag.removeprefix("--")
        if name in CONTEXT and value is not None:
            value = chosen[name] = plugins.path_of(name, value)
            plugins.find(name, value)
        if flag.startswith("--") and flag not in OTHER_FLAGS:
            sources[_setting(name)] = flag
        arguments.append(flag if value is None else f"{flag}={value}")
    from_files: list[str] = []
    for values in files:  # a plugin that a flag or a later file replaces is left out with its options
        kept = {n: v for n, v in values.items() if n not in CONTEXT or v["class_path"] == chosen[n]}
        from_files.append(f"--config={_as_json(kept)}")
        # jsonargparse accepts null for any setting in a file, but checks a flag against its type.
        from_files += [f"--{_setting(n)}=null" for n, v in _leaves(kept) if v is None]
    arguments = from_files + arguments
    known = _known_settings(chosen)
    for flag, _ in pairs:
        name = _setting(flag.removeprefix("--"))
        if not flag.startswith("-"):
            raise ConfigError(
                f"found {shorten(flag)} where a flag was expected, such as --train.epochs 3 (a list is one argument: "
                "'[a, b]'); see --help"
            )
        if flag not in OTHER_FLAGS and name not in known and name not in CONTEXT:
            raise ConfigError(_no_such_setting(flag, name, known, chosen, "--"))
    return arguments, sources, chosen


def _as_json(values: dict[str, Any]) -> str:
    """Return values as JSON that YAML reads as the same values: YAML has no surrogate pairs."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _pairs(argv: list[str]) -> list[tuple[str, str | None]]:
    """Return (flag, value) of a command line: ["--a", "1", "--b=2", "--help"] -> [("--a", "1"), ("--b", "2"), ...]."""
    pairs: list[tuple[str, str | None]] = []
    i = 0
    while i < len(argv):
        flag, equals, value = argv[i].partition("=")
        i += 1
        if equals and flag.startswith("--"):
            pairs.append((flag, value))
        elif flag.startswith("--") and i < len(argv) and not argv[i].startswith("--"):
            pairs.append((flag, argv[i]))
            i += 1
        else:
            pairs.append((argv[i - 1], None))
    return pairs


def _setting(name: str) -> str:
    """Return the one name of a setting: "alignment.init_args.stride" and "alignment.stride" are the same."""
    return name.replace(".init_args.", ".").removesuffix("+")


def _known_settings(chosen: dict[str, str]) -> set[str]:
    known = {f"{name}.{f.name}" for name, section in SECTIONS.items() for f in dataclasses.fields(section)}
    for kind, path in chosen.items():
        known.update(f"{kind}.{option}" for option in plugins.options_of(plugins.find(kind, path)))
    return known


def _no_such_setting(written: str, name: str, known: set[str], chosen: dict[str, str], dashes: str = "") -> str:
    """Return the message for an unknown setting: the nearest one, or what is known about the plugin's options."""
    kind, _, option = name.partition(".")
    near = _nearest(name, {k for k in known if k.startswith(f"{kind}.")} if kind in CONTEXT else known)
    if near:
        return f"{_cut(written)}: no such setting; did you mean {dashes}{near}?"
    if kind in CONTEXT:
        return plugins.no_option(kind, plugins.name_of(kind, chosen[kind]), _cut(option))
    return f"{_cut(written)}: no such setting; see --help"


def read_yaml(path: str, flag: str = "--config") -> tuple[Any, dict[str, int]]:
    """Return the values of a YAML file and the line (from 1) of each key by dotted name. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name that no file can have
        reason = getattr(error, "strerror", None) or (
            "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "no file can have this name"
        )
        raise ConfigError(f"{flag} {_cut(path, 500)}".lstrip() + f": can't be read: {reason}") from error
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{path}: found more than {MOST_CHARACTERS:,} characters, expected a file of settings")
    try:
        values = load_yaml(text)
        root = compose_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}: not YAML: {_cut(problem, 300)}") from error
    return values, _lines(root)


def _read_file(path: str, flag: str, sources: dict[str, str], chosen: dict[str, str]) -> dict[str, Any]:
    """Return the settings of a YAML file, plugin names replaced by paths; notes the line of each in `sources`."""
    values, lines = read_yaml(path, flag)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found {shorten(values)}, expected settings such as 'train: {{epochs: 3}}'")
    _take_indices_as_text(values)
    for name in map(str, values):
        kind, _, option = name.partition(".")
        if kind in CONTEXT and option and (kind in values or option == "class_path"):
            raise ConfigError(
                f"{path}:{lines.get(name, 1)}: {_cut(name)}: found beside the plugin, expected below it: "
                f"{kind}: {EXAMPLE}"
            )
    for kind in CONTEXT.keys() & values.keys():
        where = f"{path}:{lines.get(kind, 1)}"
        chosen[kind] = values[kind]["class_path"] = _plugin_in_file(kind, values, where)
    known = _known_settings(chosen)
    for name, value in _leaves(values):
        setting = _setting(name)
        where = f"{path}:{lines.get(name, 1)}"
        if setting.removesuffix(".class_path") in CONTEXT:
            continue
        if value in (None, {}) and setting in SECTIONS:
            continue
        if setting in SECTIONS:
            raise ConfigError(f"{where}: {setting}: found {shorten(value)}, expected settings below it")
        if setting not in known:
            raise ConfigError(f"{where}: {_no_such_setting(setting, setting, known, chosen)}")
        sources[setting] = where
    return {name: value for name, value in values.items() if value is not None}


def _plugin_in_file(kind: str, values: dict[str, Any], where: str) -> str:
    """Return the path of a plugin in a YAML file; rewrite its entry to the form that jsonargparse takes."""
    value = values[kind]
    if isinstance(value, str):
        value = {"class_path": value}
    elif isinstance(value, dict) and "class_path" not in value and "name" in value:
        value = {"class_path" if k == "name" else k: v for k, v in value.items()}
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("class_path", ""), str)
        or not isinstance(value.get("init_args") or {}, dict)
    ):
        raise ConfigError(f"{where}: {kind}: found {shorten(value)}, expected a name, or {EXAMPLE}")
    default = getattr(Config(), kind).name
    options = {k: v for k, v in value.items() if k not in ("class_path", "init_args")}  # `stride: 32` right below it
    values[kind] = {"init_args": {**(value.get("init_args") or {}), **options}}
    try:
        path = plugins.path_of(kind, value.get("class_path", default))
        plugins.find(kind, path)
    except PluginError as error:
        raise ConfigError(f"{where}: {error}") from error
    return path


def _take_indices_as_text(values: dict[str, Any], prefix: str = "") -> None:
    """Turn `token_column: 0` of a file into "0", as a flag gives it: the setting is text, a name or an index."""
    for name, value in values.items():
        if isinstance(value, dict):
            _take_indices_as_text(value, f"{prefix}{name}.")
        elif type(value) is int and f"{prefix}{name}" in ("data.token_column", "data.tag_column"):
            values[name] = str(value)


def _leaves(values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the settings of a file by dotted name. An option of a plugin is one setting even if it is a mapping."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        if name in CONTEXT:
            leaves |= {f"{name}.{part}": v for part, v in value.items() if part != "init_args"}
            leaves |= {f"{name}.init_args.{option}": v for option, v in value["init_args"].items()}
        else:
            leaves |= flatten({str(name): value})
    return list(leaves.items())


def _lines(node: yaml.Node | None, prefix: str = "") -> dict[str, int]:
    """Return the line (from 1) of each key of a YAML tree, by dotted name."""
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{getattr(key, 'value', key)}"
            lines[name] = key.start_mark.line + 1
            lines.update(_lines(value, f"{name}."))
            section, _, option = name.partition(".")
            if section in CONTEXT and option:  # listed under its own name and under init_args
                lines[f"{section}.init_args.{option.removeprefix('init_args.')}"] = lines[name]
    return lines


def _check_text(config: Config, sources: dict[str, str]) -> None:
    """Raise ConfigError for text that can't be a file name or file content: NUL, lone surrogates."""
    for name, value in config.to_flat().items():
        for text in [name, *(value if isinstance(value, list) else [value])]:
            if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
                setting = next((known for known in sources if f"{_setting(name)}.".startswith(f"{known}.")), "")
                place = _place(sources.get(setting))
                raise ConfigError(
                    f"{place}{setting or _setting(name)}: found {shorten(text)}, expected text that UTF-8 can hold"
                )


def _place(source: str | None) -> str:
    """Return the beginning of an error about a setting from a file; "" for one from a flag."""
    return f"{source}: " if source and not source.startswith("--") else ""


def _explain(message: str, sources: dict[str, str]) -> str:
    """Return jsonargparse's error as one line of ours: source, setting, value, expectation, nearest name."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    setting = _setting(".".join(keys))
    where = sources.get(setting) or next((s for n, s in sources.items() if n.startswith(f"{setting}.")), None)
    place = _place(where)
    flat = " ".join(message.split())
    if found := re.search(r"argument (--[\w.]+): expected", flat):
        return f"{found[1]}: found no value, expected one after it"
    if found := re.search(r"Option '([^']+)' is not accepted", flat):
        return f"{place}{setting}.{found[1]}: no such option of this plugin"
    # One type: "Expected a T. Got value: v"; several: "Expected a T - Expected a U ... Given value: v".
    kinds = re.findall(r"Expected an? (<class '[^']+'>|typing\.Literal\[[^]]*\]|[\w.\[\]]+)", flat)
    value = re.search(r"Given value: ?(.*)$", flat) or re.search(r"Got value: ?(.*)$", flat)
    if "Mapping[str, float]" in flat:  # the type of a value in it is no help
        kinds = ["Mapping" if kind == "<class 'float'>" or "Mapping" in kind else kind for kind in kinds]
    if not kinds or not value:
        problem = _cut(re.sub(r'^Parser key "[^"]*": ', "", flat), 300)
        return f"{place}{setting}: {problem}" if setting else problem
    expected = " or ".join(dict.fromkeys(_in_words(kind) for kind in kinds))
    near = ""
    if choices := re.findall(r"'([^']*)'", " ".join(kind for kind in kinds if "Literal" in kind)):
        close = difflib.get_close_matches(value[1], choices, n=1)
        near = f"; did you mean {close[0]!r}?" if close else ""
    return f"{place}{setting}: found {shorten(value[1])}, expected {expected}{near}"


def _in_words(kind: str) -> str:
    words = {
        "<class 'int'>": "a whole number",
        "<class 'float'>": "a number",
        "<class 'bool'>": "true or false",
        "<class 'str'>": "text",
        "<class 'list'>": "a list such as '[a, b]'",
        "Mapping": "names with numbers such as '{a: 0.5}'",
        "<class 'NoneType'>": "null",
    }
    if kind in words:
        return words[kind]
    if choices := re.findall(r"'([^']*)'", kind) if "Literal" in kind else []:
        return f"one of {', '.join(choices)}"
    return kind


def _cut(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _nearest(name: str, known: set[str]) -> str:
    """Return the nearest known setting, by its whole name or, where the section is wrong, by its last part."""
    known = known if "." in name else known | CONTEXT.keys()
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    if not close:
        last = {k.rpartition(".")[2]: k for k in sorted(known)}
        close = [last[m] for m in difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.75)]
    return close[0] if close else ""
