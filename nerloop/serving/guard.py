"""ASGI middleware for the whole service: limits of size and time, one-line errors, metrics, a log without texts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any

from nerloop.serving.metrics import Metrics

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read and discarded."""
NO_ANSWER = 499
"""The code that counts requests whose client did not wait for the answer (nginx uses the same)."""


class _TooLargeError(Exception):
    """The body is longer than the limit."""


@dataclass
class _Exchange:
    """The state of a request and its answer, seen by wrapping the ASGI functions `receive` and `send`."""

    max_bytes: int
    receive: Receive
    send: Send
    is_whole: bool = False  # whether all of the request was read
    is_too_large: bool = False
    num_bytes: int = 0
    code: int = 0  # of the answer, 0 before it begins

    async def limited_receive(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.request":
            self.num_bytes += len(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)
            if self.num_bytes > self.max_bytes:
                self.is_too_large = True
                raise _TooLargeError
        return message

    async def watched_send(self, message: Message) -> None:
        if self.is_too_large and not self.code:
            return  # the guard answers that the body is too large, so the application's answer is dropped
        if message["type"] == "http.response.start":
            self.code = message["status"]
            if not self.is_whole:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self.is_whole:
            # The server closes the connection when the answer ends, so the end is sent only after lingering.
            await self.send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self.send(message)

    async def answer(self, code: int, message: str) -> None:
        """Send an error, unless an answer has begun."""
        if self.code:
            return
        self.is_too_large = False  # `watched_send` must let this answer pass
        body = error_body(message)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.watched_send({"type": "http.response.start", "status": code, "headers": headers})
        await self.watched_send({"type": "http.response.body", "body": body})

    async def _linger(self) -> None:
        """Read on for a moment. Closing a connection with unread bytes resets it, and the client loses the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (message := await self.receive())["type"] == "http.request" and message.get("more_body"):
                    pass


class Guard:
    """An application with limits: `max_bytes` for a body, `seconds` from the headers to the end of the answer."""

    def __init__(
        self, app: App, *, max_bytes: int, seconds: float, paths: Collection[str], metrics: Metrics, log_requests: bool
    ) -> None:
        """Set the application, its limits, and the paths that metrics and log distinguish."""
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds
        self._paths, self._metrics, self._log_requests = paths, metrics, log_requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        path = scope["path"] if scope["path"] in self._paths else "other"  # a raw path may contain a client's text
        exchange = _Exchange(self._max_bytes, receive, send)
        headers = dict(scope["headers"])
        exchange.is_whole = b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        try:
            await self._answer(scope, exchange, int(headers.get(b"content-length", b"0")))
        except Exception as error:
            # The message of an error may contain a client's text; its type and location do not.
            log.error("error: %s %s: %s at %s", scope["method"], path, type(error).__name__, _places(error))
            await exchange.answer(500, "the service failed on this request; its log says where")
        finally:
            seconds, code = time.perf_counter() - start, exchange.code or NO_ANSWER
            self._metrics.add_request(path, code, seconds)
            if self._log_requests:
                log.info("%s %s %d %.0f ms", scope["method"], path, code, 1000 * seconds)

    async def _answer(self, scope: Message, exchange: _Exchange, num_declared: int) -> None:
        """Pass a request to the application, or answer that it is too large or too slow."""
        exchange.is_too_large = num_declared > self._max_bytes
        try:
            async with asyncio.timeout(self._seconds):
                if not exchange.is_too_large:
                    await self._app(scope, exchange.limited_receive, exchange.watched_send)
        except TimeoutError:
            if exchange.is_whole:
                await exchange.answer(504, f"no answer within {self._seconds:g} s; send less, or later")
            else:
                await exchange.answer(408, f"the request was not complete after {self._seconds:g} s")
            return
        except _TooLargeError:
            pass
        if exchange.is_too_large:
            found = f"{num_declared:,} bytes" if num_declared else "a longer one"
            await exchange.answer(
                413, f"body: found {found}, expected at most {self._max_bytes:,}; send several requests"
            )


def error_body(message: str) -> bytes:
    """Return the JSON of an error."""
    return json.dumps({"error": message}).encode()


def _places(error: BaseException) -> str:
    """Return the code locations of an error, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return ", ".join(f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno}" for frame in reversed(frames))
