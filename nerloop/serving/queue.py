"""Tag the parts of several requests together: one thread runs the model and takes parts that fit into a batch."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nerloop.types import Example

Entity = dict[str, Any]
Tag = Callable[[Sequence[Example], str], list[list[Entity]]]
"""Takes sentences and an operating point; returns the entities of each sentence, as `Tagger.tag_sentences` does."""


class QueueFull(Exception):  # noqa: N818 (a state, not an error)
    """The queue has no room for the request; it can be sent again later."""


class Batch(NamedTuple):
    """The size and the duration of one batch, for the metrics."""

    num_sentences: int
    num_tokens: int
    seconds: float


@dataclass(eq=False)
class _Job:
    """A request, whose parts may be tagged in different batches."""

    operating_point: str
    found: list[list[Entity]]  # by part
    num_left: int
    future: Future[list[list[Entity]]] = field(default_factory=Future)


@dataclass(eq=False)
class _Part:
    """Sentences that must be tagged together: one, or those of a document."""

    job: _Job
    at: int  # which part of its job
    sentences: Sequence[Example]
    num_tokens: int


_Entry = tuple[int, int, _Part]
"""The clock value that orders a part in the queue, a number that breaks ties, and the part."""


class BatchQueue:
    """Parts of requests wait here for the thread that runs the model. All methods may be called from any thread.

    The order is fair by tokens (self-clocked fair queueing, Golestani, 1994). Each request has its own clock, which
    starts at the queue's clock when the request comes and counts its tokens. The part with the smallest clock is next.
    A short request overtakes the rest of a long one, and no request waits forever.
    """

    def __init__(
        self, tag: Tag, *, batch_tokens: int, wait_seconds: float, most_tokens: int, on_batch: Callable[[Batch], None]
    ) -> None:
        """Set the tagging function and the limits.

        Args:
            tag: called from one thread only
            batch_tokens: most tokens of a batch; a longer part is a batch of its own
            wait_seconds: how long an idle model waits for requests that can share a batch
            most_tokens: most tokens that may wait
            on_batch: called after each batch
        """
        self._tag, self._on_batch = tag, on_batch
        self._batch_tokens, self._wait_seconds, self._most_tokens = batch_tokens, wait_seconds, most_tokens
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._numbers = itertools.count()
        self._clock = 0  # of the last part that was taken
        self._num_tokens = 0  # in the queue
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="nerloop-model", daemon=True)

    def start(self) -> None:
        """Start the thread that runs the model."""
        self._thread.start()

    def close(self) -> None:
        """Take no more requests, tag those in the queue, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread that runs the model is alive."""
        return self._thread.is_alive()

    @property
    def num_sentences(self) -> int:
        """The number of sentences in the queue."""
        with self._changed:
            return sum(len(part.sentences) for _, _, part in self._waiting)

    @property
    def num_tokens(self) -> int:
        """The number of tokens in the queue."""
        return self._num_tokens

    def submit(self, parts: Sequence[Sequence[Example]], operating_point: str) -> Future[list[list[Entity]]]:
        """Return a future of the entities of each part. If it is cancelled, its waiting parts leave the queue.

        Raises QueueFull.
        """
        job = _Job(operating_point, [[] for _ in parts], len(parts))
        new_parts = [_Part(job, at, of, sum(len(s.tokens) for s in of)) for at, of in enumerate(parts)]
        num_tokens = sum(part.num_tokens for part in new_parts)
        if not new_parts:
            job.future.set_result([])
            return job.future
        with self._changed:
            # An empty queue takes a request of any length; other limits bound its size.
            if self._is_closed or (self._num_tokens and self._num_tokens + num_tokens > self._most_tokens):
                raise QueueFull
            clock = self._clock
            for part in new_parts:
                clock += part.num_tokens
                heapq.heappush(self._waiting, (clock, next(self._numbers), part))
            self._num_tokens += num_tokens
            self._changed.notify_all()
        job.future.add_done_callback(lambda future: self._forget(job) if future.cancelled() else None)
        return job.future

    def _forget(self, job: _Job) -> None:
        """Remove the waiting parts of a job from the queue."""
        with self._changed:
            self._waiting = [entry for entry in self._waiting if entry[2].job is not job]
            heapq.heapify(self._waiting)
            self._num_tokens = sum(part.num_tokens for _, _, part in self._waiting)

    def _run(self) -> None:
        """Tag batches until the end. A call tags at one operating point, so a batch may take several calls."""
        while (batch := self._next_batch()) is not None:
            for _, of_point in itertools.groupby(
                sorted(batch, key=lambda part: part.job.operating_point), key=lambda part: part.job.operating_point
            ):
                self._tag_parts(list(of_point))

    def _next_batch(self) -> list[_Part] | None:
        """Return the parts of the next batch, [] if all were cancelled meanwhile; None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return None
            # Wait for more, since clients that were answered together send their next requests nearly together.
            self._changed.wait_for(
                lambda: self._num_tokens >= self._batch_tokens or self._is_closed, self._wait_seconds
            )
            batch: list[_Part] = []
            left = self._batch_tokens
            while self._waiting and (not batch or self._waiting[0][2].num_tokens <= left):
                self._clock, _, part = heapq.heappop(self._waiting)
                left -= part.num_tokens
                self._num_tokens -= part.num_tokens
                batch.append(part)
            return batch

    def _tag_parts(self, parts: Sequence[_Part]) -> None:
        """Tag parts of one operating point at once. If that fails, tag each request separately: only one may be bad."""
        sentences = [sentence for part in parts for sentence in part.sentences]
        start = time.perf_counter()
        try:
            found = iter(self._tag(sentences, parts[0].job.operating_point))
        except Exception as error:
            jobs = {part.job: [p for p in parts if p.job is part.job] for part in parts}
            if len(jobs) == 1:
                self._fail(parts[0].job, error)
            else:
                for of_job in jobs.values():
                    self._tag_parts(of_job)
            return
        self._on_batch(Batch(len(sentences), sum(p.num_tokens for p in parts), time.perf_counter() - start))
        for part in parts:
            part.job.found[part.at] = [entity for _ in part.sentences for entity in next(found)]
            part.job.num_left -= 1
            if part.job.num_left == 0 and part.job.future.set_running_or_notify_cancel():
                part.job.future.set_result(part.job.found)

    def _fail(self, job: _Job, error: Exception) -> None:
        """Give a job the error as its result. Its parts that still wait are dropped."""
        self._forget(job)
        if not job.future.done() and job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)
