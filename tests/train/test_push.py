"""nerloop.push uploads to a local server that answers like the hub."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard


class Hub(ThreadingHTTPServer):
    """What the hub answers to an upload, and what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.validated = ""
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path == "/api/validate-yaml":
            self.server.validated = json.loads(body)["content"]
            self.answer(200, {})
        elif self.headers.get("Authorization") != "Bearer hf_right":
            self.answer(401, {"error": "no, thank you"})
        elif path == "/api/repos/create":
            self.answer(200, {"url": f"{self.server.url}/me/ner", "id": "me/ner"})
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer(200, {"files": files})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(200, {"commitUrl": f"{self.server.url}/me/ner/commit/abc", "commitOid": "abc"})

    def answer(self, code: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def model(config, train_once, tmp_path: Path) -> Path:
    done, results = train_once(config)
    copy = Path(shutil.copytree(Path(done.run.dir) / "model", tmp_path / "copy"))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return copy


def push(
    model: Path, url: str, *flags: str, token: str = "hf_right", offline: str = "0"
) -> subprocess.CompletedProcess:
    home = {"HF_HOME": str(model.parent / "home"), "HF_TOKEN": token, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": offline}
    return subprocess.run(
        [sys.executable, "-m", "nerloop.push", "--model", str(model), "me/ner", *flags],
        env={**os.environ, **home, "HF_HUB_DISABLE_TELEMETRY": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_model_is_uploaded_with_its_card(hub, model):
    done = push(model, hub.url, "--license", "cc-by-4.0", "--language", "en", "--dataset", "tomaarsen/conll2003")
    assert done.stderr == ""
    assert done.stdout == f"{hub.url}/me/ner/commit/abc\n"
    assert hub.files.keys() == {p.name for p in model.iterdir()}
    assert hub.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    card: Any = ModelCard(hub.files["README.md"].decode())
    assert (card.data.license, card.data.language, card.data.datasets) == ("cc-by-4.0", ["en"], ["tomaarsen/conll2003"])
    results = {r.metric_type: (r.dataset_type, r.dataset_split, r.metric_value) for r in card.data.eval_results}
    expected = json.loads((model.parent / "results.json").read_text())["test"]["best"]["viterbi"]
    assert results["f1"] == ("tomaarsen/conll2003", "test", pytest.approx(expected["f1"], abs=1e-6))
    assert results.keys() == {"f1", "precision", "recall", "accuracy"}
    assert hub.validated == hub.files["README.md"].decode()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"token": "hf_wrong"}, "refuses me/ner (401): no, thank you; run `hf auth login` or set HF_TOKEN"),
        ({"offline": "1"}, "HF_HUB_OFFLINE is set, expected it unset"),
        ({"url": "http://127.0.0.1:9"}, "http://127.0.0.1:9: can't be reached: "),
    ],
)
def test_what_can_not_be_uploaded_is_told_in_one_line(hub, model, flags, message):
    done = push(model, flags.pop("url", hub.url), "--license", "mit", **flags)
    assert done.returncode == 2
    assert done.stderr.startswith("nerloop: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert hub.files == {}


def test_a_dry_run_sends_nothing(hub, model):
    done = push(model, hub.url, "--dry_run")
    assert done.stderr == "nerloop: the card names no licence; --license adds one\n"
    assert "model.safetensors" in done.stdout
    assert "model-index:" in done.stdout
    assert hub.asked == []
