"""Files that are too much of something, or no files at all: each told or read within a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, read_files
from nerloop.data.segmentation import words
from nerloop.errors import NerloopError
from nerloop.types import Example

pytestmark = pytest.mark.timeout(60)
MILLION = 1_000_000


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt) -> Callable[..., list[Example] | str]:
    """Return a function that writes a file and gives its examples, or what is said of it."""
    monkeypatch.chdir(tmp_path)

    def run(data: str | bytes | None, name: str = "x.conll", **options) -> list[Example] | str:
        if data is not None:
            Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
        found = attempt(lambda: read_files([name], ReadOptions(**options))[0])
        return str(found) if isinstance(found, NerloopError) else found

    return run


# Ten million characters in a line


@pytest.mark.slow
def test_a_token_of_ten_million_characters(read):
    token = "x" * 10 * MILLION
    assert read(f"{token} O\n") == [Example((token,), ("O",), "x.conll:1")]
    assert read(json.dumps({"tokens": [token], "tags": ["O"]}), "x.jsonl") == [Example((token,), ("O",), "x.jsonl:1")]


X = "x" * 10 * MILLION
SHORT = f"'{'x' * 55}...'"
NO_TAG = "is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"
DIGITS = (
    "JSON that can't be read: Exceeds the limit (4300 digits) for integer string conversion: "
    "value has {} digits; use sys.set_int_max_str_digits() to increase the limit"
)
LINES = [
    ("x.conll", f"{X}", f"1 column where line 1 has 2: {SHORT}. Is a column missing?"),
    ("x.conll", "x " * 5 * MILLION, f"5000000 columns where line 1 has 2: '{'x ' * 27}x...'. Is a column too many?"),
    ("x.conll", f"a {X}", f"'{'x' * 95}...' {NO_TAG}"),
    ("x.conll", f"a \0{X}", "found a NUL byte, expected text in UTF-8. Is this a binary file?"),
    ("x.jsonl", "1" * 10 * MILLION, DIGITS.format(10 * MILLION)),
    ("x.jsonl", f'{{"tokens": "{X}', "not JSON at character 12: Unterminated string starting at"),
    ("x.jsonl", f'{{"tokens": "{X}", "tags": []}}', f"'tokens' is {SHORT}, expected a list of strings"),
    (
        "x.jsonl",
        f'{{"{X}": 1}}',
        f"found no column 'tokens' or 'words'; set data.token_column to one of: {'x' * 197}...",
    ),
    ("x.jsonl", f'{{"{X}": 1, "{X}": 2}}', f"found the key {SHORT} twice in one object, expected each once"),
    ("x.jsonl", f'{{"tokens": ["a"], "tags": ["{X}"]}}', f"tags[0]: '{'x' * 95}...' {NO_TAG}"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line", "expected"), LINES, ids=[f"{name} {line[:30]}" for name, line, _ in LINES])
def test_a_line_of_ten_million_characters(read, name, line, expected):
    first = "A O\n" if name == "x.conll" else '{"tokens": ["A"], "tags": ["O"]}\n'
    assert read(f"{first}{line}\n", name) == f"{name}:2: {expected}"


@pytest.mark.slow
def test_a_tag_of_ten_million_characters(read):
    assert [e.tags for e in read(f"A B-{X}\n")] == [(f"B-{X}",)]


@pytest.mark.slow
def test_five_million_columns_without_the_one_that_is_named(read):
    header = "x " * 5 * MILLION
    expected = "x.conll:1: found no column 'word', expected a header line that names it; found 'x x x"
    assert read(f"{header}\na O\n", token_column="word").startswith(expected)


@pytest.mark.slow
def test_ten_million_blanks_and_comments(read):
    assert read(" " * 10 * MILLION + "\n#" + " x" * 5 * MILLION + "\nA O\n") == [Example(("A",), ("O",), "x.conll:3")]


@pytest.mark.slow
def test_two_million_tokens_in_a_sentence(read):
    lists = ",".join(['"x"'] * 2 * MILLION), ",".join(['"O"'] * 2 * MILLION)
    (example,) = read(f'{{"tokens": [{lists[0]}], "tags": [{lists[1]}]}}', "x.jsonl")
    assert (len(example.tokens), len(example.tags)) == (2 * MILLION, 2 * MILLION)


def test_five_thousand_tokens_in_a_sentence(read):
    (example,) = read("x O\n\u200e O\n" * 2_500)
    assert example.tokens == ("x", "\u200e") * 2_500


@pytest.mark.slow
@pytest.mark.parametrize("text", ["x" * 10 * MILLION, "a." * 5 * MILLION, "a.b-" * 2 * MILLION, "'" * MILLION])
def test_ten_million_characters_of_plain_text(text):
    assert "".join(text[start:end] for sentence in words(text) for start, end in sentence) == text


# Too deep, too many, too large


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"tokens": [', '{"tokens": ["A"], "tags": ['])
@pytest.mark.parametrize("depth", [100, 500, 900, 960, 980, 1_000, 5_000, 100_000])
def test_json_nested_deep_is_refused(read, opening, depth):
    found = read(opening * depth + "\n", "x.jsonl")
    assert isinstance(found, str)
    assert found.startswith(
        # A value may continue on further lines, so an unfinished one ends at the end of the file.
        ("x.jsonl:1: JSON that can't be read: maximum recursion", "x.jsonl:1: not JSON at ", "x.jsonl:2: not JSON: ")
    )


@pytest.mark.parametrize("depth", [100, 500, 900, 940, 960, 980, 1_000, 100_000])
@pytest.mark.parametrize("name", ["tokens", "tags", "x"])
def test_values_nested_deep_are_refused_or_passed_over(read, name, depth):
    values = {"tokens": '["A"]', "tags": '["O"]', "x": "1"} | {name: "[" * depth + "]" * depth}
    found = read("{" + ", ".join(f'"{n}": {v}' for n, v in values.items()) + "}", "x.jsonl")
    if name != "x" or depth == 100_000:
        assert isinstance(found, str)
        assert found.startswith("x.jsonl:1: ")
    elif depth < 900:
        assert found == [Example(("A",), ("O",), "x.jsonl:1")]


def test_two_hundred_thousand_keys_and_one_of_them_twice(read):
    keys = ", ".join(f'"{n}": 1' for n in [*range(200_000), 199_999])
    assert read(f"{{{keys}}}", "x.jsonl") == "x.jsonl:1: found the key '199999' twice in one object, expected each once"


LARGE = "1" * 5_000
TOO_LARGE = f"x.jsonl:1: {DIGITS.format(5_000)}"
BEYOND = f"found tag '{'1' * 55}...', expected 0 to 0: data.labels has no more"


@pytest.mark.parametrize(
    ("name", "text", "labels", "expected"),
    [
        ("x.jsonl", f'{{"tokens": ["A"], "tags": [{LARGE}]}}', None, TOO_LARGE),
        ("x.jsonl", f'{{"tokens": ["A"], "tags": [{LARGE}]}}', ["O"], TOO_LARGE),
        ("x.jsonl", f'{{"tokens": [{LARGE}], "tags": ["O"]}}', None, TOO_LARGE),
        ("x.jsonl", f'{{"tokens": ["A"], "tags": ["{LARGE}"]}}', ["O"], f"x.jsonl:1: tags[0]: {BEYOND}"),
        ("x.conll", f"A {LARGE}\n", ["O"], f"x.conll:1: {BEYOND}"),
        ("x.conll", f"A {LARGE}\n", None, f"x.conll:1: '{'1' * 95}...' {NO_TAG}"),
    ],
)  # fmt: skip
def test_an_integer_of_five_thousand_digits_is_no_tag(read, name, text, labels, expected):
    assert read(text, name, labels=labels) == expected


def test_an_integer_of_five_thousand_digits_is_a_token_like_any_other(read):
    assert read(f"{LARGE} O\n")[0].tokens == (LARGE,)
    assert read(f'{{"tokens": ["{LARGE}"], "tags": ["O"]}}', "x.jsonl")[0].tokens == (LARGE,)
    assert read(f"A O\n\n{LARGE} O\n", token_column="0", tag_column="1")[1].tokens == (LARGE,)


# Nothing in it


@pytest.mark.parametrize("name", ["x.conll", "x.jsonl", "x.txt"])
@pytest.mark.parametrize("text", ["", "\n" * 1000, "\ufeff", "\ufeff\n \t\r\n\r\n", " ", "\t"])
def test_a_file_of_blank_lines(read, name, text):
    assert read(text, name) == f"{name}: found no sentence, expected at least one. Is this the right file?"


@pytest.mark.parametrize(
    "text", ["# a\n" * 1000, "#\n", "#O\n# x", "-DOCSTART-\n\n-DOCSTART- -X- O O\n", "# a\n-DOCSTART- O\n"]
)
def test_a_file_of_comments(read, text):
    assert read(text) == "x.conll: found no sentence, expected at least one. Is this the right file?"


# No file


@pytest.mark.parametrize("format_", ["auto", "conll", "jsonl"])
def test_what_is_no_file_is_told_and_never_waited_for(read, format_):
    Path("folder").mkdir()
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    no_file = "found a pipe or device, expected a file: it is read more than once"
    expected = {
        "folder": "folder: found a folder, expected a file (data.dataset takes a save_to_disk folder)",
        "pipe": f"pipe: {no_file}",
        "/dev/zero": f"/dev/zero: {no_file}",
        "/dev/null": f"/dev/null: {no_file}",
        "loop": "loop: can't be read: Too many levels of symbolic links",
        "none": "none: no such file",
        "x.conll/y": "x.conll/y: can't be read: Not a directory",
        "a\0b": r"a\x00b: can't be read: no file can have this name",
        "a\ud800": r"a\ud800: can't be read: no file can have this name",
        "a\nb": r"a\nb: no such file",
        "x" * 5000: f"'{'x' * 55}...': can't be read: File name too long",
        "a/" * 3000: f"'{'a/' * 27}a...': can't be read: File name too long",
    }
    Path("x.conll").write_text("A O\n")
    assert {name: read(None, name, format=format_) for name in expected} == expected


# Paths in a file

PATHS = [
    "/etc/passwd",
    "file:///etc/passwd",
    "../secret.txt",
    "secret.txt",
    "~/.netrc",
    "https://example.org/",
    "|ls",
    "*",
]
WATCH = """
import json, sys
from nerloop.data import read_files
EVENTS = {"open", "os.listdir", "os.scandir", "os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo",
          "urllib.Request", "import", "exec", "compile", "glob.glob"}
seen, names = [], sys.argv[1:]
read_files(names)  # imports are done by now
sys.addaudithook(lambda event, arguments: seen.append([event, str(arguments[0])]) if event in EVENTS else None)
found = read_files(names)[0]
tokens = [token for example in found for token in example.tokens]
print(json.dumps([seen, tokens]))
"""


def test_no_path_in_a_file_is_opened(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.txt").write_text("secret O\n")
    (tmp_path / "data" / "secret.txt").write_text("secret O\n")
    (tmp_path / "data" / "x.conll").write_text("".join(f"{path} {path} O\n" for path in PATHS))
    record = {"tokens": PATHS, "tags": ["O"] * len(PATHS), "path": "secret.txt", "$ref": "secret.txt", "file": PATHS}
    (tmp_path / "data" / "x.jsonl").write_text(json.dumps(record))
    done = subprocess.run(
        [sys.executable, "-c", WATCH, "x.conll", "x.jsonl"],
        capture_output=True, text=True, cwd=tmp_path / "data", check=True,
    )  # fmt: skip
    seen, tokens = json.loads(done.stdout)
    assert tokens == [*PATHS, *PATHS]
    assert {name for event, name in seen} == {"x.conll", "x.jsonl"}
    assert {event for event, name in seen} == {"open"}
