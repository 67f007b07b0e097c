"""Exports of a tiny model, in the environment of the extra `export`; those without torch hide it from a process."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nerloop
from nerloop import export as command
from nerloop.config import Config, Plugin
from nerloop.errors import ConfigError, ModelError
from nerloop.exporting import formats
from nerloop.exporting.check import Comparison
from nerloop.model.saved import SavedModel
from nerloop.tags import Scheme

TEXTS = ["Anna lives in Brussels.", "New York is big. Bru", "x", "Anna is in New York " * 200]
# Torch and accelerate can't be imported, and nobody finds them.
WITHOUT_TORCH = """
import sys
class Hiding:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in ("torch", "accelerate", "onnx", "onnxscript")
        return None if hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name): return getattr(self.finder, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def comparison(**changes) -> Comparison:
    values = {
        "sentences": 2, "tokens": 9, "logit_difference": 1e-6, "largest_logit": 5.0, "entities": 3, "same_entities": 3,
        "other_entities": 0, "confidence_difference": 0.0, "metric": "f1", "gold": "file", "before": 0.8, "after": 0.8,
        "loss": 0.0,
    }  # fmt: skip
    return Comparison(**{**values, **changes})


def test_an_export_that_loses_more_than_allowed_is_refused():
    comparison(after=0.79, loss=0.01).check(is_exact=False, max_loss=0.01)
    with pytest.raises(ModelError, match=r"loses 0\.0200 of f1 \(0\.8000 before, 0\.7800 after\)"):
        comparison(after=0.78, loss=0.02).check(is_exact=False, max_loss=0.01)


@pytest.mark.parametrize("apart", [0.1, float("nan")])
def test_only_a_quantized_export_may_differ_by_more_than_rounding(apart):
    comparison(logit_difference=apart).check(is_exact=False, max_loss=0.01)
    with pytest.raises(ModelError, match="computes something else"):
        comparison(logit_difference=apart).check(is_exact=True, max_loss=0.01)


def test_a_missing_extra_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'--to openvino needs onnx, .*openvino: pip install "nerloop\[export\]"'):
        formats.check_installed("openvino")


def test_the_command_offers_the_formats_that_there_are():
    assert set(command.FORMATS) == {*formats.FORMATS, "tf_saved_model"}
    with pytest.raises(ConfigError, match="tf_saved_model: found no converter that is exact at any length"):
        formats.check_installed("tf_saved_model")


def saved(folder: Path, backend: str) -> None:
    plugins = {"alignment": "all", "collator": "pack", "decoding": "viterbi", "evaluator": "seqeval"}
    chosen = {kind: Plugin(name) for kind, name in plugins.items()}
    replace(SavedModel.of(Config(), Scheme.IOB2, "bf16", {}), plugins=chosen, backend=backend).write(folder)


def test_a_saved_model_says_what_computes_with_it(tmp_path):
    saved(tmp_path, "torch")
    assert "backend" not in json.loads((tmp_path / "nerloop.json").read_text())
    assert not SavedModel.read(tmp_path).is_exported
    saved(tmp_path, "onnx")
    assert SavedModel.read(tmp_path).backend == "onnx"
    assert SavedModel.read(tmp_path).is_exported


def test_a_folder_can_not_choose_what_runs_it(tmp_path):
    saved(tmp_path, "pickle")
    with pytest.raises(ModelError, match="backend 'pickle'"):
        nerloop.load(tmp_path)


def test_an_export_without_its_graph_is_refused(tmp_path, make_model, wordpiece):
    wordpiece.save_pretrained(str(tmp_path))
    model = make_model()
    model.config.architectures = ["BertForTokenClassification"]
    model.config.save_pretrained(str(tmp_path))
    saved(tmp_path, "onnx")
    with pytest.raises(ModelError, match=r"model\.onnx: no such file"):
        nerloop.load(tmp_path)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_an_export_computes_on_the_cpu(tmp_path, device):
    saved(tmp_path, "onnx")
    with pytest.raises(ModelError, match="an exported model computes on the CPU"):
        nerloop.load(tmp_path, device=device)


@pytest.fixture(scope="module")
def original(wordpiece_folder, tmp_path_factory, make_model) -> Path:
    """Return the folder of a tiny model with random weights and learned transitions."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("original") / "model"
    model = make_model()
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(wordpiece_folder)).save_pretrained(str(folder))
    learned = {"transitions": np.random.RandomState(0).normal(size=(5, 5))}
    replace(SavedModel.of(Config(), Scheme.IOB2, "no", learned)).write(folder)
    return folder


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory) -> Path:
    """Return the folder of its export to ONNX."""
    return run(original, "onnx", tmp_path_factory.mktemp("exported"))


def run(original: Path, to: str, folder: Path, *flags: str) -> Path:
    """Export by the command; the sentences to check on are few, of 1 to 1,000 subwords."""
    file, out = folder / "check.txt", folder / to
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    command.export(command._arguments([str(out), "--model", str(original), "--to", to, "--check", str(file), *flags]))
    return out


@pytest.mark.extras
def test_an_export_to_onnx_finds_the_same_entities_at_any_length(original, exported):
    inputs = [*TEXTS, ["New", "York"] * 600]  # a list of tokens is one sentence, here of several windows
    expected, found = nerloop.load(original).tag(inputs), nerloop.load(exported).tag(inputs)
    assert sum(map(len, expected)) > 10
    for before, after in zip(expected, found, strict=True):
        assert after == [{**entity, "confidence": pytest.approx(entity["confidence"], abs=1e-4)} for entity in before]


# Not pytest.importorskip: it would import OpenVINO with its reports to Intel.
with_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


@with_openvino
@pytest.mark.extras
def test_an_export_to_openvino_finds_the_same_entities_at_any_length(original, tmp_path):
    expected, found = (nerloop.load(folder).tag(TEXTS) for folder in (original, run(original, "openvino", tmp_path)))
    assert sum(map(len, expected)) > 10
    for before, after in zip(expected, found, strict=True):
        assert after == [{**entity, "confidence": pytest.approx(entity["confidence"], abs=1e-4)} for entity in before]


@with_openvino
@pytest.mark.extras
def test_openvino_reports_nothing_to_its_makers(tmp_path):
    script = (
        "import sys\nfrom nerloop.model.runtimes import import_openvino\n"
        "import_openvino()\nfrom openvino.tools.ovc import convert_impl, main, telemetry_utils\n"
        "print({module.tm.__name__ for module in (convert_impl, telemetry_utils)})\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "{'openvino.tools.ovc.telemetry_stub'}" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extras
def test_an_export_says_how_it_differs(exported):
    found = json.loads((exported / "export.json").read_text())
    assert found["format"] == "onnx"
    assert found["versions"]["onnxruntime"].count(".") == 2
    compared = found["comparison"]
    assert compared["sentences"] == 11  # the long text is cut into sentences
    assert compared["entities"] == compared["same_entities"] > 10
    assert 0 < compared["logit_difference"] < 1e-4 < compared["largest_logit"]
    assert (compared["before"], compared["after"], compared["gold"]) == (1.0, 1.0, "original")


@pytest.mark.extras
def test_an_export_tags_without_torch(exported, tmp_path):
    expected = nerloop.load(exported).tag(TEXTS)
    script = WITHOUT_TORCH + (
        "import json, nerloop\n"
        f"print(json.dumps(nerloop.load({str(exported)!r}).tag({TEXTS!r})))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.extras
def test_predict_reads_an_export_without_torch(exported, tmp_path):
    source, out = tmp_path / "gold.conll", tmp_path / "out.jsonl"
    source.write_text("Anna B-PER\nlives O\n\nin O\nNew B-LOC\nYork I-LOC\n" + "big O\n" * 600, encoding="utf-8")
    arguments = ["predict", "--model", str(exported), str(source), "--output", str(out)]
    script = WITHOUT_TORCH + (
        f"sys.argv = {arguments!r}\nfrom nerloop import predict\npredict.main()\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "precision" in done.stderr
    assert "PyTorch was not found" not in done.stderr
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [len(line["tags"]) for line in lines] == [2, 603]


@pytest.mark.extras
def test_an_int8_export_is_measured_and_refused_beyond_the_loss(original, tmp_path, caplog):
    with pytest.raises(ModelError, match=r"the export loses 0\.\d+ of f1 \(1\.0000 before"):
        run(original, "onnx-int8", tmp_path, "--max_loss", "0")
    assert not (tmp_path / "onnx-int8").exists()
    assert "pre-processing" not in caplog.text  # onnxruntime's advice, which nobody here can follow


@pytest.mark.extras
def test_a_folder_that_exists_and_an_export_are_refused(original, exported, tmp_path):
    with pytest.raises(ConfigError, match="exists already"):
        run(original, "onnx", exported.parent)
    with pytest.raises(ModelError, match="is an export to onnx, expected the trained model"):
        run(exported, "onnx", tmp_path)
