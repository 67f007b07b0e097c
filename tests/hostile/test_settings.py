"""Settings of any bytes, any values and any flags: settings, one line, or what was asked to be printed."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from nerloop.config import Config, validate
from nerloop.config.parse import parse
from nerloop.config.yaml import load_yaml
from nerloop.errors import NerloopError

COUNTS = {"YAML of any text": 400, "values of any type": 120, "flags": 120}


@pytest.fixture
def settings_of(attempt) -> Callable[..., str]:
    """Return a function that parses and looks at settings, and says what came of it."""

    def run(*argv: str) -> str:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                found = attempt(lambda: checked(parse(argv)))
        except SystemExit as leave:
            code = leave.code
        else:
            return "refused" if isinstance(found, NerloopError) else "settings"
        assert code == 0
        assert printed.getvalue()
        assert any("help" in flag or flag.startswith(("-h", "--print_config")) for flag in argv)
        return "printed"

    return run


def checked(config: Config) -> Config:
    for value in config.to_flat().values():
        json.dumps(value, ensure_ascii=False).encode()
    with contextlib.suppress(NerloopError):
        validate(config)
    return config


ODD = (
    "", " ", "\t", "\n", "\0", "\x85", "\u2028", "\ufeff", "\u200e", "\ud800", "\udce9", "no", "null", "~", "true",
    "True", "-", "--", "=", "<<", "?", ":", ": ", "- -", "[", "]", "[[", "{", "{a", "{[a]: 1}", "[a, b]", "*a", "&a",
    "&a [*a]", "!", "!!", "!!int ''", "!!bool x", "!!python/name:os.system", "%", "@", "`", "'", '"', "|", ">", "#",
    "a: b: c", "0b_", "0x", "0xffff", "1_0", "1_", "12:30", "1e400", "-.inf", ".nan", "nan", "٣", "1" * 400,
    "-" + "9" * 5000, "0x" + "f" * 5000, '"\\UFFFFFFFF"', '"\\ud800"', "[" * 400, "{a: " * 150 + "1" + "}" * 150,
    "x" * 3000, "${HOME}", "argument --x: expected", "Parser key \"x\": ", "../..", "/dev/zero", "first",
    "nerloop.alignment.first.First", "builtins.str", "os.system", ".", "a.b",
)  # fmt: skip
NAMES = ("train.epochs", "train.learning_rate", "train.deterministic", "train.schedule", "train.max_steps", "run.dir",
         "run.resume", "data.train", "data.labels", "data.token_column", "model.dropout", "alignment.stride",
         "alignment.init_args.stride", "alignment.class_path", "alignment", "decoding", "train", "data", "evaluator",
         "trian.epochs", "data.trian", "config", "help", "")  # fmt: skip

# Pieces of YAML: keys and values that are right, and what opens, closes, repeats, aliases, tags or breaks.
PIECES = (
    "train:\n", "  epochs: 3\n", "  learning_rate: 1e-3\n", "run:\n", "  dir: x\n", "data: {train: [a, b]}\n",
    "model: {}\n", "alignment: first\n", "alignment:\n  stride: 8\n", "decoding: argmax\n", "\n", "---\n", "...\n",
    "# c\n", "  ", "\t", "- ", "? ", ": ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!str ",
    "!!python/object/apply:os.system [ls]", "!x ", "|\n", ">\n", "'", '"', "\\", "%YAML 1.2\n", "%TAG ! x\n", "\0",
    "\ufeff", "\x85", "\u2028", "\r", "\x1b", "null", "true", "9" * 5000, "[" * 300, "é",
)  # fmt: skip


def test_yaml_of_any_text_is_settings_or_refused(feed, folder, settings_of):
    def one(text):
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (folder / "c.yaml").write_bytes(data)
        return settings_of("--config", str(folder / "c.yaml"))

    right = st.sampled_from(
        ("", "# c\n", "train:\n  epochs: 3\n", "run:\n  dir: x\n", "model: {}\n", "decoding: argmax\n")
    )
    pieces = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
    texts = pieces | right | st.text(max_size=10) | st.binary(max_size=10)
    outcomes = feed(COUNTS["YAML of any text"], texts, one)
    assert min(outcomes["settings"], outcomes["refused"]) > 20


VALUES = st.recursive(
    st.sampled_from((None, True, 0, 3, -1, 10**400, 0.5, float("inf"), float("nan"), "a", *ODD)),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(("class_path", "init_args", "stride", 1, None)), inner, max_size=2)
    ),
    max_leaves=3,
)


def test_values_of_any_type_are_settings_or_refused(feed, folder, settings_of):
    def one(values):
        nested: dict[Any, Any] = {}
        for name, value in values.items():
            section, _, option = name.partition(".")
            if option and isinstance(nested.setdefault(section, {}), dict):
                nested[section][option] = value
            else:
                nested[name] = value
        with contextlib.suppress(ValueError):  # of 5,000 digits
            (folder / "c.yaml").write_text(yaml.safe_dump(nested, allow_unicode=False), encoding="utf-8")
        return settings_of("--config", str(folder / "c.yaml"))

    right = st.fixed_dictionaries({"train.epochs": st.integers(1, 9), "run.dir": st.sampled_from(ODD)})
    values = right | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
    outcomes = feed(COUNTS["values of any type"], values, one)
    assert min(outcomes["settings"], outcomes["refused"]) > 20


def test_any_flags_are_settings_or_refused(feed, share, settings_of):
    def one(flags):
        argv = []
        for name, value, form in flags:
            argv += [[f"--{name}", value], [f"--{name}={value}"], [f"--{name}"], [name, value]][form]
        return settings_of(*argv)

    names = st.sampled_from((*NAMES, "help", "print_config", "alignment.help", "train.epochs+", "data.labels+", "a\nb"))
    flag = st.tuples(names, st.sampled_from(ODD), st.sampled_from((0, 0, 0, 0, 0, 1, 1, 1, 2, 3)))
    right = st.tuples(st.sampled_from(("run.dir", "data.train", "run.resume")), st.sampled_from(ODD), st.just(1))
    outcomes = feed(COUNTS["flags"], st.lists(right, max_size=2) | st.lists(flag | right, max_size=3), one)
    assert min(outcomes["settings"], outcomes["refused"]) > (20 if share == 1 else 0)


# By a literal


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt) -> Callable[..., str]:
    """Return a function that gives the error of a YAML file, or of flags."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | bytes | None, *flags: str) -> str:
        if text is not None:
            Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
            flags = ("--config", "c.yaml", *flags)
        error = attempt(lambda: parse(flags))
        assert isinstance(error, NerloopError), error
        return str(error)

    return run


BOMB = "[&a [x,x,x,x,x,x,x,x,x]," + "".join(
    f"&{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]," for i in range(12)
) + "]"  # 9 ** 13 values  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [f"train: {BOMB}", f"train: {{epochs: {BOMB}}}", f"data: {{train: {BOMB}}}", f"data: {{labels: {BOMB}}}",
     f"x: {BOMB}",
     "train: &a {epochs: *a}", "data: {train: &a [*a]}", "run: &a {dir: *a}", "alignment: &a {stride: *a}", "&a [*a]"],
)  # fmt: skip
def test_aliases_are_refused(message, text):
    assert message(text) == "c.yaml:1: not YAML: found the alias *a, expected the value itself"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("setting", ["train.epochs", "train.learning_rate", "train.deterministic", "alignment.stride"])
def test_aliases_within_text_are_no_values_either(message, setting):
    section, option = setting.split(".")
    assert message(f"{section}: {{{option}: '{BOMB}'}}").startswith(f"c.yaml:1: {setting}: found '[&a [x,x,")
    assert message(None, f"--{setting}", BOMB).startswith(f"{setting}: found '[&a [x,x,")


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "object:os.system", "name:os.system"]
)
@pytest.mark.parametrize(
    "place", ["{}", "run: {}", "run: {{dir: {}}}", "data: {{train: [{}]}}", "{}: 3", "[{}]", "train: {{epochs: {}}}"]
)
def test_no_tag_of_a_yaml_file_runs_code(message, place, tag):
    text = place.format(f"!!python/{tag} ['touch here']")
    assert "not YAML: could not determine a constructor for the tag" in message(text)
    assert not Path("here").exists()


@pytest.mark.parametrize("setting", ["train.epochs", "data.labels", "data.train", "run.dir", "alignment.stride"])
def test_no_tag_of_a_flag_runs_code(tmp_path, monkeypatch, attempt, setting):
    monkeypatch.chdir(tmp_path)
    for value in ("!!python/object/apply:os.system ['touch here']", "[!!python/object/apply:os.system ['touch here']]"):
        attempt(lambda value=value: parse([f"--{setting}", value]))
    assert not Path("here").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {epochs: " + "1" * 5000 + "}", "c.yaml: not YAML: Exceeds the limit (4300 digits) for integer string"),
        ("train: {epochs: 0x" + "f" * 5000 + "}", "c.yaml:1: train.epochs: found '0xfffff"),
        ("train: {epochs: 0x10}", "c.yaml:1: train.epochs: found '0x10', expected a whole number"),
        ("? " + "x" * 5000 + "\n: 3", "c.yaml:1: " + "x" * 100 + "...: no such setting"),
        ("x: " + "y" * 1_000_000, "c.yaml: found more than 1,000,000 characters, expected a file of settings"),
        ("x: [" + "y," * 5_001 + "]", "c.yaml:1: not YAML: found a list of 5,001 entries, expected at most 5,000"),
        ('"a\\nb": 3', r"c.yaml:1: a\nb: no such setting"),
        ('run: {dir: "a\\0b"}', r"c.yaml:1: run.dir: found 'a\x00b', expected text that UTF-8 can hold"),
        ('run: {dir: "\\ud800"}', r"c.yaml:1: run.dir: found '\ud800', expected text that UTF-8 can hold"),
        ('data: {train: [a, "\\udfff"]}', r"c.yaml:1: data.train: found '\udfff', expected text that UTF-8 can hold"),
        ("run: !!bool x", "c.yaml: not YAML: found a tag that does not fit its value"),
        ('run: "\\UFFFFFFFF"', "c.yaml: not YAML: Python int too large to convert to C int"),
        (b"run: {dir: \xed\xa0\x80}", "--config c.yaml: can't be read: not UTF-8 text"),
        ("EU NNP B-ORG\n" * 20_000, "c.yaml: found 'EU NNP B-ORG EU NNP B-ORG"),
        ('{"tokens": ["a"]}\n' * 20_000, "c.yaml:2: not YAML: expected '<document start>', but found '{'"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_no_file_of_settings_is_told_in_one_line(message, text, expected):
    assert message(text).startswith(expected)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--config", "/dev/zero"], "/dev/zero: found more than 1,000,000 characters, expected a file of settings"),
        (["--config", "a\0b"], r"--config a\x00b: can't be read: no file can have this name"),
        (["--config", "x" * 5000], f"--config {'x' * 500}...: can't be read: File name too long"),
        (["--a\nb"], r"--a\nb: no such setting; see --help"),
        (["--" + "x" * 5000], f"--{'x' * 98}...: no such setting; see --help"),
        (["--train.epochs", "1" * 5000], "train.epochs: found '1111"),
        (["--train.epochs", '"\\UFFFFFFFF"'], "train.epochs: found '\"\\\\UFFFFFFFF\"', expected a whole number"),
        (["--train.epochs="], "train.epochs: found '', expected a whole number"),
        (["--data.labels="], "data.labels: found '', expected a list such as '[a, b]' or null"),
        (["--train.weight_decay", "1" * 400], "found a number that is too large for its setting"),
        (["--train.epochs", "argument --" * 10_000], "train.epochs: found 'argument --argument"),
        (["--data.train", "caf\udce9"], r"data.train: found 'caf\udce9', expected text that UTF-8 can hold"),
        (["--alignment", "builtins.str"], "alignment: builtins.str is written in C and has no signature"),
        (["--decoding", "builtins.bytes"], "decoding: builtins.bytes is written in C and has no signature"),
        (["--alignment", "x." * 5000 + "Y"], "alignment: can't import 'x.x.x."),
    ],
)  # fmt: skip
def test_flags_that_are_no_settings_are_told_in_one_line(message, flags, expected):
    assert message(None, *flags).startswith(expected)


def test_no_path_in_settings_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data: {train: other.yaml, validation: [other.yaml]}\nrun: {dir: other.yaml}\n")
    Path("other.yaml").write_text("train: {epochs: 9}")
    opened = []
    real = io.open
    for name in ("builtins.open", "io.open"):
        monkeypatch.setattr(name, lambda file, *rest, **more: (opened.append(str(file)), real(file, *rest, **more))[1])
    flags = [
        "--config",
        "c.yaml",
        "--data.test",
        "other.yaml",
        "--data.labels",
        "[other.yaml]",
        "--run.resume",
        "other.yaml",
    ]
    assert parse(flags).train.epochs == 3
    assert opened == ["c.yaml"]


@pytest.mark.parametrize("text", ["12:30", "010", "0x10", "0b1", "1_0_", "2024-01-01", "1:2:3"])
def test_what_only_yaml_1_1_takes_for_a_number_is_text(text):
    assert load_yaml(f"dir: {text}") == {"dir": text}


def test_a_number_of_4_000_digits_is_out_of_range_in_one_line(tmp_path, attempt):
    error = attempt(lambda: validate(parse(["--train.epochs", "-" + "1" * 4000])))
    assert str(error) == f"train.epochs: found -{'1' * 55}...1, expected at least 1 and at most 1,000,000,000"
