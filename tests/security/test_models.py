"""A model's folder: no pickle but of tensors, no code unasked, no kernels of the hub."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch

import nerloop
from nerloop import push
from nerloop.config import ModelSettings
from nerloop.config.parse import parse
from nerloop.errors import ModelError, PluginError
from nerloop.model.load import load_model, load_saved, load_tokenizer
from nerloop.model.saved import KINDS, SavedModel

train_module = importlib.import_module("nerloop.train")  # its name is also that of its function


def test_the_trap_snaps_where_a_pickle_is_read(trap, mark):
    for read in (pickle.loads, lambda b: torch.load(io.BytesIO(b), weights_only=False)):
        buffer = io.BytesIO()
        torch.save({"weight": trap}, buffer)
        read(pickle.dumps(trap) if read is pickle.loads else buffer.getvalue())
        assert mark.exists()
        mark.unlink()


def load(folder: Path, **options):
    """Return the model of a folder, loaded as training loads it."""
    settings = ModelSettings(name_or_path=str(folder), **options)
    return load_model(settings, ("O", "B-X"), load_tokenizer(settings))


def as_pickle(folder: Path, name: str, content: object) -> None:
    """Put a file that torch.save writes where model.safetensors was."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    torch.save(content, folder / name)


def as_shards(folder: Path, content: object) -> None:
    as_pickle(folder, "pytorch_model-00001-of-00001.bin", content)
    index = {"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def as_raw_pickle(folder: Path, content: object) -> None:
    as_pickle(folder, "pytorch_model.bin", {})
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))


TRAPPED = {
    "a zip": lambda folder, trap: as_pickle(folder, "pytorch_model.bin", {"classifier.weight": trap}),
    "a raw pickle": as_raw_pickle,
    "a shard": lambda folder, trap: as_shards(folder, {"classifier.weight": trap}),
}


@pytest.mark.parametrize("kind", TRAPPED)
def test_weights_that_are_a_pickle_of_more_than_tensors_are_one_line(saved, trap, mark, kind):
    TRAPPED[kind](saved, trap)
    with pytest.raises(ModelError) as caught:
        load(saved)
    assert not mark.exists()
    assert str(caught.value) == (
        f"model.name_or_path {saved}: can't load the model: its weights are a pickle that holds more than tensors, "
        "which may run code; expected model.safetensors"
    )
    with pytest.raises(ModelError, match="a pickle that holds more than tensors"):
        load_saved(ModelSettings(name_or_path=str(saved)), load_tokenizer(ModelSettings(name_or_path=str(saved))))
    assert not mark.exists()


def test_a_pickle_of_tensors_is_read_with_weights_only(saved, make_model):
    """As many older models of the hub have it; torch's weights_only reader makes nothing but tensors of it."""
    theirs = make_model("bert").state_dict()
    as_pickle(saved, "pytorch_model.bin", dict(theirs))
    model, _ = load_saved(
        ModelSettings(name_or_path=str(saved)), load_tokenizer(ModelSettings(name_or_path=str(saved)))
    )
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_a_pickle_beside_safetensors_is_not_read(saved, trap, mark):
    weights = (saved / "model.safetensors").read_bytes()
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pkl"):
        as_pickle(saved, name, {"classifier.weight": trap})
    (saved / "model.safetensors").write_bytes(weights)
    load(saved)
    assert not mark.exists()


def test_train_says_in_one_line_that_weights_are_a_pickle(saved, trap, mark, run_train):
    as_raw_pickle(saved, trap)
    code, err = run_train()
    assert code == 2
    assert err.startswith(f"nerloop: error: model.name_or_path {saved}: can't load the model: its weights are a pickle")
    assert err.count("\n") == 1
    assert not mark.exists()


CODE = """
from pathlib import Path
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast
Path({mark!r}).touch()


class Config(BertConfig):
    model_type = "{model_type}"


class Model(BertForTokenClassification):
    config_class = Config


class Tokenizer(BertTokenizerFast):
    pass
"""


@pytest.fixture
def add_code(saved, mark, edit):
    """Return a function that puts a module into the model's folder and names it in one of its JSON files."""

    def add_code(to: str, model_type: str) -> None:
        (saved / "custom.py").write_text(CODE.format(mark=str(mark), model_type=model_type))
        if to == "config.json":
            classes = {"AutoConfig": "custom.Config", "AutoModelForTokenClassification": "custom.Model"}
            edit(saved / to, model_type=model_type, auto_map=classes)
        else:
            edit(saved / to, tokenizer_class="Tokenizer", auto_map={"AutoTokenizer": [None, "custom.Tokenizer"]})

    return add_code


@pytest.fixture
def no_prompt(monkeypatch):
    """Fail a test where somebody is asked whether code may run."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda *prompt: asked.append(prompt) or "y")
    yield
    assert asked == []


@pytest.fixture
def run_train(run_main, saved, files):
    """Return a function that runs `nerloop.train` on the saved model with flags: exit code and standard error."""
    data = [x for split, file in files.items() for x in (f"--data.{split}", file)]
    run = ["--run.dir", str(saved.parent / "run"), "--train.max_steps", "2"]

    def train(*flags: str) -> tuple[int, str]:
        code, _, err = run_main(train_module.main, "--model.name_or_path", str(saved), *data, *run, *flags)
        return code, err

    return train


@pytest.mark.usefixtures("no_prompt")
def test_code_of_a_model_is_not_run_unasked(saved, add_code, mark):
    add_code("config.json", "custom")
    with pytest.raises(ModelError) as caught:
        load(saved)
    assert not mark.exists()
    assert str(caught.value).startswith(f"model.name_or_path {saved}: can't load the ")
    assert str(caught.value).endswith("it comes with code of its own; if you trust that, set model.trust_remote_code")


@pytest.mark.usefixtures("no_prompt")
@pytest.mark.parametrize("to", ["config.json", "tokenizer_config.json"])
def test_where_transformers_has_the_class_itself_code_of_a_model_is_left_aside(saved, add_code, mark, to):
    add_code(to, "bert")
    assert type(load(saved)).__module__ == "transformers.models.bert.modeling_bert"
    assert not mark.exists()


@pytest.mark.usefixtures("no_prompt")
def test_train_says_in_one_line_that_a_model_has_code_of_its_own(saved, add_code, mark, run_train):
    add_code("config.json", "custom")
    code, err = run_train()
    assert code == 2
    assert err == (
        f"nerloop: error: model.name_or_path {saved}: can't load the model: it comes with code of its own; "
        "if you trust that, set model.trust_remote_code\n"
    )
    assert not mark.exists()


@pytest.mark.usefixtures("no_prompt")
def test_code_of_a_model_that_is_trusted_is_run_and_nerloop_says_so(
    saved, add_code, mark, run_train, monkeypatch, tmp_path
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    add_code("config.json", "custom")
    code, err = run_train("--model.trust_remote_code", "true", "--run.log_level", "warning")
    assert code == 0, err
    assert mark.exists()  # so that it would have been, where it must not
    assert err.splitlines().count(
        "warning: model.trust_remote_code is on: code that comes with the model will be run"
    ) == 1  # fmt: skip


def test_trust_is_off_by_default():
    assert parse([]).model.trust_remote_code is False


@pytest.mark.parametrize("name", ["kernels-community/flash-attn2", "somebody/kernel", "flash_attention_2"])
@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_model_can_not_have_kernels_of_the_hub_fetched_and_run(saved, edit, caplog, name, key):
    """With the package `kernels` installed, transformers would download and import them, trust_remote_code or not."""
    edit(saved / "config.json", **{key: name})
    model = load(saved)
    assert model.config._attn_implementation == "sdpa"
    assert [r.message for r in caplog.records if r.name == "nerloop.model.load" and r.levelname == "WARNING"] == [
        f"warning: config.json asks for the attention '{name}', which may be code of the hub; using torch's own"
    ]


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_model_may_choose_among_the_attentions_of_torch(saved, edit, caplog, name):
    edit(saved / "config.json", attn_implementation=name)
    assert load(saved).config._attn_implementation == name
    assert [r for r in caplog.records if r.name == "nerloop.model.load" and r.levelname == "WARNING"] == []


@pytest.fixture
def trapped(finding_model, tmp_path, mark, monkeypatch):
    """Return a function that copies a model of nerloop and lets it name a plugin whose import leaves the mark."""

    def trapped(kind: str) -> Path:
        (tmp_path / "trapped.py").write_text(
            "from pathlib import Path\nfrom nerloop.evaluators.seqeval import Seqeval\n"
            f"Path({str(mark)!r}).touch()\nclass Own(Seqeval): pass\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "trapped", raising=False)
        model = Path(shutil.copytree(finding_model, tmp_path / "model"))
        values = json.loads((model / "nerloop.json").read_text())
        values[kind]["name"] = "trapped.Own"
        (model / "nerloop.json").write_text(json.dumps(values))
        return model

    return trapped


def test_a_model_that_names_an_evaluator_tags_without_it(finding_model, trapped, mark):
    model, text = trapped("evaluator"), "Judge Preston of Vellingby jailed a sailor of Quillon Motors ."
    found = nerloop.load(model, device="cpu").tag(text)
    assert found == nerloop.load(finding_model, device="cpu").tag(text) != []
    with pytest.raises(PluginError) as caught:
        SavedModel.read(model).build_evaluator()
    assert str(caught.value) == (
        f"{model}/nerloop.json: evaluator is 'trapped.Own', which is not nerloop's code; if you trust it, say "
        "--evaluator trapped.Own (nerloop.load: plugins={'evaluator': 'trapped.Own'})"
    )
    assert not mark.exists()
    SavedModel.read(model, {"evaluator": "trapped.Own"}).build_evaluator()
    assert mark.exists()  # so that it would have been


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "evaluator"])
def test_a_model_that_names_code_to_tag_with_is_not_loaded(trapped, mark, kind):
    model = trapped(kind)
    with pytest.raises(PluginError, match=f"{kind} is 'trapped.Own', which is not nerloop's code"):
        nerloop.load(model, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_runs_no_code_that_the_model_names(trapped, mark, kind, capsys):
    push.push(push._arguments(["me/ner", "--model", str(trapped(kind)), "--dry_run"]))
    assert "nerloop.json" in capsys.readouterr().out
    assert not mark.exists()
