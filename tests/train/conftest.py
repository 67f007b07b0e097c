"""A tiny encoder and small files, so that whole trainings run in seconds."""

from pathlib import Path

import pytest

from nerloop import demo
from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
from nerloop.report import escape
from nerloop.types import Example


def write_conll(path: Path, examples: list[Example]) -> str:
    path.write_text(
        "".join("".join(f"{escape(t)} {g}\n" for t, g in zip(e.tokens, e.tags, strict=True)) + "\n" for e in examples),
        encoding="utf-8",
    )
    return str(path)


def save_tiny_model(folder: Path, **options: object) -> str:
    """Save a BERT of two tiny layers with the tokenizer of the demo."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = demo.build_tokenizer(demo.splits()["train"][:300])
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                "max_position_embeddings": 64, "vocab_size": len(tokenizer)}  # fmt: skip
    BertModel(BertConfig(**settings | options)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return small files: 50 training sentences, one of them longer than the model's 64 positions, 20 held-out ones."""
    folder = tmp_path_factory.mktemp("files")
    splits = demo.splits()
    long = [t for e in splits["train"][50:60] for t in zip(e.tokens, e.tags, strict=True)]
    longest = Example(tuple(t for t, _ in long), tuple(g for _, g in long))
    return {
        "train": write_conll(folder / "train.conll", [*splits["train"][:49], longest]),
        "validation": write_conll(folder / "dev.conll", [*splits["validation"][:19], longest]),
        "test": write_conll(folder / "test.conll", splits["test"][:20]),
    }


@pytest.fixture
def config(tiny_model: str, files: dict[str, str], tmp_path: Path) -> Config:
    """Return the settings of a training of 14 steps on those files; change them with dataclasses.replace."""
    return Config(
        model=ModelSettings(name_or_path=tiny_model),
        data=DataSettings(**files),
        train=TrainSettings(epochs=2, batch_size=8, learning_rate=3e-3),
        run=RunSettings(dir=str(tmp_path / "run"), log_every=5, log_level="warning"),
    )


@pytest.fixture
def make_tiny_model():
    return save_tiny_model
