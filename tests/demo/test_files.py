"""The command that writes the demo to files, for the other commands to read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from nerloop.config.parse import parse
from nerloop.data import read_files
from nerloop.demo import __main__ as command
from nerloop.demo import build_tokenizer, new_encoder, splits
from nerloop.train import train


@pytest.fixture
def run(run_main, monkeypatch, tmp_path):
    """Return a function that runs the command in an empty folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    return partial(run_main, command.main)


def test_the_files_hold_the_demo_and_what_is_printed_trains_on_them(run):
    from transformers import AutoModel, AutoTokenizer

    code, out, err = run("my data/new")
    assert (code, err) == (0, "")
    assert sorted(p.name for p in Path("my data/new").iterdir()) == [
        "encoder", "test.conll", "train.conll", "validation.conll"
    ]  # fmt: skip
    for split, examples in splits().items():
        found, _ = read_files([f"my data/new/{split}.conll"])
        assert [(e.tokens, e.tags) for e in found] == [(e.tokens, e.tags) for e in examples]
    tokenizer = AutoTokenizer.from_pretrained("my data/new/encoder")
    assert tokenizer.get_vocab() == build_tokenizer(splits()["train"]).get_vocab()
    weights = AutoModel.from_pretrained("my data/new/encoder").get_input_embeddings().weight
    assert torch.equal(weights, new_encoder(tokenizer).get_input_embeddings().weight)
    words = shlex.split(out.partition("-m nerloop.train ")[2])
    config = parse([*words, "--train.max_steps", "2", "--run.dir", "run", "--data.cache_dir", "cache"])
    assert (config.learning_rate, config.data.train) == (3e-3, "my data/new/train.conll")
    named = (config.model.name_or_path, config.data.validation, config.data.test)
    assert named == tuple(f"my data/new/{name}" for name in ("encoder", "validation.conll", "test.conll"))
    fewer = replace(config.data, train=config.data.validation)
    assert train(replace(config, data=fewer))["steps"] == 2


def test_the_encoder_leaves_the_random_numbers_of_the_process_alone():
    tokenizer = build_tokenizer(splits()["train"][:50])
    torch.manual_seed(7)
    before = torch.get_rng_state()
    new_encoder(tokenizer)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_written_over(run):
    Path("test.conll").write_text("mine")
    assert run(".") == (2, "", "nerloop: error: test.conll: is there already, expected a folder without it\n")
    assert run("test.conll") == (2, "", "nerloop: error: test.conll: can't be written: File exists\n")
    assert [(p.name, p.read_text()) for p in Path().iterdir()] == [("test.conll", "mine")]


def test_help_imports_nothing_heavy():
    script = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        "try:\n    runpy.run_module('nerloop.demo', run_name='__main__')\n"
        "except SystemExit as ended:\n    print(ended.code, {'torch', 'tokenizers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n0 set()\n")
