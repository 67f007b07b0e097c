"""Processor time and size of the report of 50,000 sentences: analysis, intervals, page, JSON.

    python tests/benchmarks/report.py
    python tests/benchmarks/report.py --sentences 250 --rounds 1

Makes up predictions for sentences of 20 tokens on average with 1.7 entities, an F1 of about 0.8 and 18 types, in the
form of predictions.test.jsonl. Prints the median of the rounds (lowest to highest), the sizes, and the peak memory.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from nerloop.evaluation.report.as_html import as_html
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.evaluation.report.predictions import analysis_of_run, read_predictions
from nerloop.evaluation.report.sentences import example_of
from nerloop.tags import to_tags
from nerloop.types import Example, Span

TYPES = [f"TYPE{i}" for i in range(18)]
WEIGHTS = [1 / (i + 1) for i in range(18)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predictions.jsonl")
        write(path, arguments.sentences)
        examples = [example_of(json.loads(line), "") for line in path.open(encoding="utf-8")]
        rounds = [one_round(path, examples) for _ in range(arguments.rounds)]
    for name in rounds[0]:
        values = [seconds[name] for seconds in rounds]
        print(f"{name:40} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})")
    print(
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most, load {os.getloadavg()[0]:.1f}"
    )


def one_round(path: Path, examples: list[Example]) -> dict[str, float]:
    """Return the processor seconds of each part, as a run does them and then as the command does."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[name] = time.process_time() - start
        return result

    names = timed("names of as many training sentences", lambda: TrainingNames.of(examples[::-1]))
    analysis = timed("analysis", lambda: analysis_of_run(path, examples, names))
    found = timed("intervals and sums", lambda: analysis.to_json({"f1": 0.0}))
    page = timed("page", lambda: as_html(found, "made-up"))
    seconds["report.html of a run"] = sum(seconds.values())
    whole = timed("JSON", lambda: json.dumps(found))
    timed("evaluate --predictions: reading, analysis", lambda: read_predictions(str(path), names))
    print(
        f"{len(examples):,} sentences, {sum(found['errors'].values()):,} errors; JSON {len(whole) / 1e6:.1f} MB; page "
        f"{len(page.encode()) / 1e6:.2f} MB with {page.count('<article'):,} errors"
    )
    return seconds


def write(path: Path, num_sentences: int) -> None:
    """Write made-up predictions."""
    random = Random(0)
    words = [f"word{i}" for i in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_sentences):
            length = max(3, round(random.lognormvariate(2.85, 0.5)))
            gold, at = [], random.randint(0, 8)
            while at + 3 < length:
                end = at + random.choice((1, 1, 1, 2, 2, 3))
                gold.append(Span(at, end, random.choices(TYPES, WEIGHTS)[0]))
                at = end + random.randint(1, 14)
            predicted = sorted(span for g in gold if (span := _disturbed(g, length, random)) is not None)
            predicted = [s for i, s in enumerate(predicted) if i == 0 or predicted[i - 1].end <= s.start]
            taken = {i for span in predicted for i in range(span.start, span.end)}
            missed = [g for g in gold if taken.isdisjoint(range(g.start, g.end))]
            record = {
                "tokens": random.choices(words, k=length), "gold": to_tags(gold, length),
                "tags": to_tags(predicted, length),
                "spans": [{**s._asdict(), "confidence": round(random.random(), 6)} for s in predicted],
                "missed": [{**s._asdict(), "confidence": round(random.random(), 6)} for s in missed],
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")


def _disturbed(span: Span, length: int, random: Random) -> Span | None:
    """Return a span as a model might predict it: right four times in five."""
    luck = random.random()
    if luck < 0.8:
        return span
    if luck < 0.86:
        return None
    if luck < 0.93:
        return span._replace(type=random.choice(TYPES))
    return span._replace(end=min(length, span.end + 1))


if __name__ == "__main__":
    main()
