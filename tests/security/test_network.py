"""Nothing phones home."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "a" * 40


@pytest.fixture
def hub(saved) -> Iterator[tuple[str, list[str]]]:
    """Serve the model as x/y as the hub would, on the loopback; yield its address and the requests as they come in."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(f"{self.command} {self.path}")
            path, file = self.path.partition("?")[0], saved / self.path.partition("?")[0].rpartition("/")[2]
            body, status = b"[]", 200
            if path.startswith("/x/y/resolve/") and file.is_file():
                body = file.read_bytes()
            elif path == "/api/models/x/y" or path.startswith("/api/models/x/y/revision"):
                siblings = [{"rfilename": f.name} for f in saved.iterdir()]
                body = json.dumps({"id": "x/y", "sha": COMMIT, "private": False, "siblings": siblings}).encode()
            elif path == "/api/agent-harnesses":
                body = b"{}"
            elif not path.startswith("/api/"):
                status = 404
            self.send_response(status)
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Content-Length": str(len(body))}
            headers |= {"X-Repo-Commit": COMMIT} | ({"X-Error-Code": "EntryNotFound"} if status == 404 else {})
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET  # noqa: N815 (names of the base class)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import io, json, socket, sys, threading

calls = []


def listen(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        calls.append(f"{event} {arguments[1]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        calls.append(f"{event} {arguments[0]}")


def phase(name):
    heard[name] = sorted(set(calls))
    calls.clear()


sys.addaudithook(listen)
heard = {}
model, run, saved, sentences, *files = sys.argv[1:]

from nerloop import predict, train
from nerloop.config import ModelSettings
from nerloop.data.hub import read_hub
from nerloop.model.load import load_model, load_tokenizer

data = [x for split, file in zip(("train", "validation", "test"), files) for x in (f"--data.{split}", file)]
sys.argv = ["x", "--model.name_or_path", model, *data, "--run.dir", run, "--train.max_steps", "2"]
train.main()
sys.argv = ["x", "--model", run + "/model", sentences, "--output", run + "/tagged.conll"]
predict.main()
read_hub(saved)
phase("local")

try:
    socket.create_connection(("127.0.0.1", 9), timeout=1).close()
except OSError:
    pass
phase("control")

settings = ModelSettings(name_or_path="x/y")
load_model(settings, ("O", "B-X"), load_tokenizer(settings))
for thread in threading.enumerate():
    if "conversion" in thread.name:
        thread.join(30)
phase("hub")
print(json.dumps(heard))
"""


def test_nothing_phones_home(tiny_model, files, folders, saved, hub, make_model):
    """Online: training, tagging and reading local files call nobody; a model of the hub is fetched from there alone.

    The hub's model is a pickle of tensors: for such a one transformers, left to itself, asks a service of the hub's to
    convert it, in the name of whoever is logged in, and starts with its list of commits.
    """
    address, requests = hub
    (saved / "model.safetensors").unlink()
    torch.save(dict(make_model("bert").state_dict()), saved / "pytorch_model.bin")
    online = {k: v for k, v in os.environ.items() if not k.endswith("OFFLINE") and not k.startswith("DISABLE_SAFE")}
    online |= {
        "HF_ENDPOINT": address,
        "HF_HOME": str(folders / "home"),
        "HF_TOKEN": "hf_nobody",
        "PYTHONPATH": str(ROOT),
    }
    arguments = [tiny_model, str(folders / "run"), str(folders / "data"), files["test"], *files.values()]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], env=online, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout.splitlines()[-1])
    assert heard["local"] == []
    assert heard["control"] == ["socket.connect ('127.0.0.1', 9)", "socket.getaddrinfo 127.0.0.1"]
    port = address.rpartition(":")[2]
    assert heard["hub"] == [f"socket.connect ('127.0.0.1', {port})", "socket.getaddrinfo 127.0.0.1"]
    assert f"GET /x/y/resolve/{COMMIT}/pytorch_model.bin" in requests
    assert [request for request in requests if "commits" in request or "discussions" in request] == []
    assert {request.partition(" ")[0] for request in requests} == {"GET", "HEAD"}
