"""Settings from YAML and flags: what wins, what stays text, and the one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nerloop.config import Config, Plugin, validate
from nerloop.config.parse import parse
from nerloop.config.yaml import dump_yaml
from nerloop.errors import ConfigError, NerloopError, PluginError

OUTSIDE_PLUGIN = '''
class Aligner:
    """An alignment of somebody else's."""

    def __init__(self, tokenizer, labels, *, letters: int = 3, mode: str = "no"):
        """Take it.

        Args:
            letters: how many letters of a token are looked at
            mode: how
        """
        self.letters = letters

    def split(self, examples):
        return []

    def join(self, features, scores):
        return {}
'''


@pytest.fixture
def outside_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the dotted path of an alignment of somebody else's."""
    (tmp_path / "somebodys_alignment.py").write_text(OUTSIDE_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    return "somebodys_alignment.Aligner"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a YAML file into the working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "my.yaml") -> str:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return write_file


def message(*argv: str, kind: type[NerloopError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        parse(argv)
    found = str(caught.value)
    assert "\n" not in found
    return found


# What wins


def test_parse_of_nothing_is_the_demo_with_every_option_spelt_out():
    config = parse([])
    assert config.is_demo
    assert (config.model, config.data, config.train, config.run) == (
        Config().model,
        Config().data,
        Config().train,
        Config().run,
    )
    assert config.alignment == Plugin("all", {})
    assert config.decoding == Plugin("viterbi")
    validate(config)


def test_flags_win_over_the_defaults():
    assert parse(["--train.epochs", "7"]).train.epochs == 7


@pytest.mark.parametrize("flags_first", [True, False])
def test_flags_win_over_yaml_wherever_they_stand(write, flags_first):
    file = ["--config", write("train:\n  epochs: 5\n  batch_size: 8\n")]
    flags = ["--train.epochs", "7"]
    train = parse(flags + file if flags_first else file + flags).train
    assert (train.epochs, train.batch_size) == (7, 8)


def test_the_last_of_two_flags_wins():
    assert parse(["--train.epochs", "3", "--train.epochs=4"]).train.epochs == 4


def test_the_last_of_two_files_wins(write):
    one = write("train:\n  epochs: 5\n  batch_size: 8\n", "one.yaml")
    two = write("train:\n  epochs: 6\n", "two.yaml")
    train = parse(["--config", one, "--config", two]).train
    assert (train.epochs, train.batch_size) == (6, 8)


def test_yaml_takes_dotted_names(write):
    assert parse(["--config", write("train.epochs: 4\n")]).train.epochs == 4


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train:\nmodel: {}\n", "---\n"])
def test_yaml_that_says_nothing_changes_nothing(write, text):
    assert parse(["--config", write(text)]) == parse([])


def test_yaml_may_have_a_byte_order_mark_and_crlf(write):
    assert parse(["--config", write(b"\xef\xbb\xbftrain:\r\n  epochs: 4\r\n")]).train.epochs == 4


# What stays what it is


@pytest.mark.parametrize(
    "text", ["no", "off", "yes", "on", "No", "3e", "~x", "2024-01-01", "12:30:45x", "🚀", '"a\\u2028b"']
)
def test_text_in_yaml_stays_text(write, text):
    expected = "a\u2028b" if "2028" in text else text
    assert parse(["--config", write(f"run:\n  dir: {text}\n")]).run.dir == expected


def test_no_in_yaml_is_a_precision_and_off_a_way_to_resume(write):
    config = parse(["--config", write("train:\n  mixed_precision: no\nrun:\n  resume: off\n")])
    assert (config.train.mixed_precision, config.run.resume) == ("no", "off")


@pytest.mark.parametrize("text", ["true", "null", "1e5", "[a", "a: b", "007", "{x}", "🚀"])
def test_text_of_a_flag_stays_text(text):
    assert parse(["--run.dir", text]).run.dir == (None if text == "null" else text)


@pytest.mark.parametrize(
    ("text", "value"), [("3e-5", 3e-5), ("3E-5", 3e-5), ("1", 1.0), (".5", 0.5), ("1.e-3", 1e-3), ("+2.5e+0", 2.5)]
)
def test_a_number_is_a_float_however_it_is_written(write, text, value):
    rates = [
        parse(["--train.learning_rate", text]).train.learning_rate,
        parse([f"--train.learning_rate={text}"]).train.learning_rate,
        parse(["--config", write(f"train:\n  learning_rate: {text}\n")]).train.learning_rate,
    ]
    assert rates == [value] * 3
    assert {type(rate) for rate in rates} == {float}


def test_a_flag_may_have_a_negative_value():
    assert parse(["--data.tag_column", "-1"]).data.tag_column == "-1"


def test_columns_in_yaml_may_be_whole_numbers(write):
    data = parse(["--config", write("data:\n  token_column: 0\n  tag_column: -1\n")]).data
    assert (data.token_column, data.tag_column) == ("0", "-1")


def test_files_are_one_or_a_list(write):
    assert parse(["--data.train", "a.conll"]).data.train == "a.conll"
    assert parse(["--data.train", "[a.conll, b.conll]"]).data.train == ["a.conll", "b.conll"]
    assert parse(["--config", write("data:\n  train:\n  - a\n  - b\n")]).data.train == ["a", "b"]


def test_labels_are_a_list():
    assert parse(["--data.labels", "[O, B-X]"]).data.labels == ["O", "B-X"]


def test_null_sets_a_setting_back_to_none(write):
    config = parse(["--config", write("train:\n  max_steps: 5\n"), "--train.max_steps", "null"])
    assert config.train.max_steps is None


def test_null_of_a_later_file_wins(write):
    one, two = write("train:\n  max_steps: 5\n", "one.yaml"), write("train:\n  max_steps: null\n", "two.yaml")
    assert parse(["--config", one, "--config", two]).train.max_steps is None


# Plugins


def test_a_plugin_by_short_name():
    assert parse(["--alignment", "all", "--collator", "pad"]).alignment.name == "all"


def test_a_plugin_with_an_option():
    config = parse(["--alignment", "all", "--alignment.stride", "16"])
    assert config.alignment == Plugin("all", {"stride": 16})


def test_an_option_of_the_default_plugin():
    assert parse(["--alignment.stride=16"]).alignment == Plugin("all", {"stride": 16})


@pytest.mark.parametrize(
    "text",
    [
        "alignment:\n  class_path: all\n  init_args:\n    stride: 16\n",
        "alignment:\n  class_path: all\n  stride: 16\n",
        "alignment:\n  class_path: nerloop.alignment.all.All\n  stride: 16\n",
        "alignment: {name: all, stride: 16}\n",
    ],
)
def test_a_plugin_in_yaml(write, text):
    config = parse(["--config", write(text)])
    assert config.alignment == Plugin("all", {"stride": 16})


def test_a_plugin_in_yaml_by_name_alone(write):
    assert parse(["--config", write("decoding: argmax\n")]).decoding == Plugin("argmax")


def test_options_in_yaml_without_a_name_are_those_of_the_default(write):
    assert parse(["--config", write("alignment:\n  stride: 16\n")]).alignment.options["stride"] == 16


@pytest.mark.parametrize("weights", ["{O: 0.5, B-PER: 2}", "\n    O: 0.5\n    B-PER: 2", "{}"])
def test_an_option_of_a_plugin_may_be_a_mapping(write, weights):
    config = parse(["--config", write(f"objective:\n  class_weights: {weights}\n")])
    assert config.objective.options["class_weights"] == ({} if weights == "{}" else {"O": 0.5, "B-PER": 2.0})
    assert parse(["--config", write(dump_yaml(config.to_dict()))]).objective.options == config.objective.options


@pytest.mark.parametrize("found", ["{'O': 'many'}", "{'O': None}", "3"])
def test_a_mapping_of_the_wrong_values(write, found):
    file = write(f"objective:\n  class_weights: {found.replace('None', 'null')}\n")
    assert message("--config", file) == (
        f"my.yaml:2: objective.class_weights: found {found!r}, expected names with numbers such as '{{a: 0.5}}' or null"
    )


def test_the_names_of_a_mapping_are_text(write):
    file = write('objective:\n  class_weights: {"a\\0": 0.5}\n')
    assert message("--config", file).startswith("my.yaml:2: objective.class_weights: found ")
    assert message("--config", file).endswith("expected text that UTF-8 can hold")


def test_a_mapping_where_a_number_belongs(write):
    file = write("alignment:\n  class_path: all\n  stride: {O: 1}\n")
    assert message("--config", file) == (
        """my.yaml:3: alignment.stride: found "{'O': 1}", expected a whole number or null"""
    )


def test_a_flag_wins_over_an_option_in_yaml(write):
    file = write("alignment:\n  class_path: all\n  stride: 16\n  max_length: 64\n")
    assert parse(["--alignment.stride", "8", "--config", file]).alignment == Plugin(
        "all", {"max_length": 64, "stride": 8}
    )


def test_the_options_of_a_plugin_that_a_flag_replaces_go_with_it(write):
    file = write("alignment:\n  class_path: first\n  stride: 16\n")
    assert parse(["--config", file, "--alignment", "all"]).alignment == Plugin("all", {})


def test_an_outside_plugin_by_dotted_path_with_an_option(outside_plugin):
    config = parse(["--alignment", outside_plugin, "--alignment.letters", "5"])
    assert config.alignment == Plugin("somebodys_alignment.Aligner", {"letters": 5})
    assert config.to_flat()["alignment.letters"] == 5


def test_an_outside_plugin_in_yaml_with_an_option(write, outside_plugin):
    file = write(f"alignment:\n  class_path: {outside_plugin}\n  letters: 5\n  mode: off\n")
    assert parse(["--config", file]).alignment == Plugin(outside_plugin, {"letters": 5, "mode": "off"})


def test_an_option_of_an_outside_plugin_is_checked(outside_plugin):
    assert message("--alignment", outside_plugin, "--alignment.letters", "five") == (
        "alignment.letters: found 'five', expected a whole number"
    )


def test_an_unknown_option_of_an_outside_plugin_says_the_nearest(outside_plugin):
    assert message("--alignment", outside_plugin, "--alignment.leters", "5") == (
        "--alignment.leters: no such setting; did you mean --alignment.letters?"
    )


def test_an_unknown_option_of_an_outside_plugin_in_yaml_says_the_line(write, outside_plugin):
    file = write(f"alignment:\n  class_path: {outside_plugin}\n  init_args:\n    leters: 5\n")
    assert message("--config", file) == "my.yaml:4: alignment.leters: no such setting; did you mean alignment.letters?"


@pytest.mark.parametrize("file", ["objective: {class_path: own.Focal, gamma: 3}\n", ""])
def test_an_option_that_is_not_keyword_only_says_how_it_becomes_one(write, file, monkeypatch, tmp_path):
    (tmp_path / "own.py").write_text(
        "class Focal:\n  def __init__(self, labels, gamma: float = 2.0): pass\n  def loss(self, logits, batch): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    argv = ["--config", write(file)] if file else ["--objective", "own.Focal", "--objective.gamma", "3"]
    assert message(*argv) == "my.yaml:1: " * bool(file) + (
        "own.Focal: gamma is no option, since options are keyword-only: def __init__(self, labels, *, gamma=2.0)"
    )


# Mistakes on the command line

FLAG_MISTAKES = [
    (["--train.epochs", "x"], "train.epochs: found 'x', expected a whole number"),
    (["--train.epochs", "3.5"], "train.epochs: found '3.5', expected a whole number"),
    (["--train.epochs", "null"], "train.epochs: found 'None', expected a whole number"),
    (["--train.learning_rate", "fast"], "train.learning_rate: found 'fast', expected a number or null"),
    (["--train.deterministic", "maybe"], "train.deterministic: found 'maybe', expected true or false"),
    (["--data.labels", "O"], "data.labels: found 'O', expected a list such as '[a, b]' or null"),
    (
        ["--train.schedule", "lineer"],
        "train.schedule: found 'lineer', expected one of linear, constant; did you mean 'linear'?",
    ),
    (
        ["--train.mixed_precision", "int4"],
        "train.mixed_precision: found 'int4', expected one of profile, auto, no, bf16, fp16, float64",
    ),
    (["--train.epoch", "3"], "--train.epoch: no such setting; did you mean --train.epochs?"),
    (["--aligment", "first"], "--aligment: no such setting; did you mean --alignment?"),
    (["--train.lr", "3"], "--train.lr: no such setting; see --help"),
    (["--epochs", "3"], "--epochs: no such setting; did you mean --train.epochs?"),
    (["--learning_rate=3"], "--learning_rate: no such setting; did you mean --train.learning_rate?"),
    (["--foo.bar", "3"], "--foo.bar: no such setting; see --help"),
    (["-x"], "-x: no such setting; see --help"),
    (["--train.epochs"], "--train.epochs: found no value, expected one after it"),
    (["--train.epochs="], "train.epochs: found '', expected a whole number"),
    (["--data.labels= "], "data.labels: found '', expected a list such as '[a, b]' or null"),
    (["--a\nb"], r"--a\nb: no such setting; see --help"),
    (["--" + "x" * 200], f"--{'x' * 98}...: no such setting; see --help"),
    (["--config", "a\0b"], r"--config a\x00b: can't be read: no file can have this name"),
    (["--train.epochs", "!!int ''"], "train.epochs: found \"!!int ''\", expected a whole number"),
    (["--alignment"], "--alignment: found no value, expected one after it"),
    (["--config"], "--config: found no value, expected one after it"),
    (
        ["train.epochs", "3"],
        "found 'train.epochs' where a flag was expected, such as --train.epochs 3 (a list is one argument: '[a, b]'); "
        "see --help",
    ),
    (
        ["--train.epochs", "3", "4"],
        "found '4' where a flag was expected, such as --train.epochs 3 (a list is one argument: '[a, b]'); see --help",
    ),
    (["--config", "none.yaml"], "--config none.yaml: can't be read: No such file or directory"),
    (["--config", "/"], "--config /: can't be read: Is a directory"),
    (["--alignment.strid", "8"], "--alignment.strid: no such setting; did you mean --alignment.stride?"),
    (["--alignment.stride", "x"], "alignment.stride: found 'x', expected a whole number or null"),
    (["--alignment.tokenizer", "x"], "alignment all has no option tokenizer; its options: max_length, stride"),
    (["--evaluator.beta", "2"], "evaluator seqeval has no option beta; it has none"),
]


@pytest.mark.parametrize(("argv", "expected"), FLAG_MISTAKES, ids=[" ".join(argv) for argv, _ in FLAG_MISTAKES])
def test_a_mistake_on_the_command_line_is_told_in_one_line(argv, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message(*argv) == expected


def test_a_command_that_takes_files_without_a_flag_names_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^none.yaml: can't be read: No such file or directory$"):
        parse(["--config", "none.yaml"], prog="nerloop.compare")


def test_a_misspelt_plugin_is_told_in_one_line():
    assert message("--alignment", "frist", kind=PluginError) == (
        "alignment: 'frist' is no built-in plugin (did you mean 'first'?); "
        "expected first, all, document, or a dotted path such as my_package.my_module.MyPlugin"
    )


# Mistakes in YAML, by file and line

YAML_MISTAKES = [
    ("train:\n  epochs: x\n", "my.yaml:2: train.epochs: found 'x', expected a whole number"),
    ("train: {batch_size: 4,\n  epochs: 2.5}\n", "my.yaml:2: train.epochs: found '2.5', expected a whole number"),
    ("train.epochs: x\n", "my.yaml:1: train.epochs: found 'x', expected a whole number"),
    ("train:\n  epochs: null\n", "my.yaml:2: train.epochs: found 'None', expected a whole number"),
    ("train:\n  learning_rate: 1e-3x\n", "my.yaml:2: train.learning_rate: found '1e-3x', expected a number or null"),
    (
        "train:\n\n  schedule: cosine\n",
        "my.yaml:3: train.schedule: found 'cosine', expected one of linear, constant",
    ),
    (
        "run:\n  log_level: warn\n",
        "my.yaml:2: run.log_level: found 'warn', expected one of debug, info, warning, error; did you mean 'warning'?",
    ),
    ("run:\n  dir: 2024\n", "my.yaml:2: run.dir: found '2024', expected text or null"),
    ("data:\n  labels: [0, 1]\n", "my.yaml:2: data.labels: found '[0, 1]', expected text or null"),
    ("train:\n  epoch: 3\n", "my.yaml:2: train.epoch: no such setting; did you mean train.epochs?"),
    ("trian:\n  epochs: 3\n", "my.yaml:2: trian.epochs: no such setting; did you mean train.epochs?"),
    ("epochs: 3\n", "my.yaml:1: epochs: no such setting; did you mean train.epochs?"),
    ("train:\n  epochs:\n    most: 3\n", "my.yaml:3: train.epochs.most: no such setting; did you mean train.epochs?"),
    ("config: other.yaml\n", "my.yaml:1: config: no such setting; see --help"),
    ("train: 3\n", "my.yaml:1: train: found 3, expected settings below it"),
    ("- train\n", "my.yaml: found ['train'], expected settings such as 'train: {epochs: 3}'"),
    ("train\n", "my.yaml: found 'train', expected settings such as 'train: {epochs: 3}'"),
    ("train:\n  epochs: 3\n  epochs: 4\n", "my.yaml:3: not YAML: 'epochs' is given twice"),
    ("run: {}\ntrain: {}\nrun: {}\n", "my.yaml:3: not YAML: 'run' is given twice"),
    ("train: {\n", "my.yaml:2: not YAML: expected the node content, but found '<stream end>'"),
    ("a: b: c\n", "my.yaml:1: not YAML: mapping values are not allowed here"),
    ("train:\n\tepochs: 3\n", "my.yaml:2: not YAML: found character '\\t' that cannot start any token"),
    (
        "run:\n  dir: !!python/object:os.system x\n",
        "my.yaml:2: not YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system'",
    ),
    (
        "run:\n  dir: !!binary aGVsbG8=\n",
        "my.yaml:2: not YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:binary'",
    ),
    (
        "run:\n  dir: \0\n",
        "my.yaml: not YAML: unacceptable character #x0000: special characters are not allowed "
        'in "<unicode string>", position 12',
    ),
    ("train: " + "[" * 5000, "my.yaml: not YAML: maximum recursion depth exceeded"),
    (
        "alignment: frist\n",
        "my.yaml:1: alignment: 'frist' is no built-in plugin (did you mean 'first'?); "
        "expected first, all, document, or a dotted path such as my_package.my_module.MyPlugin",
    ),
    (
        "train: {}\nalignment: no_such.Thing\n",
        "my.yaml:2: alignment: can't import 'no_such': ModuleNotFoundError: No module named 'no_such'",
    ),
    (
        "alignment: 3\n",
        "my.yaml:1: alignment: found 3, expected a name, or {class_path: my_module.MyPlugin, my_option: 1}",
    ),
    (
        "alignment: all\nalignment.stride: 8\n",
        "my.yaml:2: alignment.stride: found beside the plugin, expected below it: "
        "alignment: {class_path: my_module.MyPlugin, my_option: 1}",
    ),
    ("alignment.class_path: all\n", "my.yaml:1: alignment.class_path: found beside the plugin, expected below it: "),
    ("objective:\n  gamma: 2\n", "my.yaml:2: objective cross_entropy has no option gamma; its options: class_weights"),
    (
        "alignment:\n  init_args: 3\n",
        "my.yaml:1: alignment: found {'init_args': 3}, expected a name, or {class_path: my_module.MyPlugin, ",
    ),
    ("alignment:\n  strid: 8\n", "my.yaml:2: alignment.strid: no such setting; did you mean alignment.stride?"),
    (
        "alignment:\n  class_path: all\n  init_args:\n    stride: x\n",
        "my.yaml:4: alignment.stride: found 'x', expected a whole number or null",
    ),
    (
        "alignment:\n  class_path: all\n  stride: x\n",
        "my.yaml:3: alignment.stride: found 'x', expected a whole number or null",
    ),
]


@pytest.mark.parametrize(("text", "expected"), YAML_MISTAKES, ids=[text[:40] for text, _ in YAML_MISTAKES])
def test_a_mistake_in_yaml_is_told_in_one_line(write, text, expected):
    assert message("--config", write(text)).startswith(expected)
    assert len(message("--config", write(text))) < len(expected) + 80


def test_a_mistake_in_the_first_of_two_files_names_that_file(write):
    one, two = write("train:\n  epochs: x\n", "one.yaml"), write("train:\n  batch_size: 3\n", "two.yaml")
    assert message("--config", one, "--config", two) == "one.yaml:2: train.epochs: found 'x', expected a whole number"


def test_aliases_are_refused_lest_a_few_lines_stand_for_billions(write):
    file = write("data:\n  labels: &a [x]\n  train: *a\n")
    assert message("--config", file) == "my.yaml:3: not YAML: found the alias *a, expected the value itself"


@pytest.mark.parametrize("text", ["12:30", "010", "0x10", "0b_"])
def test_what_only_yaml_1_1_takes_for_a_number_stays_text(write, text):
    assert parse(["--config", write(f"run:\n  dir: {text}\n")]).run.dir == text


def test_text_that_no_file_can_hold_is_refused(write):
    expected = "expected text that UTF-8 can hold"
    file = write('run:\n  dir: "a\\0b"\n')
    assert message("--config", file) == rf"my.yaml:2: run.dir: found 'a\x00b', {expected}"
    assert message("--data.train", "caf\udce9") == rf"data.train: found 'caf\udce9', {expected}"


def test_yaml_that_is_not_utf_8_is_refused(write):
    assert message("--config", write(b"run:\n  dir: caf\xe9\n")) == "--config my.yaml: can't be read: not UTF-8 text"


# The command itself


def run(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, encoding="utf-8", timeout=120, check=False, cwd=cwd
    )


def test_print_config_gives_back_the_same_settings(write, tmp_path):
    argv = [
        *("--alignment", "all", "--alignment.stride", "16", "--train.learning_rate", "3e-5", "--run.dir", "🚀 no"),
        *("--train.mixed_precision", "no", "--data.labels", "[O, B-X]", "--data.token_column", "0"),
        *("--data.train", "[a.conll, b.conll]", "--model.name_or_path", "off", "--model.dropout", "0.1"),
    ]
    printed = run("-m", "nerloop.train", *argv, "--print_config=comments", cwd=tmp_path)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "# passes over the training split" in printed.stdout
    config = parse(argv)
    assert config.train.learning_rate == 3e-5
    assert parse(["--config", write(printed.stdout)]) == config


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['nerloop.train', '--help']\n"
        "try:\n"
        "    runpy.run_module('nerloop.train', run_name='__main__')\n"
        "except SystemExit as error:\n"
        "    print('code', error.code)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'tensorboard', 'sklearn', 'tokenizers'}\n"
        "print('heavy', sorted(heavy & set(sys.modules)), 'jsonargparse' in sys.modules)\n"
    )
    helped = run("-c", code, cwd=tmp_path)
    assert helped.stderr == ""
    assert "--train.learning_rate LEARNING_RATE" in helped.stdout
    assert helped.stdout.splitlines()[-2:] == ["code 0", "heavy [] True"]


def test_a_bad_flag_ends_the_command_with_one_line_and_code_2(tmp_path):
    ended = run("-m", "nerloop.train", "--train.epoch", "3", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "nerloop: error: --train.epoch: no such setting; did you mean --train.epochs?\n"
    assert list(tmp_path.iterdir()) == []
