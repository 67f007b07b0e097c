"""What several tests need: no network, the folder of real annotated text, tiny tokenizers and models."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import string
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from nerloop import demo
from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
from nerloop.data.escapes import escape
from nerloop.types import Example

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of as many processes as there are cores
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch, which reads it once
else:  # the workers inherit the cache, so that one of them compiles the kernels for all
    os.environ["NERLOOP_CACHE"] = tempfile.mkdtemp(prefix="nerloop-cache-")
    atexit.register(shutil.rmtree, os.environ["NERLOOP_CACHE"], ignore_errors=True)
# A shell's background job ignores Ctrl-C, and so would the processes that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir(), "nerloop-hypothesis")))

ROOT = Path(__file__).resolve().parents[1]

# The same examples in each run, so that a failure is somebody's change; nothing is left in the working tree.
settings.register_profile("nerloop", derandomize=True, database=None, deadline=None)
settings.load_profile("nerloop")
if hasattr(providers, "_get_local_constants"):
    # It would also draw constants of the modules that are loaded, so the examples would differ with the tests before.
    providers._get_local_constants = providers.Constants  # type: ignore[attr-defined]


MAX_WORKERS = 8  # each takes about 0.5 GB of memory and some seconds of imports


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes `-n auto` starts: one a core; none for `-s` or where each test is named."""
    if config.getoption("capture") == "no" or all("::" in argument for argument in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(cores, MAX_WORKERS)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real annotated text: NERLOOP_DATA, else shared/data beside the repository.

    Without it tests are skipped, or fail where NERLOOP_REQUIRE_DATA=1 says that it has to be there.
    """
    folder = Path(os.environ.get("NERLOOP_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"no folder {folder}: set NERLOOP_DATA to the one with wikigold and wnut17"
        if os.environ.get("NERLOOP_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def with_kernels() -> None:
    """Skip where there is no compiler for the kernels; where there is one, what they fail with is to be seen."""
    if sys.platform != "linux" or shutil.which("cc") is None or os.environ.get("NERLOOP_KERNELS") == "off":
        pytest.skip("no C compiler on this machine, or not wanted")


LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = string.ascii_letters + string.digits + ".,-'"
# Sizes by every name that transformers has for them; a configuration takes those it knows.
TINY = {
    "hidden_size": 32, "d_model": 32, "dim": 32, "embedding_size": 32, "num_hidden_layers": 2, "num_layers": 2,
    "n_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "num_heads": 2, "n_heads": 2,
    "intermediate_size": 64, "hidden_dim": 64, "d_ff": 64, "d_kv": 16, "head_dim": 16, "max_position_embeddings": 512,
    "true_hidden_size": 32, "intra_bottleneck_size": 32, "entity_vocab_size": 8, "entity_emb_size": 8,
}  # fmt: skip


@pytest.fixture(scope="session")
def wordpiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a BERT tokenizer that knows a few words, Bru ##ssels, and single characters."""
    from transformers import BertTokenizerFast

    words = ("Bru", "##ssels", "New", "York", "is", "big", "lives", "in", "Anna")
    vocab = [*SPECIAL, *words, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
    folder = tmp_path_factory.mktemp("wordpiece")
    tokenizer = BertTokenizerFast(vocab={w: i for i, w in enumerate(vocab)}, do_lower_case=False, model_max_length=512)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture
def wordpiece(wordpiece_folder: Path):
    """Return that tokenizer, fresh."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(wordpiece_folder))


@pytest.fixture(scope="session")
def make_byte_level():
    """Return a function that makes RoBERTa's tokenizer of single bytes and New, with and without a space before it."""

    def make(*, add_prefix_space: bool):
        from tokenizers import pre_tokenizers
        from transformers import RobertaTokenizerFast

        special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        vocab = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ne", "New", "ĠNew"]
        return RobertaTokenizerFast(
            vocab={w: i for i, w in enumerate(vocab)},
            merges=[("N", "e"), ("Ne", "w"), ("Ġ", "New")],
            add_prefix_space=add_prefix_space,
            model_max_length=512,
        )

    return make


@pytest.fixture
def byte_level(make_byte_level, tmp_path_factory: pytest.TempPathFactory):
    """Return RoBERTa's tokenizer as it is right for words, read from a folder."""
    from transformers import AutoTokenizer

    folder = str(tmp_path_factory.mktemp("byte_level"))
    make_byte_level(add_prefix_space=True).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def build_tiny_model(kind: str = "bert", labels: Sequence[str] = LABELS, **options):
    """Return a tiny model of some architecture with large random weights, in eval mode."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    default = AutoConfig.for_model(kind)
    known = {**default.to_dict(), **getattr(default, "attribute_map", {})}
    names = {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    sizes = {"vocab_size": 300, **{name: size for name, size in TINY.items() if name in known}}
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(AutoConfig.for_model(kind, **{**sizes, **names, **options}))
    with torch.no_grad():  # as they come, they are so small that all logits are about equal
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:  # not: sinusoidal positions
                parameter.normal_(0, 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def make_model():
    """Return `build_tiny_model`."""
    return build_tiny_model


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
def config(tiny_model: str, files: dict[str, Any], tmp_path: Path) -> Config:
    """Return the settings of a training of 14 steps on those files; change them with dataclasses.replace."""
    return Config(
        model=ModelSettings(name_or_path=tiny_model),
        data=DataSettings(**files),
        train=TrainSettings(epochs=2, batch_size=8, learning_rate=3e-3),
        run=RunSettings(dir=str(tmp_path / "run"), log_every=5, log_level="warning"),
    )


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it but the test."""


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs a training until it dies in the middle of a step, after `at_step` whole ones."""
    from nerloop.train import train
    from nerloop.training import training as setup

    def run(config: Config, *, at_step: int) -> None:
        def seed(seed, step, process):
            if step == at_step:
                raise Killed
            return own_seed(seed, step, process)

        own_seed = setup.dropout_seed  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(setup, "dropout_seed", seed)
            with pytest.raises(Killed):
                train(config)

    return run


@pytest.fixture(scope="session")
def finding_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: str, files: dict[str, Any]) -> Path:
    """Return the folder of a model that was trained on those files and finds some entities. Change a copy of it."""
    from nerloop.train import train

    run = tmp_path_factory.mktemp("finding") / "run"
    train(
        Config(
            model=ModelSettings(name_or_path=tiny_model),
            data=DataSettings(**files),
            train=TrainSettings(epochs=9, batch_size=8, learning_rate=1e-2),
            run=RunSettings(dir=str(run), log_level="error", score_pipeline=0),
        )
    )
    return run / "model"


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Return pytest's own, which hears nerloop also where a training in this process turned that off."""
    monkeypatch.setattr(logging.getLogger("nerloop"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nerloop")
    return caplog


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs a command's `main` with flags and returns its exit code."""

    def run(main: Callable[[], None], *flags: str) -> int:
        monkeypatch.setattr(sys, "argv", ["x", *flags])
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    return run


@pytest.fixture
def run_main(exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command's `main` with flags: exit code, standard output and error."""
    return lambda main, *flags: (exit_code(main, *flags), *capsys.readouterr())


@pytest.fixture(scope="session")
def recorded_graphs() -> type:
    """Return Graphs that need no GPU: they record by calling the work, and replay it by calling it again."""
    from nerloop.optim.cuda_graphs import Graphs

    class Recorded(Graphs):
        recordings = 0

        def _record(self, work):
            self.recordings += 1
            work()  # for what it sets; a GPU computes nothing while it records
            return work

    return Recorded


@pytest.fixture
def make_tiny_model():
    return save_tiny_model
