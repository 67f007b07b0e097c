"""`python -m nerloop.serve` with a real model: the entities of nerloop.load, an orderly end, bad input."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import nerloop
from nerloop import serve as command
from nerloop.errors import ConfigError

TEXT = "Anna Smith flew to Preston .\n\nJudge Preston of Vellingby jailed a sailor of Quillon Motors ."
has_extra = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client"))
needs_extra = pytest.mark.skipif(not has_extra, reason='needs the extra "serve"')


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_bytes", "0"], "--max_bytes: found 0, expected at least 1"),
        (["--timeout", "nan"], "--timeout: found nan, expected at least 0.001"),
        (["--timeout", "inf"], "--timeout: found inf, expected at least 0.001"),
        (["--port", "65536"], "--port: found 65536, expected 0 to 65535"),
        (["--wait_ms", "-1"], "--wait_ms: found -1, expected at least 0"),
    ],
)
def test_bad_limits_are_told(flags, message):
    with pytest.raises(ConfigError) as error:
        command.serve(command._arguments(["--model", "nope", *flags]))
    assert str(error.value) == message


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "nerloop.serving.app", raising=False)
    with pytest.raises(
        ConfigError, match=r'needs FastAPI, uvicorn and prometheus_client: pip install "nerloop\[serve\]"'
    ):
        command.serve(command._arguments(["--model", "nope"]))


@pytest.mark.extras
@needs_extra
def test_a_port_that_is_taken_is_told_before_the_model_is_looked_for():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^--host 127.0.0.1 --port {port}: can't listen there: Address already"):
            command.serve(command._arguments(["--model", "nope", "--port", str(port)]))


@pytest.mark.extras
@needs_extra
@pytest.mark.parametrize("host", ["256.0.0.1", "192.0.2.1"])
def test_an_address_that_is_not_here_is_told(host):
    with pytest.raises(ConfigError, match=f"^--host {host} --port 0: can't listen there: "):
        command.serve(command._arguments(["--model", "nope", "--host", host, "--port", "0"]))


@contextlib.contextmanager
def started(folder, *flags: str):
    """Start the command; give the process and its port."""
    words = [sys.executable, "-m", "nerloop.serve", "--model", str(folder), "--port", "0", *flags]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.extras
@needs_extra
def test_the_command_finds_what_load_finds_and_ends_in_order(finding_model, service_at):
    tagger = nerloop.load(finding_model, device="cpu")
    tokens = [["Judge", "Preston"], ["of", "Quillon", "Motors"]]
    with started(finding_model, "--wait_ms", "1500") as (process, port):
        service = service_at(port)
        answer = service.tag(TEXT, "Preston", "", "\x00 \u200b")
        assert answer.body["entities"][0] != []
        assert answer.body["entities"] == tagger.tag([TEXT, "Preston", "", "\x00 \u200b"])
        assert service.ask("POST", "/tag", {"tokens": tokens}).body["entities"] == tagger.tag(tokens)
        points = [point["name"] for point in service.ask("GET", "/model").body["operating_points"]]
        assert points == list(tagger.curves)

        answers: list[Any] = []  # a request that waits for company while SIGTERM comes
        asking = threading.Thread(target=lambda: answers.append(service.tag(TEXT)))
        asking.start()
        service.wait_until(lambda: service.metric("nerloop_waiting_sentences") > 0)
        process.send_signal(signal.SIGTERM)
        asking.join(30)
        assert answers[0].body["entities"] == tagger.tag([TEXT])
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.extras
@needs_extra
def test_a_model_with_an_own_alignment_is_served(finding_model, tmp_path, monkeypatch, service_at):
    model = Path(shutil.copytree(finding_model, tmp_path / "model"))
    values = json.loads((model / "nerloop.json").read_text())
    values["alignment"] = {"name": "outside_plugins.Plain", "options": {}}
    (model / "nerloop.json").write_text(json.dumps(values))
    folder = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    with started(model, "--alignment", "outside_plugins.Plain") as (_, port):
        found = service_at(port).tag(TEXT).body["entities"]
    assert found == nerloop.load(finding_model, device="cpu", plugins={"alignment": "first"}).tag([TEXT])


@pytest.mark.extras
@needs_extra
def test_ctrl_c_ends_with_130_and_a_line_and_the_service_itself_needs_no_torch(tmp_path):
    """An exported model is served without torch; here nothing is loaded at all."""
    code = (
        "import sys, types, nerloop\n"
        "from nerloop import cli\n"
        "from nerloop.serving import app, server\n"
        "tagger = types.SimpleNamespace(types=(), curves={}, thresholds=(), tag_sentences=None)\n"
        "sys.stderr.write(f'{\"torch\" in sys.modules}\\n')\n"
        "import logging; logging.basicConfig(level='INFO', format='%(message)s')\n"
        "served = app.create_app(tagger, 'none')\n"
        "cli.run_command(lambda: server.run(served, server.bind('127.0.0.1', 0), seconds=1))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "False\n"
        assert process.stderr.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "nerloop: stopped by Ctrl-C\n"


@pytest.mark.extras
@needs_extra
def test_operating_points_of_a_model_are_served(finding_model, tmp_path, service_at):
    """The tiny model has too few entities to fit anything, so nerloop.json is given what a larger one has."""
    model = tmp_path / "model"
    shutil.copytree(finding_model, model)
    values = json.loads((model / "nerloop.json").read_text())
    curve = {"gold": 4, "predicted": [4, 2], "correct": [3, 2]}
    points = {
        "default": {"biases": {}, "curves": {"all": curve}},
        "recall": {"biases": {"background_to_start": 30.0}, "curves": {"all": curve}},
    }
    values["calibration"] = {"temperature": 1.0, "thresholds": [0.0, 0.5], "operating_points": points}
    (model / "nerloop.json").write_text(json.dumps(values))
    tagger = nerloop.load(model, device="cpu")
    parts = [sentence for part in tagger.parts(TEXT, "0") for sentence in part]
    counts = {point: sum(map(len, tagger.tag_sentences(parts, point))) for point in tagger.curves}
    assert list(counts) == ["default", "recall"]
    assert counts["recall"] > counts["default"]
    assert tagger.curves["recall"].precision(0) == 0.75
