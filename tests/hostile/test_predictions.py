"""What is written of what was read: every token of every accepted file, once, in order, with one prediction."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from nerloop import demo
from nerloop import predict as predict_module
from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
from nerloop.data import ReadOptions, read_files
from nerloop.evaluation.prediction_files import writing_predictions
from nerloop.evaluation.predictor import Prediction
from nerloop.train import train
from nerloop.types import Example

COUNTS = {"files": 1100, "sentences": 300}
TAGS = ("O", "B-PER", "I-PER", "S-x", "E-a-b", "B-\u2028", "I-\ufeff", "B-#")
MEANING = {"s": " ", "t": "\t", "n": "\n", "r": "\r", "0": "\0", "b": "\ufeff", "\\": "\\"}


def unescape(text: str) -> str:
    """Return the token that the column form shows, by what `escape` says of it."""
    if not text.startswith("␛"):
        return text
    return re.sub(r"\\(.)", lambda found: MEANING[found[1]], text[1:], flags=re.DOTALL)


def of_conll(data: bytes) -> list[list[list[str]]]:
    """Return the rows of the column form, by sentence."""
    sentences = [part.split("\n") for part in data.decode().removesuffix("\n").split("\n\n")]
    return [[row.split(" ") for row in rows if row] for rows in sentences if any(rows)]


def of_jsonl(data: bytes) -> list[dict]:
    *lines, last = data.decode().split("\n")
    assert last == ""
    return [json.loads(line) for line in lines]


def check(
    examples: Sequence[Example], folder: Path, name: str, predicted: Sequence[Sequence[str]] | None = None
) -> None:
    """Hold both forms of written predictions against what was read, and (where given) against the predictions."""
    records = of_jsonl((folder / f"{name}.jsonl").read_bytes())
    assert [tuple(r["tokens"]) for r in records] == [e.tokens for e in examples]
    assert [tuple(r.get("gold", ())) for r in records] == [e.tags for e in examples]
    assert [len(r["tags"]) for r in records] == [len(e.tokens) for e in examples]
    if predicted is not None:
        assert [r["tags"] for r in records] == [list(tags) for tags in predicted]
    for r in records:
        for span in r["spans"]:
            assert span["text"] == " ".join(r["tokens"][span["start"] : span["end"]])
    rows = of_conll((folder / f"{name}.conll").read_bytes())
    found = [r for r in records if r["tokens"]]
    assert [[unescape(row[0]) for row in sentence] for sentence in rows] == [r["tokens"] for r in found]
    assert [[row[-1] for row in sentence] for sentence in rows] == [r["tags"] for r in found]
    assert [[row[1] for row in sentence if len(row) == 3] for sentence in rows] == [r.get("gold", []) for r in found]
    if found:  # nerloop's own readers take both
        again = read_files([str(folder / f"{name}.conll")], ReadOptions(tag_column="-1"))[0]
        assert [e.tokens for e in again] == [tuple(r["tokens"]) for r in found]
        assert [list(e.tags) for e in again] == [r["tags"] for r in found]
    again = read_files([str(folder / f"{name}.jsonl")], ReadOptions(tag_column="tags"))[0]
    assert [(list(e.tokens), list(e.tags)) for e in again] == [(r["tokens"], r["tags"]) for r in records]


def test_every_token_that_was_read_is_written_once_with_its_tag(feed, folder, tokens):
    def one(pair):
        sentences, seed = pair
        lines = [json.dumps({"tokens": [t for t, _ in s], "tags": [g for _, g in s]}) for s in sentences]
        (folder / "gold.jsonl").write_text("\n".join(lines), encoding="utf-8")
        examples, _ = read_files([str(folder / "gold.jsonl")])
        assert [e.tokens for e in examples] == [tuple(t for t, _ in s) for s in sentences]
        dice = random.Random(seed)
        predicted = [dice.choices(TAGS, k=len(e.tokens)) for e in examples]
        tagged = [Prediction({"v": tags}, np.full(len(tags), 0.5)) for tags in predicted]
        with writing_predictions(folder / "p", "v") as write:
            write(examples, tagged)
        check(examples, folder, "p", predicted)
        return any(e.tokens for e in examples)

    sentence = st.lists(st.tuples(tokens, st.sampled_from(TAGS)), max_size=4)
    files = st.tuples(st.lists(sentence, min_size=1, max_size=3), st.integers(0, 99))
    assert feed(COUNTS["files"], files, one)[True] > 800


# With a model

ODDEST = ("", "\u200e", "\ufeff", "\0", "\x85\u2028", "a b", "a\nb", "\\", "#", "-DOCSTART-", "[SEP]", "\x1b[2J")


@pytest.fixture(scope="module")
def oddest() -> list[Example]:
    """Return sentences of the demo, one of 5,000 tokens, and odd ones, a token of 100,000 characters among them."""
    plain = demo.splits()["train"][:24]
    pairs = [pair for e in plain for pair in zip(e.tokens, e.tags, strict=True)]
    long = (pairs * 5000)[:5000]
    examples = [*plain, Example(tuple(t for t, _ in long), tuple(g for _, g in long))]
    examples += [Example((token,), ("B-PER",)) for token in ODDEST]
    return [*examples, Example((*ODDEST, "ab." * 33_334), ("B-PER", *["I-PER"] * len(ODDEST))), Example(())]


@pytest.fixture(scope="module")
def run(oddest, tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training on those, with the same sentences held out."""
    folder = tmp_path_factory.mktemp("oddest")
    lines = [json.dumps({"tokens": e.tokens, "tags": e.tags}) + "\n" for e in oddest]
    path = folder / "gold.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    config = Config(
        model=ModelSettings(name_or_path=tiny_model),
        data=DataSettings(train=str(path), validation=str(path)),
        train=TrainSettings(max_steps=2, batch_size=16, learning_rate=3e-3),
        run=RunSettings(dir=str(folder / "run"), log_level="warning"),
    )
    results = train(config)
    num_tokens = sum(len(e.tokens) for e in oddest)
    assert results["validation"]["best"]["viterbi"]["tokens"] == num_tokens > 5000
    return folder / "run"


@pytest.mark.timeout(120)
def test_a_run_on_the_oddest_sentences_predicts_each_of_their_tokens_once(run, oddest):
    check(oddest, run, "predictions.validation")


@pytest.mark.timeout(120)
def test_predict_tags_each_token_of_any_sentence_once(feed, run, tokens, exit_code, tmp_path):
    sentences: list[list[str]] = []
    feed(COUNTS["sentences"], st.lists(tokens, max_size=8), sentences.append)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"words": s}) + "\n" for s in sentences), encoding="utf-8")
    for form in ("jsonl", "conll"):
        output = ("--output_format", form, "--output", str(tmp_path / f"out.{form}"))
        assert exit_code(predict_module.main, "--model", str(run / "model"), str(source), *output) == 0
    check([Example(tuple(s)) for s in sentences], tmp_path, "out")
    assert sum(map(len, sentences)) > len(sentences)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", ["a b\n" * 5000, "a " * 5000, "ab." * 33_334, "x" * 1_000_000 + "\n", "\ufeffOslo\n"])
def test_predict_takes_plain_text_of_any_length(run, exit_code, tmp_path, text):
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text(text, encoding="utf-8")
    flags = ("--format", "text", "--output_format", "jsonl", "--output", str(output))
    assert exit_code(predict_module.main, "--model", str(run / "model"), str(source), *flags) == 0
    records = of_jsonl(output.read_bytes())
    assert [len(r["tags"]) for r in records] == [len(r["tokens"]) for r in records]
    assert "".join(t for r in records for t in r["tokens"]) == re.sub(r"\s", "", text.removeprefix("\ufeff"))
