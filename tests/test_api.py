"""nerloop.train and nerloop.load from Python: the same as the commands, and the process stays as it was."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import nerloop

TEXT = "Anna Smith flew to Preston .\n\nJudge Preston of Vellingby jailed a sailor of Quillon Motors ."


def test_the_public_names_are_these():
    assert sorted(nerloop.__all__) == ["Config", "__version__", "load", "train"]
    assert all(getattr(nerloop, name) is not None for name in nerloop.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        nerloop.fit  # noqa: B018


def test_importing_nerloop_imports_no_torch():
    command = "import nerloop, sys; assert nerloop.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0


def test_train_can_be_called_once_its_module_has_been_imported():
    command = "import sys; from nerloop.train import train; import nerloop; sys.exit(not callable(nerloop.train))"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0


def test_entities_are_those_that_predict_finds(finding_model, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT + "\n")
    command = [
        sys.executable,
        "-m",
        "nerloop.predict",
        "--model",
        str(finding_model),
        "--format",
        "text",
        "--output_format",
        "jsonl",
    ]
    done = subprocess.run([*command, str(tmp_path / "a.txt")], capture_output=True, text=True, check=True)
    predicted = [span for line in done.stdout.splitlines() for span in json.loads(line)["spans"]]
    found = nerloop.load(finding_model).tag(TEXT)
    assert len(found) > 0
    assert [(e["type"], e["confidence"]) for e in found] == [(s["type"], s["confidence"]) for s in predicted]
    assert [" ".join(e["text"].split()) for e in found] == [s["text"] for s in predicted]
    assert all(TEXT[e["start"] : e["end"]] == e["text"] for e in found)


def test_texts_and_token_lists_give_a_list_each(finding_model):
    tagger = nerloop.load(str(finding_model))
    line = TEXT.split("\n")[2]
    of_text, of_tokens, of_nothing = tagger.tag([line, line.split(" "), ""])
    assert len(of_text) > 0
    assert of_text == of_tokens == tagger.tag(line)
    assert of_nothing == []
    assert tagger.tag([]) == []
    assert tagger.tag([[]]) == [[]]


@pytest.mark.parametrize(
    ("what", "found"),
    [(None, "None"), (b"ab", "97"), ([[1]], "[1]"), (["a", None], "None"), ([["a", ["b"]]], "['a', ['b']]")],
)
def test_what_is_no_text_is_one_line(finding_model, what, found):
    from nerloop.errors import DataError

    with pytest.raises(DataError) as caught:
        nerloop.load(finding_model).tag(what)
    assert str(caught.value) == f"found {found}, expected a text, or a list of texts or of token lists"


@pytest.mark.parametrize("texts", ["a\ud83d", ["fine", ["a", "\ud83d"]]])
def test_half_a_surrogate_pair_is_one_line(finding_model, texts):
    from nerloop.errors import DataError

    with pytest.raises(DataError, match=r"^text [01]: half a surrogate pair is no character$"):
        nerloop.load(finding_model).tag(texts)


def test_a_folder_without_a_model_is_one_line(tmp_path):
    from nerloop.errors import ModelError

    with pytest.raises(ModelError, match=r"nerloop.json: can't be read; expected a model folder that nerloop saved$"):
        nerloop.load(tmp_path)


def test_a_folder_that_is_not_there_is_one_line_without_a_flag():
    from nerloop.errors import ModelError

    with pytest.raises(ModelError, match=r"^model nope: no such folder$"):
        nerloop.load("nope")


def test_training_without_a_config_is_one_line_that_says_how_to_read_a_file():
    from nerloop.errors import ConfigError

    with pytest.raises(ConfigError, match=r"^found 'my.yaml', expected a nerloop.Config; nerloop.config.parse.parse"):
        nerloop.train("my.yaml")  # type: ignore[arg-type]


def test_training_leaves_the_process_as_it_was(config, capfd):
    def state() -> list[object]:
        logger = logging.getLogger("nerloop")
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
        return [
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), logger.handlers[:], logger.propagate,
            logger.level, logging.getLogger().handlers[:], *(signal.getsignal(number) for number in numbers),
        ]  # fmt: skip

    torch.set_num_threads(3)
    before = state()
    config = replace(config, train=replace(config.train, deterministic=True, max_steps=2))
    results = nerloop.train(config)
    assert results["steps"] == 2
    assert state() == before
    assert capfd.readouterr().out == ""
