"""The routes of the service, as an ASGI application that uses a tagger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

import nerloop
from nerloop.data.checks import has_surrogate
from nerloop.decoding.operating_points import DEFAULT, Curve
from nerloop.errors import printable
from nerloop.serving.guard import NO_ANSWER, App, Guard, error_body
from nerloop.serving.metrics import Metrics
from nerloop.serving.queue import BatchQueue, Entity, QueueFull
from nerloop.types import Example

SHORT = 5_000
"""A request of fewer characters is cut into sentences at once, a longer one in a thread, so as not to block others."""
MOST_OF_NAME = 200
"""Most characters of a field's name that an error quotes from the request."""


class Tagger(Protocol):
    """The methods of a tagger that the service uses; `nerloop.load` returns a tagger."""

    @property
    def types(self) -> Sequence[str]:
        """The types of entities."""

    @property
    def curves(self) -> Mapping[str, Curve | None]:
        """By operating point: precision and recall on validation at each threshold, None if not known."""

    @property
    def thresholds(self) -> Sequence[float]:
        """The confidences at which the curves have values."""

    def parts(self, text: str | Sequence[str], name: str) -> list[list[Example]]:
        """Return the parts of a text that can be tagged independently."""

    def tag_sentences(self, sentences: Sequence[Example], operating_point: str) -> list[list[Entity]]:
        """Return the entities of each sentence."""


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of the queue."""

    max_bytes: int = 1_000_000  # of a body
    seconds: float = 30.0  # from the headers of a request to the end of its answer
    max_sentence_tokens: int = 5_000  # a long sentence blocks the model for all others
    batch_tokens: int = 2_048
    wait_ms: float = 2.0  # how long an idle model waits for requests to share a batch
    max_waiting_tokens: int = 500_000


@dataclass(frozen=True)
class TagRequest:
    """Texts, or token lists."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic's own name and form)

    texts: Annotated[list[str] | None, Field(description="Texts of any length; a line break ends a sentence.")] = None
    tokens: Annotated[list[list[str]] | None, Field(description="Instead: sentences as lists of tokens.")] = None
    operating_point: Annotated[str, Field(description="One of the model's: see /model.")] = DEFAULT


@dataclass(frozen=True)
class EntityFound:
    """An entity of a text; start and end count code points, half-open. Tokens are joined with single spaces."""

    text: str
    type: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class TagResponse:
    """The entities of each text, in order."""

    entities: list[list[EntityFound]]


@dataclass(frozen=True)
class OperatingPointOf:
    """Precision and recall on the validation split of the training, of the entities with at least each confidence."""

    name: str
    confidences: list[float]
    precision: list[float]
    recall: list[float]


@dataclass(frozen=True)
class ModelResponse:
    """The served model, and the limits of a request."""

    model: str
    nerloop: str
    types: list[str]
    operating_points: list[OperatingPointOf]
    max_bytes: int
    max_seconds: float
    max_sentence_tokens: int


@dataclass(frozen=True)
class Health:
    """Whether the service can tag."""

    status: str


@dataclass(frozen=True)
class Failure:
    """The error, in one line."""

    error: str


FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": Failure, "description": meaning}
    for code, meaning in {
        400: "The body is not JSON.", 408: "The request was not complete in time.",
        413: "The body, or a sentence, is too long.", 422: "The JSON is not a request.",
        503: "Too much is waiting; try again later.", 504: "No answer in time.",
    }.items()
}  # fmt: skip


class Service:
    """The handlers of the routes, and the tagger, queue and metrics that they share."""

    def __init__(self, tagger: Tagger, name: str, limits: Limits) -> None:
        """Set the tagger, the name of the model that /model returns, and the limits."""
        self._tagger, self._name, self._limits = tagger, name, limits
        self._names = itertools.count()  # of texts, so that documents of different requests are told apart
        self.metrics = Metrics()
        self.queue = BatchQueue(
            tagger.tag_sentences,
            batch_tokens=limits.batch_tokens,
            wait_seconds=limits.wait_ms / 1000,
            most_tokens=limits.max_waiting_tokens,
            on_batch=self.metrics.add_batch,
        )
        self.metrics.watch("nerloop_waiting_sentences", "Sentences that wait.", lambda: self.queue.num_sentences)
        self.metrics.watch("nerloop_waiting_tokens", "Tokens that wait.", lambda: self.queue.num_tokens)

    async def tag(self, body: TagRequest, request: Request) -> Response:
        """Return the entities of texts or token lists."""
        if (body.texts is None) == (body.tokens is None):
            raise HTTPException(422, "expected either texts or tokens")
        if body.operating_point not in self._tagger.curves:
            raise HTTPException(422, f"operating_point: expected one of {', '.join(self._tagger.curves)}")
        texts: Sequence[str | Sequence[str]] = (body.texts if body.texts is not None else body.tokens) or ()
        length = 0
        for number, text in enumerate(texts):
            whole = text if isinstance(text, str) else " ".join(text)
            length += len(whole)
            if has_surrogate(whole):
                raise HTTPException(422, f"text {number}: half a surrogate pair is no character")
        parts = self._cut(texts) if length < SHORT else await run_in_threadpool(self._cut, texts)
        try:
            future = self.queue.submit([part for of in parts for part in of], body.operating_point)
        except QueueFull:
            raise HTTPException(503, "too many requests are waiting; try again later", {"Retry-After": "1"}) from None
        found = iter(await _result(future, request))
        entities = []
        for text, of_text in zip(texts, parts, strict=True):
            whole = text if isinstance(text, str) else " ".join(text)
            entities.append([
                {"text": whole[entity["start"] : entity["end"]], **entity} for _ in of_text for entity in next(found)
            ])  # fmt: skip
        return JSONResponse({"entities": entities})

    def _cut(self, texts: Sequence[str | Sequence[str]]) -> list[list[list[Example]]]:
        """Return the parts of each text. Raises HTTPException for one that would block the model for too long."""
        parts = [self._tagger.parts(text, str(next(self._names))) for text in texts]
        most = self._limits.max_sentence_tokens
        for number, of_text in enumerate(parts):
            for part in of_text:
                if (num_tokens := sum(len(sentence.tokens) for sentence in part)) > most:
                    what = "a sentence" if len(part) == 1 else "a document"
                    raise HTTPException(
                        413, f"text {number}: found {what} of {num_tokens:,} tokens, expected at most {most:,}"
                    )
        return parts

    async def model(self) -> ModelResponse:
        """Return the model's name, types and operating points, and the limits of a request."""
        points = [_as_response(n, self._tagger.thresholds, c) for n, c in self._tagger.curves.items()]
        limits = self._limits
        return ModelResponse(
            self._name, nerloop.__version__, list(self._tagger.types), points,
            limits.max_bytes, limits.seconds, limits.max_sentence_tokens,
        )  # fmt: skip

    async def health(self) -> Health:
        """Return 200 while the service can tag."""
        if not self.queue.is_alive:
            raise HTTPException(503, "the thread of the model has ended")
        return Health("ok")

    async def read_metrics(self) -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def create_app(tagger: Tagger, name: str, limits: Limits | None = None, *, log_requests: bool = False) -> App:
    """Return the service for a tagger, as an ASGI application. Its lifespan starts and ends the model's thread.

    Args:
        tagger: tags the texts
        name: of the model, to show to users
        limits: of requests
        log_requests: log a line for each request, without its text
    """
    limits = limits or Limits()
    service = Service(tagger, name, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        service.queue.start()
        yield
        await run_in_threadpool(service.queue.close)

    # FastAPI's own pages of documentation load scripts from the network, so they are off.
    app = FastAPI(title="nerloop", version=nerloop.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_api_route("/tag", service.tag, methods=["POST"], response_model=TagResponse, responses=FAILURES)
    app.add_api_route("/model", service.model, response_model=ModelResponse)
    app.add_api_route("/health", service.health, response_model=Health, responses={503: FAILURES[503]})
    app.add_api_route("/metrics", service.read_metrics)
    for path, (media_type, text) in page_files().items():
        app.add_route(path, _static(text, media_type), include_in_schema=False)
    app.add_exception_handler(AnyHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_body)
    app.add_exception_handler(Exception, _on_failure)
    paths = {getattr(route, "path", "") for route in app.routes}
    return Guard(
        app, max_bytes=limits.max_bytes, seconds=limits.seconds, paths=paths, metrics=service.metrics,
        log_requests=log_requests,
    )  # fmt: skip


def page_files() -> dict[str, tuple[str, str]]:
    """Return the media type and the contents of the page's files, by path."""
    folder = resources.files("nerloop.serving").joinpath("page")
    of_pages = resources.files("nerloop.inspection").joinpath("page.css").read_text(encoding="utf-8")
    index, script, style = (
        folder.joinpath(n).read_text(encoding="utf-8") for n in ("page.html", "page.js", "page.css")
    )
    return {
        "/": ("text/html", index),
        "/page.js": ("text/javascript", script),
        "/page.css": ("text/css", of_pages + style),
    }


def _static(text: str, media_type: str) -> Any:
    headers = {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def handler(request: Request) -> Response:
        return Response(text, media_type=media_type, headers=headers)

    return handler


async def _result(future: Future[list[list[Entity]]], request: Request) -> list[list[Entity]]:
    """Return a result of the queue. If the client disconnects or the time runs out first, the request is cancelled."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    asked, gone = asyncio.wrap_future(future), asyncio.ensure_future(disconnect())
    either: set[asyncio.Future[Any]] = {asked, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise HTTPException(NO_ANSWER, "the client has left")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


def _as_response(name: str, thresholds: Sequence[float], curve: Curve | None) -> OperatingPointOf:
    if curve is None:
        return OperatingPointOf(name, [], [], [])
    places = range(len(thresholds))
    return OperatingPointOf(
        name, list(thresholds), [round(curve.precision(at), 4) for at in places],
        [round(curve.recall(at), 4) for at in places],
    )  # fmt: skip


async def _on_http_error(request: Request, error: Any) -> Response:
    """Return the error as JSON, as all other answers are."""
    return Response(error_body(error.detail), error.status_code, headers=error.headers, media_type="application/json")


async def _on_invalid_body(request: Request, error: Any) -> Response:
    """Return the first error in a body, in one line, without the values in the body."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "").removesuffix(" at")
        message = f"body: not JSON: {reason} at character {first['loc'][-1]}"
        return Response(error_body(message), 400, media_type="application/json")
    where = ".".join(map(str, first["loc"][1:]))
    if not where:
        message = "body: expected a JSON object with texts or tokens, sent as application/json"
    elif first["type"] == "unexpected_keyword_argument":
        message = f"{where[:MOST_OF_NAME]}: no such field; expected texts or tokens, and operating_point"
    else:
        message = f"{where[:MOST_OF_NAME]}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return Response(error_body(printable(message)), 422, media_type="application/json")


async def _on_failure(request: Request, error: Exception) -> Response:
    """Return an internal server error. `Guard` logs its cause."""
    return Response(
        error_body("the service failed on this request; its log says where"), 500, media_type="application/json"
    )
