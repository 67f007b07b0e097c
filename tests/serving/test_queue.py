"""The queue of the service: what shares a batch, who is next, and what leaves it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from nerloop.serving.queue import Batch, BatchQueue, QueueFull
from nerloop.types import Example

PATIENCE = 30  # seconds; reached only where something is broken


class Model:
    """Tags each sentence with its first token, and keeps what it was given. `hold` makes it wait."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.points: list[str] = []
        self.may_go, self.is_busy = threading.Event(), threading.Event()
        self.may_go.set()

    def tag(self, sentences, point):
        self.is_busy.set()
        assert self.may_go.wait(PATIENCE)
        self.batches.append([sentence.tokens[0] for sentence in sentences])
        self.points.append(point)
        if any(sentence.tokens[0] == "bad" for sentence in sentences):
            raise ValueError("a bad sentence")
        return [[{"type": sentence.tokens[0]}] for sentence in sentences]


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make_queue(model):
    queues = []

    def make(**options):
        settings: dict[str, Any] = {
            "batch_tokens": 10,
            "wait_seconds": 0,
            "most_tokens": 1000,
            "on_batch": lambda batch: None,
        } | options
        queues.append(BatchQueue(model.tag, **settings))
        queues[-1].start()
        return queues[-1]

    yield make
    model.may_go.set()
    for queue in queues:
        queue.close()


def sentences(*names: str, length: int = 2):
    return [[Example((name, *("x",) * (length - 1)))] for name in names]


def held(model, queue):
    """Keep the model busy with a request, so that what comes next waits."""
    model.may_go.clear()
    first = queue.submit(sentences("first"), "default")
    assert model.is_busy.wait(PATIENCE)
    return first


def types_of(future):
    return [[entity["type"] for entity in part] for part in future.result(PATIENCE)]


def test_requests_that_wait_share_a_batch_and_each_gets_its_own(model, make_queue):
    seen: list[Batch] = []
    queue = make_queue(on_batch=seen.append)
    held(model, queue)
    futures = [queue.submit(sentences(*names), "default") for names in ("ab", "c", "de")]
    assert (queue.num_sentences, queue.num_tokens) == (5, 10)
    model.may_go.set()
    assert [types_of(future) for future in futures] == [[["a"], ["b"]], [["c"]], [["d"], ["e"]]]
    assert sorted(model.batches[1]) == ["a", "b", "c", "d", "e"]
    queue.close()
    assert [batch[:2] for batch in seen] == [(1, 2), (5, 10)]


def test_a_short_request_overtakes_the_rest_of_a_long_one(model, make_queue):
    queue = make_queue(batch_tokens=4)
    held(model, queue)
    long = queue.submit(sentences(*"abcdefgh"), "default")
    short = queue.submit(sentences("s"), "default")
    model.may_go.set()
    assert types_of(short) == [["s"]]
    assert types_of(long) == [[name] for name in "abcdefgh"]
    assert model.batches[1] == ["a", "s"]


def test_a_long_request_is_not_starved_by_short_ones(model, make_queue):
    queue = make_queue(batch_tokens=2)
    held(model, queue)
    long = queue.submit(sentences(*"ab"), "default")
    short = [queue.submit(sentences(f"s{i}"), "default") for i in range(50)]
    model.may_go.set()
    types_of(long)
    for future in short:
        types_of(future)
    order = [name for batch in model.batches for name in batch]
    assert order.index("a") == 1
    late = queue.submit(sentences("late"), "default")
    assert types_of(late) == [["late"]]


def test_a_part_longer_than_a_batch_is_one_of_its_own(model, make_queue):
    queue = make_queue(batch_tokens=3)
    held(model, queue)
    futures = [queue.submit(sentences(name, length=n), "default") for name, n in (("short", 1), ("long", 9))]
    model.may_go.set()
    assert [types_of(future) for future in futures] == [[["short"]], [["long"]]]
    assert model.batches[1:] == [["short"], ["long"]]


def test_a_cancelled_request_leaves_the_line_and_is_not_tagged(model, make_queue):
    queue = make_queue()
    held(model, queue)
    gone, stays = (queue.submit(sentences(*names), "default") for names in ("ab", "c"))
    assert gone.cancel()
    assert (queue.num_sentences, queue.num_tokens) == (1, 2)
    model.may_go.set()
    assert types_of(stays) == [["c"]]
    with pytest.raises(CancelledError):
        gone.result(PATIENCE)
    assert model.batches == [["first"], ["c"]]


def test_a_request_cancelled_while_it_is_tagged_harms_no_other(model, make_queue):
    queue = make_queue()
    first = held(model, queue)
    assert first.cancel()
    other = queue.submit(sentences("a"), "default")
    model.may_go.set()
    assert types_of(other) == [["a"]]


def test_a_bad_request_fails_alone(model, make_queue):
    queue = make_queue()
    held(model, queue)
    good, bad, other = (queue.submit(sentences(*names), "default") for names in (["a", "b"], ["bad", "c"], ["d"]))
    model.may_go.set()
    assert types_of(good) == [["a"], ["b"]]
    assert types_of(other) == [["d"]]
    with pytest.raises(ValueError, match="a bad sentence"):
        bad.result(PATIENCE)


def test_the_rest_of_a_failed_request_is_not_tagged(model, make_queue):
    queue = make_queue(batch_tokens=2)
    held(model, queue)
    bad = queue.submit(sentences("bad", "b", "c"), "default")
    model.may_go.set()
    with pytest.raises(ValueError, match="a bad sentence"):
        bad.result(PATIENCE)
    queue.close()
    assert model.batches == [["first"], ["bad"]]
    assert queue.num_tokens == 0


def test_a_full_queue_refuses_and_takes_again_later(model, make_queue):
    queue = make_queue(most_tokens=4)
    held(model, queue)
    waiting = queue.submit(sentences(*"abc"), "default")  # more than the line holds, but it is empty
    with pytest.raises(QueueFull):
        queue.submit(sentences("d"), "default")
    model.may_go.set()
    types_of(waiting)
    assert types_of(queue.submit(sentences("d"), "default")) == [["d"]]


def test_operating_points_do_not_share_a_call(model, make_queue):
    queue = make_queue()
    held(model, queue)
    futures = [queue.submit(sentences(name), point) for name, point in zip("abc", ("recall", "default", "recall"))]
    model.may_go.set()
    assert [types_of(future) for future in futures] == [[["a"]], [["b"]], [["c"]]]
    assert sorted(zip(model.points[1:], model.batches[1:])) == [("default", ["b"]), ("recall", ["a", "c"])]


def test_closing_tags_what_waits_and_takes_no_more(model, make_queue):
    queue = make_queue()
    held(model, queue)
    waiting = queue.submit(sentences("a"), "default")
    closing = threading.Thread(target=queue.close)
    closing.start()
    model.may_go.set()
    closing.join(PATIENCE)
    assert not queue.is_alive
    assert types_of(waiting) == [["a"]]
    with pytest.raises(QueueFull):
        queue.submit(sentences("b"), "default")


def test_a_request_without_sentences_is_done_at_once(make_queue):
    assert make_queue().submit([], "default").result(0) == []


def test_an_idle_model_waits_a_moment_for_company(model, make_queue):
    queue = make_queue(wait_seconds=PATIENCE, batch_tokens=4)
    futures = [queue.submit(sentences(name), "default") for name in "ab"]  # the second one fills the batch
    assert [types_of(future) for future in futures] == [[["a"]], [["b"]]]
    assert model.batches == [["a", "b"]]
