"""The README files: commands have flags that exist and run as written, code runs, tables are complete.

Blocks of ```bash and ```python are taken from every README.md. A comment before a block says why no test runs it:
`<!-- needs: gpu -->` (or network, slurm, machines ...) or `<!-- slow -->` (minutes to hours). Its flags are checked all
the same. A ```python block whose first line is `# name.py` is saved under that name for the commands after it.
"""

import ast
import json
import math
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from nerloop import contracts, demo
from nerloop.config import Config, Plugin, TrainSettings
from nerloop.plugins import BUILT_IN, find, options_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^<!-- (?P<mark>.+?) -->\n)?^```(?P<language>bash|python)\n(?P<text>.*?)^```$", re.DOTALL | re.M)
MARK = re.compile(r"needs: \w+|slow")


class Block(NamedTuple):
    """A code block of a README.md."""

    file: str  # relative to the repository
    line: int
    language: str
    text: str
    mark: str  # why no test runs it; "" for one that is run

    @property
    def module(self) -> str:
        """The name of the file that the block is to be saved as, without .py; "" where it is a script."""
        found = re.match(r"# (\w+)\.py\n", self.text) if self.language == "python" else None
        return found[1] if found else ""


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            str(path.relative_to(ROOT)),
            text[: m.start("text")].count("\n") + 1,
            m["language"],
            m["text"],
            m["mark"] or "",
        )
        for m in BLOCK.finditer(text)
    ]


FOLDERS = ("nerloop", "launch", "tests")
FILES = [ROOT / "README.md", ROOT / "runs" / "README.md"]  # runs/ has folders that are no part of the repository
FILES += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md"))
BLOCKS = [block for path in FILES for block in blocks_of(path)]


def calls_of(text: str) -> list[list[str]]:
    """Return the words of each call of nerloop's commands and scripts in a shell text, from its name on.

    "a | python -m nerloop.predict --model x" -> [["nerloop.predict", "--model", "x"]]
    """
    calls = []
    lexer = shlex.shlex(re.sub(r"#.*", "", text.replace("\\\n", " ")), posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    call: list[str] = []
    for word in [*lexer, "\n"]:
        if set(word) <= set("|&;<>\n"):
            starts = [i for i, w in enumerate(call) if re.fullmatch(r"nerloop\.\w+|tests/benchmarks/\w+\.py", w)]
            calls += [call[starts[0] :]] if starts else []
            call = []
        else:
            call.append(word)
    return calls


def test_calls_of_a_shell_text_are_found_with_their_words():
    text = """pip install . && accelerate launch -m nerloop.train --a 1 \\
        --b 'x y'
    echo A | python -m nerloop.predict > x
    python tests/benchmarks/distill.py --seeds 1 2  # a comment
    """
    assert calls_of(text) == [
        ["nerloop.train", "--a", "1", "--b", "x y"],
        ["nerloop.predict"],
        ["tests/benchmarks/distill.py", "--seeds", "1", "2"],
    ]


def test_there_are_readmes_and_commands_to_look_at():
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert {"README.md", "runs/README.md", "tests/benchmarks/README.md", "nerloop/alignment/README.md"} <= names
    assert sum(block.language == "bash" for block in BLOCKS) > 15
    assert sum(len(calls_of(block.text)) for block in BLOCKS if block.language == "bash") > 20
    assert {block.mark for block in BLOCKS} >= {"", "slow", "needs: network", "needs: gpu"}
    fences = sum(len(re.findall(r"^```(?:bash|python)$", path.read_text(encoding="utf-8"), re.M)) for path in FILES)
    assert len(BLOCKS) == fences, "a block that the pattern misses"
    for block in BLOCKS:
        assert not block.mark or MARK.fullmatch(block.mark), f"{block.file}:{block.line}: {block.mark}"


# Flags


@cache
def flags_of(command: str) -> set[str]:
    """Return the flags of a command by its --help, those of a benchmark by its source: some take seconds to import."""
    if not command.endswith(".py"):
        done = subprocess.run(
            [sys.executable, "-m", command, "--help"], capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stderr
        return set(re.findall(r"--[\w-]+", done.stdout))
    flags = {"--help"}
    for node in ast.walk(ast.parse((ROOT / command).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "benchmark_parser":
                flags |= {"--model", "--data", "--json", *(f"--{keyword.arg}" for keyword in node.keywords)}
            elif name.endswith(".add_argument"):
                flags |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    assert len(flags) > 2
    return flags


def environment() -> dict[str, str]:
    bin_folder = Path(sys.executable).parent  # where accelerate is, too
    return os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }


def settings_of(call: list[str]) -> set[str]:
    """Return the names of the flags that a call of nerloop.train may have."""
    names = {"config", "print_config", "help", *Config().to_flat(), *BUILT_IN}
    for kind, built_in in BUILT_IN.items():
        chosen = [call[i + 1] for i, word in enumerate(call) if word == f"--{kind}"]
        for name in chosen or built_in:
            names |= {f"{kind}.{option}" for option in options_of(find(kind, name))}
    return names


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "bash"], ids=lambda block: f"{block.file}:{block.line}"
)
def test_the_flags_of_a_block_exist(block, tmp_path, monkeypatch):
    save_modules(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for command, *words in calls_of(block.text):
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        is_train = command == "nerloop.train"
        known = {f"--{name}" for name in settings_of(words)} if is_train else flags_of(command)
        assert set(flags) <= known, f"{block.file}:{block.line}: {command}"


def save_modules(folder: Path) -> None:
    for block in BLOCKS:
        if block.module:
            (folder / f"{block.module}.py").write_text(block.text, encoding="utf-8")


# Runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory, files, tiny_model) -> Path:
    """Return the folder that the blocks are run in: it has what they name, with small contents."""
    folder = tmp_path_factory.mktemp("readme")
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test"), ("test", "new")):
        (folder / f"{name}.conll").write_bytes(Path(files[split]).read_bytes())
    value = {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}
    result = [{"type": "labels", "from_name": "label", "to_name": "text", "value": value}]
    task = {"id": 1, "data": {"text": "Anna flew to Paris."}, "annotations": [{"id": 1, "result": result}]}
    (folder / "export.json").write_text(json.dumps([task]))
    (folder / "annotated").mkdir()
    (folder / "annotated" / "a.txt").write_text("Anna flew to Paris.")
    (folder / "annotated" / "a.ann").write_text("T1\tPER 0 4\tAnna\n")
    links = {"launch": ROOT / "launch", "tests": ROOT / "tests"}
    links["bert-base-cased"] = Path(tiny_model)  # a folder wins over the hub's model of that name
    for name, target in links.items():
        (folder / name).symlink_to(target)
    save_modules(folder)
    return folder


def is_run(block: Block) -> bool:
    has_data = Path(os.environ.get("NERLOOP_DATA") or ROOT.parent / "shared" / "data").is_dir()
    return not block.module and (not block.mark or (block.mark == "needs: data" and has_data))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_blocks_run_as_written(folder):
    """The blocks of README.md come first: those of other files use the model that they train."""
    to_run = sorted(filter(is_run, BLOCKS), key=lambda block: block.file != "README.md")
    assert len(to_run) > 5
    for block in to_run:
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*command, block.text], cwd=folder, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{block.file}:{block.line}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    assert (folder / "runs" / "mine" / "model" / "nerloop.json").is_file()
    assert (folder / "my.yaml").read_text().count("#") > 30  # settings with comments


# Plugins


def is_short(name: str) -> bool:
    (block,) = [block for block in BLOCKS if block.module == name]
    return len([line for line in block.text.splitlines() if line.strip()]) <= 15


def train_two_steps(config: Config, **settings: Any) -> dict[str, Any]:
    from nerloop.train import train

    results: dict[str, Any] = train(replace(config, train=TrainSettings(max_steps=2, batch_size=4), **settings))
    return results


def test_the_alignment_is_short_passes_the_contract_and_trains(config, tmp_path, monkeypatch):
    save_modules(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find("alignment", "my_alignment.Clipped")
    assert is_short("my_alignment")
    assert options_of(found) == ["letters", "max_length"]
    contracts.check_alignment(found, demo.build_tokenizer(demo.splits()["train"][:300]), ["O", "B-PER", "I-PER"])
    results = train_two_steps(config, alignment=Plugin("my_alignment.Clipped", {"letters": 12}))
    assert results["alignment"] == "my_alignment.Clipped"


def test_the_focal_loss_is_short_and_trains(config, tmp_path, monkeypatch):
    save_modules(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_short("my_objective")
    assert options_of(find("objective", "my_objective.Focal")) == ["gamma"]
    results = train_two_steps(config, objective=Plugin("my_objective.Focal", {"gamma": 1.5}))
    assert results["steps"] == 2


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_focal_loss_weighs_each_label_by_how_unsure_the_model_is(gamma, tmp_path, monkeypatch):
    save_modules(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # Probabilities 0.9 and 0.5 of the right label; the third subword has none.
    logits = torch.log(torch.tensor([[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]]))
    batch = SimpleNamespace(labels=torch.tensor([[0, 1, -100]]))
    loss = find("objective", "my_objective.Focal")(["O", "B-PER"], gamma=gamma).loss(logits, batch)
    expected = -(0.1**gamma * math.log(0.9) + 0.5**gamma * math.log(0.5))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


# Tables


def test_every_entry_of_the_package_is_in_the_readme_and_no_other():
    table = README.split("| in `nerloop/` | contents |")[1].split("\n\n")[0]
    cells = "".join(row.split("|")[1] for row in table.splitlines()[2:])
    named = re.findall(r"`(\w+)(?:\.py|/)`", cells)
    there = {p.stem for p in (ROOT / "nerloop").iterdir() if p.suffix in ("", ".py")} - {"__init__", "__pycache__"}
    assert len(there) > 20
    assert sorted(named) == sorted(there)


def test_every_setting_of_the_readme_exists():
    table = README.split("| setting | default | meaning |")[1].split("\n\n")[0]
    names = [n for row in table.splitlines()[2:] for n in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    assert len(names) > 15
    for name in names:
        assert name in Config().to_flat() or name in BUILT_IN, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        if file.startswith("http"):
            continue
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert heading in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], target


def test_links_are_there():
    assert len(re.findall(r"\]\(([^)\s]+)\)", README)) > 8
