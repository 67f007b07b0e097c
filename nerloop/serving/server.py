"""Run the service with one listening socket in one process, until an orderly shutdown."""

from __future__ import annotations

import ipaddress
import logging
import math
import signal
import socket
from typing import Any

import uvicorn

from nerloop.errors import ConfigError
from nerloop.serving.guard import LINGER_SECONDS, App

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
"""Most open connections; more are refused at once (503)."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet. Raises ConfigError."""
    listener = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--host {host} --port {port}: can't listen there: {reason}; "
            "expected an address of this machine and a free port"
        ) from error
    return listener


def run(app: App, listener: socket.socket, *, seconds: float) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then take no more and answer the ones in flight."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        access_log=False,  # its lines would have whole URLs
        log_config=None,
        log_level="error",
        server_header=False,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(seconds + LINGER_SECONDS) + 1,
    )
    host, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(host).is_loopback:
        log.warning("warning: %s can be reached from other machines, and there is no login", host)
    server: Any = _Server(config, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    # uvicorn raises the signal again after its shutdown; for SIGTERM that is an orderly end.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):  # type: ignore[misc, unused-ignore]
    """uvicorn's server, which logs its address once it listens."""

    def __init__(self, config: Any, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then log the address."""
        await super().startup(sockets=sockets)
        log.info("%s: the page; POST /tag; Ctrl-C stops", self._url)
