"""A service on a free port, in a thread of this process, and a tagger that tests can hold."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from nerloop.types import Example

PATIENCE = 30  # seconds; reached only where something is broken


def wait_until(is_so) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


class Answer(NamedTuple):
    code: int
    body: Any  # parsed, if it is JSON
    headers: dict[str, str]


class Service:
    """A running service."""

    wait_until = staticmethod(wait_until)

    def __init__(self, port: int):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send a request; bytes as they are, anything else as JSON."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, sent, {"Content-Type": "application/json"} | (headers or {}))
            response = connection.getresponse()
            found = response.read().decode()
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return Answer(response.status, json.loads(found) if is_json else found, dict(response.headers))
        finally:
            connection.close()

    def tag(self, *texts: str, **fields: Any) -> Answer:
        return self.ask("POST", "/tag", {"texts": list(texts), **fields})

    def metric(self, line: str) -> float:
        """Return the value of a metric by its name and labels, 0 where it is not there."""
        lines = str(self.ask("GET", "/metrics").body).splitlines()
        values = [float(one.rpartition(" ")[2]) for one in lines if one.rpartition(" ")[0] == line]
        return values[0] if values else 0.0


@pytest.fixture
def service_at():
    """Return the class that asks a service, given its port."""
    return Service


@pytest.fixture(scope="session")
def serving():
    """Return a context manager that serves an application."""
    uvicorn = pytest.importorskip("uvicorn")

    @contextlib.contextmanager
    def serve(app: Any) -> Iterator[Service]:
        config = uvicorn.Config(app, port=0, log_config=None, log_level="critical", access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Service(server.servers[0].sockets[0].getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE)

    return serve


class Tagger:
    """Finds "Anna" as a PER in each line of a text, one line a sentence. `hold` keeps the model busy; "boom" fails."""

    types = ("PER",)
    thresholds = (0.0, 0.5)

    def __init__(self):
        from nerloop.decoding.operating_points import Curve

        self.curves = {"default": Curve(4, (4, 2), (3, 2)), "recall": None}
        self.tagged: list[str] = []
        self.may_go, self.is_busy = threading.Event(), threading.Event()
        self.may_go.set()

    def parts(self, text, name):
        whole = text if isinstance(text, str) else " ".join(text)
        found, at = [], 0
        for line in whole.split("\n"):
            words = line.split(" ")
            offsets = []
            for word in words:
                offsets.append((at, at + len(word)))
                at += len(word) + 1
            found.append([Example(tuple(words), offsets=tuple(offsets))])
        return found

    def tag_sentences(self, sentences, operating_point):
        self.is_busy.set()
        assert self.may_go.wait(PATIENCE)
        self.tagged += [" ".join(sentence.tokens) for sentence in sentences]
        if any("boom" in sentence.tokens for sentence in sentences):
            raise ValueError("boom: a secret text")
        confidence = 0.4 if operating_point == "recall" else 0.9
        return [
            [
                {"type": "PER", "start": a, "end": b, "confidence": confidence}
                for word, (a, b) in zip(sentence.tokens, sentence.offsets, strict=True)
                if word == "Anna"
            ]
            for sentence in sentences
        ]


@pytest.fixture
def tagger():
    return Tagger()
