"""The service over HTTP: answers, errors in one line, limits, what one request does to others, metrics, the log."""

from __future__ import annotations

import json
import logging
import socket
import threading

import pytest

pytest.importorskip("fastapi", reason='needs the extra "serve"')
pytest.importorskip("prometheus_client", reason='needs the extra "serve"')

from nerloop.serving.app import Limits, create_app

pytestmark = pytest.mark.extras

PATIENCE = 30  # seconds; reached only where something is broken


@pytest.fixture
def service(serving, tagger):
    limits = Limits(max_bytes=10_000, seconds=PATIENCE, max_sentence_tokens=50, max_waiting_tokens=100)
    with serving(create_app(tagger, "a model", limits, log_requests=True)) as running:
        yield running
        tagger.may_go.set()


@pytest.fixture
def hasty(serving, tagger):
    """Return a service that gives a request a third of a second."""
    with serving(create_app(tagger, "a model", Limits(seconds=0.3))) as running:
        yield running
        tagger.may_go.set()


# Answers


def test_each_text_gets_its_entities_in_code_points(service):
    answer = service.tag("I saw \U0001f600 Anna\nand Anna", "nobody", "Anna")
    found = [
        [(e["text"], e["type"], e["start"], e["end"], e["confidence"]) for e in of] for of in answer.body["entities"]
    ]
    assert answer.code == 200
    assert found == [[("Anna", "PER", 8, 12, 0.9), ("Anna", "PER", 17, 21, 0.9)], [], [("Anna", "PER", 0, 4, 0.9)]]


def test_token_lists_count_characters_of_the_joined_tokens(service):
    answer = service.ask("POST", "/tag", {"tokens": [["Dear", "Anna"], ["you"]]})
    expected = {"text": "Anna", "type": "PER", "start": 5, "end": 9, "confidence": 0.9}
    assert answer.body == {"entities": [[expected], []]}


def test_the_operating_point_reaches_the_tagger(service):
    assert service.tag("Anna", operating_point="recall").body["entities"][0][0]["confidence"] == 0.4


def test_no_texts_have_no_entities(service):
    assert service.tag().body == {"entities": []}


def test_the_model_tells_types_limits_and_curves(service):
    body = service.ask("GET", "/model").body
    assert body["types"] == ["PER"]
    assert (body["max_bytes"], body["max_sentence_tokens"]) == (10_000, 50)
    assert body["operating_points"] == [
        {"name": "default", "confidences": [0.0, 0.5], "precision": [0.75, 1.0], "recall": [0.75, 0.5]},
        {"name": "recall", "confidences": [], "precision": [], "recall": []},
    ]


def test_openapi_describes_the_routes(service):
    found = service.ask("GET", "/openapi.json").body
    assert set(found["paths"]) == {"/tag", "/model", "/health", "/metrics"}
    properties = found["components"]["schemas"]["TagRequest"]["properties"]
    assert set(properties) == {"texts", "tokens", "operating_point"}
    assert {"200", "400", "413", "422", "503", "504"} <= set(found["paths"]["/tag"]["post"]["responses"])


def test_the_page_may_load_nothing_from_elsewhere(service):
    for path, media_type in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        answer = service.ask("GET", path)
        assert answer.code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "http" not in answer.body.replace("http-equiv", "")


# Errors


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"texts": [', 400, "body: not JSON: Expecting value at character 11"),
        (b'{"texts": ["Anna', 400, "body: not JSON: Unterminated string starting at character 11"),
        (b'"\xff"', 400, "There was an error parsing the body"),
        (b"[" * 9_000, 400, "There was an error parsing the body"),
        (b"", 422, "body: expected a JSON object with texts or tokens, sent as application/json"),
        (b"[]", 422, "body: expected a JSON object with texts or tokens, sent as application/json"),
        (b"{}", 422, "expected either texts or tokens"),
        (b'{"texts": ["a"], "tokens": [["a"]]}', 422, "expected either texts or tokens"),
        (b'{"texts": "Anna"}', 422, "texts: input should be a valid list"),
        (b'{"texts": ["a", 3]}', 422, "texts.1: input should be a valid string"),
        (b'{"text": ["a"]}', 422, "text: no such field; expected texts or tokens, and operating_point"),
        (b'{"a\\nb": 1}', 422, "a\\nb: no such field; expected texts or tokens, and operating_point"),
        (b'{"texts": ["a", "\\ud800"]}', 422, "text 1: half a surrogate pair is no character"),
        (b'{"texts": ["a"], "operating_point": "x"}', 422, "operating_point: expected one of default, recall"),
        (json.dumps({"texts": ["a " * 60]}).encode(), 413,
         "text 0: found a sentence of 61 tokens, expected at most 50"),
        (b'{"texts": ["a boom"]}', 500, "the service failed on this request; its log says where"),
    ],
)  # fmt: skip
def test_a_bad_request_gets_one_line_and_the_next_is_answered(service, body, code, message):
    answer = service.ask("POST", "/tag", body)
    assert (answer.code, answer.body) == (code, {"error": message})
    assert service.tag("Anna").code == 200


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/nope", 404), ("GET", "/tag", 405), ("POST", "/", 405)])
def test_unknown_paths_and_methods_get_one_line(service, method, path, code):
    answer = service.ask(method, path)
    assert answer.code == code
    assert list(answer.body) == ["error"]


# Size


def raw(service, head: str) -> socket.socket:
    """Return a connection on which the head of a POST was sent."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
    connection.sendall(f"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode())
    return connection


def answer_on(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(65_536):
        found += piece
    return found


def test_a_long_body_is_refused_before_it_is_sent(service):
    with raw(service, "Content-Length: 10001") as connection:
        found = answer_on(connection)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"body: found 10,001 bytes, expected at most 10,000; send several requests" in found


def test_a_body_of_unknown_length_is_refused_when_it_gets_too_long(service, tagger):
    with raw(service, "Transfer-Encoding: chunked") as connection:
        connection.sendall(b"1f40\r\n" + b" " * 8000 + b"\r\n")
        connection.sendall(b"1f40\r\n" + b" " * 8000 + b"\r\n")
        found = answer_on(connection)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"body: found a longer one, expected at most 10,000; send several requests" in found


def test_a_client_that_sends_all_of_a_long_body_reads_the_answer(service):
    with raw(service, "Content-Length: 3000000") as connection:
        connection.sendall(b" " * 3_000_000)
        assert answer_on(connection).startswith(b"HTTP/1.1 413 ")
    assert service.metric('nerloop_requests_total{code="413",path="/tag"}') == 1


# Time


def test_a_slow_body_ends_in_408_and_others_are_answered_meanwhile(hasty):
    with raw(hasty, "Content-Length: 100") as connection:
        connection.sendall(b'{"texts"')
        assert hasty.tag("Anna").code == 200
        found = answer_on(connection)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"the request was not complete after 0.3 s" in found


def test_a_request_over_its_time_gets_504_and_leaves_the_queue(hasty, tagger):
    tagger.may_go.clear()
    answers = []
    ask = [threading.Thread(target=lambda name=name: answers.append(hasty.tag(name))) for name in ("one", "two")]
    ask[0].start()
    assert tagger.is_busy.wait(PATIENCE)
    ask[1].start()
    for thread in ask:
        thread.join(PATIENCE)
    assert [answer.code for answer in answers] == [504, 504]
    assert answers[0].body == {"error": "no answer within 0.3 s; send less, or later"}
    assert hasty.metric("nerloop_waiting_sentences") == 0
    tagger.may_go.set()
    assert hasty.tag("three").code == 200
    assert tagger.tagged == ["one", "three"]


def test_a_client_that_leaves_takes_its_request_along(service, tagger):
    tagger.may_go.clear()
    busy = threading.Thread(target=lambda: service.tag("one"))
    busy.start()
    assert tagger.is_busy.wait(PATIENCE)
    body = b'{"texts": ["two"]}'
    with raw(service, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body)
        service.wait_until(lambda: service.metric("nerloop_waiting_sentences") == 1)
    service.wait_until(lambda: service.metric("nerloop_waiting_sentences") == 0)
    tagger.may_go.set()
    busy.join(PATIENCE)
    assert tagger.tagged == ["one"]
    service.wait_until(lambda: service.metric('nerloop_requests_total{code="499",path="/tag"}') == 1)


def test_a_full_queue_says_when_to_come_back(service, tagger):
    tagger.may_go.clear()
    threads = [
        threading.Thread(target=lambda text=text: service.tag(text)) for text in ("one", "\n".join(["x " * 40] * 3))
    ]
    threads[0].start()
    assert tagger.is_busy.wait(PATIENCE)
    threads[1].start()
    service.wait_until(lambda: service.metric("nerloop_waiting_tokens") > 100)
    answer = service.tag("three")
    assert (answer.code, answer.headers["retry-after"]) == (503, "1")
    assert answer.body == {"error": "too many requests are waiting; try again later"}
    tagger.may_go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert "three" not in tagger.tagged


# Metrics, health, log


def test_metrics_count_requests_sentences_and_tokens(service):
    service.tag("Anna and Eve\nthey", "one more")
    service.ask("POST", "/tag", b"{")
    service.ask("GET", "/some/path?with=text")
    assert service.metric('nerloop_requests_total{code="200",path="/tag"}') == 1
    assert service.metric('nerloop_requests_total{code="400",path="/tag"}') == 1
    assert service.metric('nerloop_requests_total{code="404",path="other"}') == 1
    assert service.metric('nerloop_request_seconds_count{path="/tag"}') == 2
    assert service.metric("nerloop_sentences_total") == 3
    assert service.metric("nerloop_tokens_total") == 6
    assert service.metric("nerloop_batch_sentences_sum") == 3
    assert service.metric("nerloop_waiting_tokens") == 0


def test_health_is_bad_once_the_model_has_no_thread(serving, tagger):
    from nerloop.serving.app import Service

    app = create_app(tagger, "a model")
    with serving(app) as running:
        assert running.ask("GET", "/health").body == {"status": "ok"}
    assert Service(tagger, "a model", Limits()).queue.is_alive is False


def test_no_text_is_logged_whatever_happens(service, caplog):
    logger = logging.getLogger("nerloop")
    propagates, logger.propagate = logger.propagate, True
    try:
        with caplog.at_level(logging.DEBUG):
            for body in (
                b'{"texts": ["secret Anna"]}',
                b'{"texts": ["secret boom"]}',
                b'{"secret": ["a"]}',
                b'{"secret',
            ):
                service.ask("POST", "/tag", body)
            service.ask("GET", "/secret?secret=secret")
            service.wait_until(lambda: "GET other 404" in caplog.text)
    finally:
        logger.propagate = propagates
    assert "POST /tag 200" in caplog.text
    assert "POST /tag: ValueError at " in caplog.text
    assert "secret" not in caplog.text
