"""Metrics for Prometheus: requests, their time, and the batches of the model."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from nerloop.serving.queue import Batch

# Upper ends of the buckets of histograms.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SENTENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        of = {"registry": self._registry}
        self.requests = Counter("nerloop_requests", "Requests by path and status code.", ["path", "code"], **of)
        self.latency = Histogram(
            "nerloop_request_seconds", "From the headers of a request to its answer.", ["path"], buckets=SECONDS, **of
        )
        self._sentences = Counter("nerloop_sentences", "Sentences tagged.", **of)
        self._tokens = Counter("nerloop_tokens", "Tokens tagged.", **of)
        self._batch = Histogram("nerloop_batch_sentences", "Sentences of a batch.", buckets=SENTENCES, **of)
        self._batch_seconds = Histogram("nerloop_batch_seconds", "Time that a batch took.", buckets=SECONDS, **of)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed when it is read."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def add_batch(self, batch: Batch) -> None:
        """Count a batch."""
        self._sentences.inc(batch.num_sentences)
        self._tokens.inc(batch.num_tokens)
        self._batch.observe(batch.num_sentences)
        self._batch_seconds.observe(batch.seconds)

    def add_request(self, path: str, code: int, seconds: float) -> None:
        """Count a request that was answered; `path` is a route, because a raw path may contain a client's text."""
        self.requests.labels(path, code).inc()
        self.latency.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return bytes(generate_latest(self._registry))
