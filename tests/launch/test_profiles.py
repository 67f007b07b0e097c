"""The profiles, through accelerate's own reader, and the CPU ones through real launches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "launch").glob("*.yaml"))
RECIPES = sorted((ROOT / "launch" / "recipes").glob("*.yaml"))
EXACT = ["--train.mixed_precision=float64", "--model.dropout=0", "--train.max_steps=6", "--train.batch_size=7"]
EXACT += ["--train.eval_every=3", "--run.log_every=1"]


def launch(profile: str, *arguments: str, cwd: Path, module: str = "nerloop.train", **environment: str):
    """Run `accelerate launch` as the README says, and return what came of it."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "launch" / profile)]
    return subprocess.run(
        [*accelerate, "-m", module, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"HF_HUB_OFFLINE": "1", **environment},
    )


@pytest.fixture
def tiny_arguments(tiny_model, files) -> list[str]:
    """Return the flags of a training on small files with a tiny encoder."""
    return [
        "--model.name_or_path",
        tiny_model,
        *(x for split, path in files.items() for x in (f"--data.{split}", path)),
    ]


def test_all_profiles_and_recipes_are_looked_at():
    assert [p.name for p in PROFILES] == [
        "cpu.yaml",
        "cpu_2_processes.yaml",
        "gpu.yaml",
        "multi_gpu.yaml",
        "multi_node.yaml",
    ]
    assert [p.name for p in RECIPES] == ["best.yaml", "conll2003.yaml", "demo.yaml", "files.yaml"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.name)
def test_accelerates_own_reader_takes_the_profile(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    expected = {"cpu.yaml": ("NO", 1, "no"), "cpu_2_processes.yaml": ("MULTI_GPU", 2, "no"),
                "gpu.yaml": ("NO", 1, "bf16"), "multi_gpu.yaml": ("MULTI_GPU", 8, "bf16"),
                "multi_node.yaml": ("MULTI_GPU", 16, "bf16")}  # fmt: skip
    assert (str(config.distributed_type.value), config.num_processes, str(config.mixed_precision)) == expected[
        path.name
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_the_recipe_parses_and_its_header_says_how_to_launch_it(path):
    from nerloop.config.parse import parse

    config = parse(["--config", str(path)])
    assert config.train.epochs == (5 if path.name == "best.yaml" else 3)
    assert f"launch/recipes/{path.name}" in path.read_text().split("\n\n")[0]
    assert "accelerate launch" in path.read_text()


@pytest.mark.processes
def test_one_process_and_two_end_with_the_same_weights_and_metrics(tmp_path, tiny_arguments):
    from safetensors.torch import load_file

    for profile, folder in (("cpu.yaml", "one"), ("cpu_2_processes.yaml", "two")):
        done = launch(profile, *tiny_arguments, *EXACT, "--run.dir", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    environments = [json.loads((tmp_path / f / "environment.json").read_text()) for f in ("one", "two")]
    assert [e["num_processes"] for e in environments] == [1, 2]
    one, two = (load_file(str(tmp_path / f / "checkpoints" / "step-6" / "model.safetensors")) for f in ("one", "two"))
    assert len(one) > 20
    ids = one["bert.embeddings.word_embeddings.used_ids"]  # the embedding is a narrow one
    assert {str(t.dtype) for t in one.values() if t is not ids} == {"torch.float64"}
    assert float(two["bert.embeddings.word_embeddings.decayed"]) > 0
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-9
    results = [json.loads((tmp_path / f / "results.json").read_text()) for f in ("one", "two")]
    assert {**results[0], "timing": 0} == {**results[1], "timing": 0}
    lines = [[json.loads(x) for x in (tmp_path / f / "metrics.jsonl").read_text().splitlines()] for f in ("one", "two")]
    assert len(lines[0]) == 8
    for a, b in zip(*lines, strict=True):
        assert a.get("lr") == b.get("lr")
        assert a.get("f1") == b.get("f1")
        assert a.get("loss", 0) == pytest.approx(b.get("loss", 0), rel=1e-9)


@pytest.mark.processes
def test_an_error_under_accelerate_launch_is_one_line_of_ours_and_a_failure(tmp_path):
    done = launch("cpu_2_processes.yaml", "--data.train", "nope.conll", "--model.name_or_path", "nope", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("nerloop: error: nope.conll: no such file\n") == 1


@pytest.mark.processes
def test_a_run_that_is_killed_resumes_byte_for_byte(tmp_path, tiny_arguments):
    """SIGKILL in the middle of the run, then run.resume auto."""
    arguments = [*tiny_arguments, "--train.max_steps", "60", "--train.save_every", "5", "--train.eval_every", "20"]
    command = [sys.executable, "-m", "nerloop.train", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, "--run.dir", "whole"], cwd=tmp_path, check=True, capture_output=True, env=environment)
    running = subprocess.Popen(
        [*command, "--run.dir", "killed"], cwd=tmp_path, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "killed" / "checkpoints" / "step-5").exists():
        assert running.poll() is None, "the run ended before it could be killed"
    running.kill()
    running.wait()
    assert not (tmp_path / "killed" / "results.json").exists()
    resume = ["--run.dir", "killed", "--run.resume", "auto"]
    done = subprocess.run(
        [*command, *resume], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
    )
    assert "resumed from killed/checkpoints/step-" in done.stderr
    for name in ("model/model.safetensors", "checkpoints/step-60/optimizer.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.processes
def test_print_config_read_back_gives_an_equal_configuration(tmp_path):
    from nerloop.config.parse import parse

    printed = subprocess.run(
        [sys.executable, "-m", "nerloop.train", "--print_config=comments"], capture_output=True, text=True, check=True
    )
    (tmp_path / "c.yaml").write_text(printed.stdout)
    assert len(yaml.safe_load(printed.stdout)) == 10
    assert parse(["--config", str(tmp_path / "c.yaml")]) == parse([])


@pytest.mark.processes
def test_predict_by_two_processes_writes_each_sentence_once(tmp_path, tiny_arguments, files):
    command = [sys.executable, "-m", "nerloop.train", *tiny_arguments, "--train.max_steps", "2", "--run.dir", "run"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    out = ["--model", "run/model", files["test"], "--output", "out.conll"]
    done = launch("cpu_2_processes.yaml", *out, cwd=tmp_path, module="nerloop.predict")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.conll").read_text() == (tmp_path / "run" / "predictions.test.conll").read_text()
