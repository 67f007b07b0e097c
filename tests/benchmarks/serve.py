"""Measure the speed of `nerloop.serve` against transformers' `pipeline` in the same service, and count lost requests.

Both sides are the application of `nerloop.serve` in a process of its own; only the tagger differs. Each client sends
one sentence a request over a connection that stays open, and the next when it has the answer. The sides run in turn. In
the last part, slow, broken and oversized requests arrive during the load of 8 clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import benchmark_parser, launch_training, median_and_spread, report

PIPELINE_BATCH = 16


class PipelineTagger:
    """transformers' `pipeline` with the queue, the sentences and the interface of the service."""

    def __init__(self, folder: str) -> None:
        from transformers import pipeline

        import nerloop

        ours = nerloop.load(folder, device="cpu")
        self.types, self.parts = ours.types, ours.parts
        self.thresholds, self.curves = (), {"default": None}
        self._pipeline = pipeline("token-classification", folder, aggregation_strategy="simple", device="cpu")

    def tag_sentences(self, sentences: Any, operating_point: str) -> list[list[dict[str, Any]]]:
        texts = [" ".join(sentence.tokens) for sentence in sentences]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # padding costs least so
        found: list[list[dict[str, Any]]] = [[] for _ in texts]
        of_all = self._pipeline([texts[i] for i in order], batch_size=PIPELINE_BATCH)
        for i, entities in zip(order, of_all, strict=True):
            found[i] = [
                {"type": e["entity_group"], "start": e["start"], "end": e["end"], "confidence": float(e["score"])}
                for e in entities
            ]
        return found


def serve(side: str, folder: str) -> None:
    """Serve one side until a signal. The first line on standard output is the port."""
    import nerloop
    from nerloop.serving.app import create_app
    from nerloop.serving.server import bind, run

    tagger: Any = PipelineTagger(folder) if side == "pipeline" else nerloop.load(folder, device="cpu")
    listener = bind("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    run(create_app(tagger, side), listener, seconds=60)


@contextlib.contextmanager
def serving(side: str, folder: str) -> Any:
    """Give the port of a side, in a process of its own; afterwards check that it ended in order."""
    command = [sys.executable, __file__, "--serve", side, "--model", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        while True:
            with contextlib.suppress(OSError):
                asyncio.run(connect_once(port))
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        assert process.wait(60) == 0, f"{side}: exit code {process.returncode}"


async def connect_once(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


# Clients


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes]:
    """Send a request on an open connection; return code and body of the answer."""
    head = f"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answered = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in answered[1:] if line)
    return int(answered[0].split()[1]), await reader.readexactly(int(headers[b"content-length"]))


async def client(port: int, texts: list[str], seconds: list[float]) -> None:
    """Send texts one after the other; every answer must be whole and right in form."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for text in texts:
        start = time.perf_counter()
        code, body = await post(reader, writer, json.dumps({"texts": [text]}).encode())
        seconds.append(time.perf_counter() - start)
        assert code == 200, body
        (entities,) = json.loads(body)["entities"]
        assert all(text[e["start"] : e["end"]] == e["text"] for e in entities)
    writer.close()


async def load(port: int, texts: list[str], clients: int) -> dict[str, float]:
    """Send all texts with so many clients; return sentences a second and quantiles of the latency in milliseconds."""
    seconds: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(client(port, texts[i::clients], seconds) for i in range(clients)))
    took = time.perf_counter() - start
    assert len(seconds) == len(texts), "a request was lost"
    cuts = statistics.quantiles(seconds, n=100)
    return {"sentences_per_second": len(texts) / took, "p50": 1000 * cuts[49], "p99": 1000 * cuts[98]}


async def trouble(port: int, is_over: asyncio.Event) -> int:
    """Send slow, broken and oversized requests until it is over; return how many."""
    sent = 0
    slow = []
    while not is_over.is_set():
        for head, body, expected in (
            (b"Content-Length: 9000000\r\n\r\n", b"", b"413"),
            (b"Content-Length: 9\r\n\r\n", b'{"texts"}', b"400"),
            (b"Content-Length: 500\r\n\r\n", b'{"te', b""),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /tag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + body)
            sent += 1
            if expected:
                assert (await reader.readline()).split()[1] == expected
                writer.close()
            elif len(slow) < 50:
                slow.append(writer)  # stays open and says no more
            else:
                writer.close()
        await asyncio.sleep(0.05)
    for writer in slow:
        writer.close()
    return sent


async def load_in_trouble(port: int, texts: list[str], clients: int) -> dict[str, float]:
    is_over = asyncio.Event()
    troubling = asyncio.ensure_future(trouble(port, is_over))
    found = await load(port, texts, clients)
    is_over.set()
    return {**found, "bad_requests": await troubling}


# Measurement


def sentences_of(data: str, number: int) -> list[str]:
    """Return sentences of the test file as texts."""
    blocks = Path(data, "test.conll").read_text(encoding="utf-8").split("\n\n")
    texts = [" ".join(line.split()[0] for line in block.splitlines() if line.strip()) for block in blocks]
    return [text for text in texts if text][:number]


def measure(ports: dict[str, int], texts: list[str], clients: list[int], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for number in clients:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in ports}
        of_clients = texts[: max(32, len(texts) * min(number, 8) // 8)]  # one client needs fewer for a figure
        for turn in range(rounds):
            for side in sorted(ports, reverse=turn % 2 == 1):
                found[side].append(asyncio.run(load(ports[side], of_clients, number)))
                print(f"  {number} clients, {turn + 1}/{rounds} {side}: {found[side][-1]}", file=sys.stderr, flush=True)
        ratios = {
            figure: [a[figure] / b[figure] for a, b in zip(found["nerloop"], found["pipeline"], strict=True)]
            for figure in ("sentences_per_second", "p50", "p99")
        }
        rows.append({"clients": number, "requests": len(of_clients) * rounds, "found": found, "ratios": ratios})
    return rows


def main() -> None:
    parser = benchmark_parser(__doc__ or "", clients=[1, 8, 64], rounds=3, sentences=192, steps=60, serve="")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(arguments.model)
        if not (trained / "nerloop.json").is_file():
            run = Path(folder, "run")
            flags = ["--train.max_steps", str(arguments.steps), "--run.score_pipeline", "0"]
            launch_training(arguments.model, arguments.data, *flags, run=run, splits=["train", "validation"])
            trained = run / "model"
        texts = sentences_of(arguments.data, arguments.sentences)
        with serving("nerloop", str(trained)) as ours, serving("pipeline", str(trained)) as theirs:
            ports = {"nerloop": ours, "pipeline": theirs}
            for port in ports.values():
                asyncio.run(load(port, texts[:64], 8))  # warm up
            rows = measure(ports, texts, arguments.clients, arguments.rounds)
            calm, troubled = [], []
            for _ in range(arguments.rounds):
                calm.append(asyncio.run(load(ours, texts, 8)))
                troubled.append(asyncio.run(load_in_trouble(ours, texts, 8)))
    of_both = " | ".join(f"{figure} | `pipeline`" for figure in ("p50 ms", "p99 ms"))
    print(f"| clients | requests a side | lost | sentences/s | `pipeline` | ratio | {of_both} |")
    print(f"|{'---:|' * 10}")
    for row in rows:
        cells = [str(row["clients"]), str(row["requests"]), "0"]
        for figure in ("sentences_per_second", "p50", "p99"):
            cells += [
                median_and_spread([one[figure] for one in row["found"][side]]) for side in ("nerloop", "pipeline")
            ]
            if figure == "sentences_per_second":
                cells.append(median_and_spread(row["ratios"][figure]))
        print(f"| {' | '.join(cells)} |")
    kept = [a["sentences_per_second"] / b["sentences_per_second"] for a, b in zip(troubled, calm, strict=True)]
    bad = sum(int(one["bad_requests"]) for one in troubled)
    print(
        f"\nBeside {bad} slow, broken and oversized requests 8 clients kept {median_and_spread(kept)} of their speed."
    )
    report({"rows": rows, "calm": calm, "troubled": troubled}, arguments.json)


if __name__ == "__main__":
    main()
