"""Every bad input: one line, exit code 2, nothing trained."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

train_module = importlib.import_module("nerloop.train")  # its name is also that of its function


GOOD = "EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n"


@pytest.fixture
def bad(run_main, monkeypatch, tmp_path, tiny_model):
    """Return a function that trains with flags and files given as text ("": a missing file), and tells the error."""
    monkeypatch.chdir(tmp_path)

    def run(flags: str = "", *, train: str | bytes | None = GOOD, model: str = tiny_model, **splits: str) -> str:
        arguments = ["--model.name_or_path", model] if model else []
        for split, text in {"train": train, **splits}.items():
            if text is None:
                continue
            if text:
                Path(f"{split}.conll").write_bytes(text if isinstance(text, bytes) else text.encode())
            arguments += [f"--data.{split}", f"{split}.conll"]
        code, _, err = run_main(train_module.main, *arguments, "--run.dir", "run", *flags.split())
        (line,) = err.splitlines()
        assert code == 2, line
        assert not list(tmp_path.glob("run/checkpoints/step-*"))
        assert line.startswith("nerloop: error: ")
        return line.removeprefix("nerloop: error: ")

    return run


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Return a function that writes a module with a class `Own`: a built-in plugin with one method of its own."""

    def write(module: str, built_in: str, method: str) -> None:
        package, _, base = built_in.rpartition(".")
        (tmp_path / f"{module}.py").write_text(
            f"from collections import Counter\nimport torch\nfrom {package} import {base}\n"
            f"class Own({base}):\n    def {method}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)  # that of the case before

    return write


def test_missing_file(bad):
    assert bad(train="") == "train.conll: no such file"


def test_empty_file(bad, tmp_path):
    assert bad(train=b"\n \n\n") == "train.conll: found no sentence, expected at least one. Is this the right file?"


def test_binary_file(bad):
    assert bad(train=b"\x89PNG\r\n\x1a\n\x00\x00") == (
        "train.conll:1: found b'\\x89' at byte 1 of the line, expected UTF-8. "
        "Set data.encoding (such as latin-1), or is this a binary file?"
    )


def test_ragged_row(bad):
    assert bad(train="EU NNP B-ORG\nrejects B-X\n") == (
        "train.conll:2: 2 columns where line 1 has 3: 'rejects B-X'. Is a column missing?"
    )


@pytest.mark.parametrize("tag", ["X-PER", "B-", "PER", "b-PER"])
def test_tag_outside_any_scheme(bad, tag):
    assert bad(train=f"EU B-ORG\nrejects {tag}\n") == (
        f"train.conll:2: {tag!r} is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"
    )


def test_one_column_only(bad):
    assert bad(train="EU\nrejects\n") == "train.conll:1: found one column only, 'EU', expected a token and a tag"


def test_train_split_without_entity(bad):
    assert bad(train="EU O\nrejects O\n") == (
        "train.conll: found no entity in the training split, expected some; is data.tag_column right?"
    )


def test_column_that_is_not_there(bad):
    assert bad("--data.tag_column 7") == (
        "train.conll:1: data.tag_column is 7, but the line has 2 columns (counted from 0)"
    )


def test_named_column_that_is_not_there(bad):
    assert bad("--data.tag_column nre", train="token ner\nEU B-ORG\n") == (
        "train.conll:1: found no column 'nre' (did you mean 'ner'?), expected a header line that names it; "
        "found 'token ner'"
    )


def test_data_without_model(bad):
    assert bad(model="") == "model.name_or_path: not set, but data is; set it to a folder or a hub name"


def test_model_without_data(bad):
    assert bad(train=None) == ("data: none set, but a model is; set data.train (and data.validation) or data.dataset")


def test_files_and_data_set_together(bad):
    assert bad("--data.dataset conll2003") == (
        "data.dataset and data.train (or validation, test) are both set; expected one of them"
    )


def test_unknown_flag(bad):
    assert bad("--train.epoch 3") == "--train.epoch: no such setting; did you mean --train.epochs?"


def test_ill_typed_flag(bad):
    assert bad("--train.epochs many") == "train.epochs: found 'many', expected a whole number"


def test_value_out_of_range(bad):
    assert bad("--train.batch_size 0") == "train.batch_size: found 0, expected at least 1 and at most 1,000,000,000"


def test_unknown_setting_in_yaml(bad, tmp_path):
    Path("c.yaml").write_text("train:\n  epochs: 3\n  batchsize: 3\n")
    assert bad("--config c.yaml") == "c.yaml:3: train.batchsize: no such setting; did you mean train.batch_size?"


def test_ill_typed_setting_in_yaml(bad):
    Path("c.yaml").write_text("train:\n  epochs: many\n")
    assert bad("--config c.yaml") == "c.yaml:2: train.epochs: found 'many', expected a whole number"


def test_folder_of_another_run(bad):
    Path("run").mkdir()
    Path("run/status.json").write_text('{"state": "done"}')
    assert bad() == (
        "run.dir run: holds another run (done); choose another folder, or --run.resume auto to go on with that one"
    )


def test_model_folder_without_a_model(bad, tmp_path):
    Path("empty").mkdir()
    assert bad(model="empty") == (
        "model.name_or_path empty: found no config.json in this folder; expected a transformers model"
    )


def test_model_that_can_not_be_reached(bad, monkeypatch):
    line = bad(model="some/model-that-is-not-here")
    assert line == (
        "model.name_or_path some/model-that-is-not-here: can't load the tokenizer: "
        "the hub can't be reached and the model is not in its cache; offline, give a folder"
    )


def test_hub_that_can_not_be_reached(bad):
    line = bad("--data.dataset some/dataset-that-is-not-here", train=None)
    assert line == (
        "data.dataset: can't reach the hub for 'some/dataset-that-is-not-here'. Offline, give a folder that "
        "save_to_disk wrote (--data.dataset FOLDER) or files (--data.train, --data.validation, --data.test)"
    )


def test_vocabulary_larger_than_the_embedding(bad, tmp_path, make_tiny_model, capsys):
    make_tiny_model(tmp_path / "small", vocab_size=100)
    capsys.readouterr()  # transformers' progress bar
    line = bad(model="small")
    assert line.startswith("model.name_or_path small: the tokenizer has ")
    assert line.endswith("the model's embedding 100 rows; expected a tokenizer that belongs to the model")


def test_both_micro_batch_settings(bad):
    assert bad("--train.max_subwords 100 --train.gradient_accumulation_steps 2").startswith(
        "train.max_subwords and train.gradient_accumulation_steps are both set"
    )


def test_a_metric_that_is_not_there(bad):
    assert bad("--train.best_metric F1") == (
        "train.best_metric: found 'F1' (did you mean 'f1'?), expected one of precision, recall, f1, accuracy, tokens, "
        "gold_spans, predicted_spans"
    )


def test_an_evaluator_whose_main_metric_is_not_there(bad, tmp_path, monkeypatch):
    (tmp_path / "no_main.py").write_text(
        "from nerloop.evaluators.seqeval import Seqeval\nclass NoMain(Seqeval):\n    main_metric = 'F1'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    line = bad("--evaluator no_main.NoMain")
    assert line.startswith(
        "evaluator no_main.NoMain: main_metric: found 'F1' (did you mean 'f1'?), expected one of precision,"
    )


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ("Counter({('x',): 0.5})", "found ('x',): 0.5, expected whole numbers; double all counts for half credit"),
        ("Counter({'x': 1})", "found the key 'x', expected tuples, such as ('x',)"),
        ("[1]", "returned [1], expected a Counter"),
    ],
)
def test_an_evaluator_whose_counts_do_not_add_up(bad, write_plugin, counts, problem):
    write_plugin("bad_counts", "nerloop.evaluators.seqeval.Seqeval", f"count(self, gold, predicted): return {counts}")
    line = bad("--evaluator bad_counts.Own --train.max_steps 1 --run.log_level error", validation="Rome B-ORG\n")
    assert line == f"evaluator bad_counts.Own: count: {problem}"


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ("0.5", "metrics returned 0.5, expected a dict of plain numbers"),
        ("{'f1': torch.tensor(0.5)}", "metrics: found 'f1': tensor(0.5000), expected plain numbers and dicts of them"),
        ("{'f1': 0.5, 'of': {'X': {1}}}", "metrics: found 'of': {'X': {1}}, expected plain numbers and dicts of them"),
        ("{}", "main_metric: found 'f1', expected a number among the metrics, which have none"),
    ],
)
def test_an_evaluator_whose_metrics_are_no_numbers(bad, write_plugin, metrics, problem):
    write_plugin("bad_metrics", "nerloop.evaluators.seqeval.Seqeval", f"metrics(self, counts): return {metrics}")
    assert bad("--evaluator bad_metrics.Own --run.log_level error") == f"evaluator bad_metrics.Own: {problem}"


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        ("0.5", "a float"),
        ("logits.sum((0, 1))", "a tensor of shape (4,)"),
        ("None", "a NoneType"),
    ],
)
def test_an_objective_whose_loss_is_no_scalar(bad, write_plugin, loss, found):
    write_plugin(
        "bad_loss", "nerloop.objectives.cross_entropy.CrossEntropy", f"loss(self, logits, batch): return {loss}"
    )
    line = bad("--objective bad_loss.Own --run.log_level error")
    assert line == f"objective bad_loss.Own: loss returned {found}, expected a scalar tensor"


def test_fp16_without_a_gpu(bad):
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is a GPU here")
    assert bad("--train.mixed_precision fp16") == (
        "train.mixed_precision: found fp16, which needs a GPU; use bf16 or no on a CPU"
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "launch: the profile asks for DeepSpeed"),
        ("ACCELERATE_USE_FSDP", "true", "launch: the profile asks for FSDP"),
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "launch: ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 4, expected 1",
        ),
    ],
)
def test_launches_that_would_not_be_exact(bad, monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    assert bad().startswith(message)


def test_processes_that_did_not_find_each_other(bad, monkeypatch):
    """No process has found another by now, whatever the launcher says."""
    import torch
    from accelerate import PartialState

    PartialState()
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert bad() == (
        "launch: WORLD_SIZE is 2, but accelerate knows of 1 process(es), so each would work alone. "
        "On CPUs use launch/cpu_2_processes.yaml as a pattern"
    )


def test_the_exit_code_is_2_and_there_is_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nerloop.train", "--train.epoch", "3"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nerloop: error: --train.epoch: no such setting; did you mean --train.epochs?\n"


def test_going_on_says_what_is_odd(run_main, monkeypatch, tmp_path, tiny_model):
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text(GOOD)
    Path("test.conll").write_text("Oslo B-LOC\n\nis O\n")
    flags = "--data.train train.conll --data.test test.conll --run.dir run --train.epochs 1"
    code, _, err = run_main(train_module.main, "--model.name_or_path", tiny_model, *flags.split())
    assert code == 0, err
    assert "warning: no validation split: no best model and no early stopping, the last weights are kept" in err
    assert "warning: 2 training sentences are fewer than train.batch_size 32: each epoch is one step" in err
    assert "warning: test.conll:1: the test split has tags that the training split does not have: B-LOC (1)" in err
    assert "more on the data: python -m nerloop.inspect --train train.conll --test test.conll" in err
    assert json.loads(Path("run/status.json").read_text())["state"] == "done"
    assert os.path.exists("run/model/model.safetensors")


def test_findings_are_told_before_training_with_the_line_of_the_token(run_main, monkeypatch, tmp_path, tiny_model):
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text("Anna B-PER\ncame O\n\nthe O\nEU I-ORG\n")
    flags = "--data.train train.conll --run.dir run --train.max_steps 1"
    code, _, err = run_main(train_module.main, "--model.name_or_path", tiny_model, *flags.split())
    assert code == 0, err
    assert "train           2 sentences        4 tokens       2 entities: ORG 1, PER 1\n" in err
    assert "warning: train.conll:5: 1 tag of the training split violates IOB2: I-ORG after O (1)" in err
