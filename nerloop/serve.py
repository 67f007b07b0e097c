"""Serve a saved model over HTTP: `python -m nerloop.serve --model runs/x/model`. Needs the extra `serve`.

Exit codes: 0 stopped by SIGTERM, 2 bad input (one line on stderr), 130 stopped by Ctrl-C. After either signal, the
requests in flight are still answered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nerloop import cli
from nerloop.distributed import threads
from nerloop.errors import ConfigError
from nerloop.model.saved import TAGGING

LIMITS = {
    "max_bytes": (1, 1_000_000, "bytes of a request"),
    "timeout": (0.001, 30.0, "seconds for a request, from its headers to the end of its answer"),
    "max_sentence_tokens": (1, 5_000, "tokens of a sentence; of a text, if the model looks at whole documents"),
    "batch_tokens": (1, 2_048, "tokens that the model is given at once"),
    "wait_ms": (0, 2.0, "milliseconds that an idle model waits for more requests to share a batch"),
    "max_waiting_tokens": (1, 500_000, "tokens that may wait; beyond it requests are told to come back (503)"),
}
"""Flags by name: the lowest value, the default, the meaning."""


def main() -> None:
    """Parse the command line, serve until a signal; leave with the exit code."""
    threads.limit_spinning()  # before anything imports torch
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: serve(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.serve",
        description="Serve a model that nerloop saved: POST /tag, a page to try it at /, /openapi.json, /health, "
        "/metrics. There is no login, so other machines reach it only if --host says so.",
    )
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0: any free one (default: 8000)")
    parser.add_argument("--device", help="where to compute, such as cpu (default: a GPU if there is one)")
    for name, (_, default, meaning) in LIMITS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{meaning} (default: {default:g})")
    for kind in TAGGING:
        parser.add_argument(f"--{kind}", help=f"{kind} plugin, as in nerloop.predict")
    parser.add_argument("--tokenizer", help="rule that cuts texts into tokens, as in nerloop.predict")
    parser.add_argument("--log_requests", action="store_true", help="log a line for each request; never its text")
    return parser.parse(argv)


def serve(arguments: argparse.Namespace) -> None:
    """Load the model and answer requests until a signal. Raises NerloopError."""
    for name, (least, _, _) in LIMITS.items():
        if not least <= getattr(arguments, name) < float("inf"):
            raise ConfigError(f"--{name}: found {getattr(arguments, name):g}, expected at least {least:g}")
    if not 0 <= arguments.port <= 65_535:
        raise ConfigError(f"--port: found {arguments.port}, expected 0 to 65535")
    try:
        from nerloop.serving.app import Limits, create_app
        from nerloop.serving.server import bind, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise ConfigError(
            'nerloop.serve needs FastAPI, uvicorn and prometheus_client: pip install "nerloop[serve]"'
        ) from error
    limits = Limits(
        max_bytes=arguments.max_bytes,
        seconds=arguments.timeout,
        max_sentence_tokens=arguments.max_sentence_tokens,
        batch_tokens=arguments.batch_tokens,
        wait_ms=arguments.wait_ms,
        max_waiting_tokens=arguments.max_waiting_tokens,
    )
    with bind(arguments.host, arguments.port) as listener:  # first, so that a taken port is an error before loading
        import nerloop
        from nerloop.run.logging import release_log, set_up_logging

        set_up_logging("info", is_main=True)
        chosen = {name: getattr(arguments, name) for name in (*TAGGING, "tokenizer")}
        tagger = nerloop.load(arguments.model, device=arguments.device, plugins=chosen)
        release_log()
        app = create_app(tagger, arguments.model, limits, log_requests=arguments.log_requests)
        run(app, listener, seconds=limits.seconds)


if __name__ == "__main__":
    main()
