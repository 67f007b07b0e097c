"""Does `nerloop.evaluate --suspects` find wrong labels? Damages training spans on purpose and looks for them.

    python tests/benchmarks/label_errors.py --sets 10:1 5:2 10:3 --cleanlab /path/to/a/venv/bin/python

A set is a share of the spans in percent and a seed. A fourth of the damaged spans each is dropped, invented (at
capitalised tokens), retyped (at random), and moved by a token at one end. Trainings stay in `--runs`; those that are
done are not repeated.
"""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import benchmark_parser, launch_training

from nerloop.data import ReadOptions, read_files
from nerloop.data.writers import conll_lines
from nerloop.tags import to_spans, to_tags
from nerloop.types import Example, Span

WAYS = ("dropped", "invented", "retyped", "moved")
SETTINGS = {
    "train.epochs": 5, "train.batch_size": 16, "train.learning_rate": 1e-4, "train.mixed_precision": "auto",
}  # fmt: skip


def damage(examples: Sequence[Example], percent: int, seed: int) -> tuple[list[Example], list[dict[str, Any]]]:
    """Return the sentences with some spans damaged, and a list of what was done.

    An entry has `sentence`, `way`, `before` and `after` (spans, or None), and `low` and `high`, between which the tags
    were changed.
    """
    chance = random.Random(seed)
    spans = [to_spans(e.tags) for e in examples]
    types = sorted({span.type for of_one in spans for span in of_one})
    places = [(i, span) for i, of_one in enumerate(spans) for span in of_one]
    chance.shuffle(places)
    number = round(len(places) * percent / 100)
    ways = [WAYS[i % len(WAYS)] for i in range(number)]
    done: list[dict[str, Any]] = []
    used: set[tuple[int, Span]] = set()

    def free(i: int, start: int, end: int, but: Span | None = None) -> bool:
        """Whether no span lies on these tokens or beside them."""
        inside = 0 <= start < end <= len(examples[i].tokens)
        return inside and all(s == but or s.end < start or end < s.start for s in spans[i])

    for way in ways:
        while True:
            if way == "invented":
                i = chance.randrange(len(examples))
                length = len(range(*chance.choice(places)[1][:2]))
                start = chance.randrange(len(examples[i].tokens) or 1)
                if not free(i, start, start + length) or not examples[i].tokens[start][:1].isupper():
                    continue
                before, after = None, Span(start, start + length, chance.choice(types))
            else:
                i, before = chance.choice(places)
                if (i, before) in used:
                    continue
                after = None
                if way == "retyped":
                    after = before._replace(type=chance.choice([t for t in types if t != before.type]))
                elif way == "moved":
                    start, end = before.start + chance.choice([-1, 0, 1]), before.end + chance.choice([-1, 0, 1])
                    after = Span(start, end, before.type)
                    if abs(start - before.start) + abs(end - before.end) != 1 or not free(i, start, end, before):
                        continue
            break
        if before is not None:
            used.add((i, before))
            spans[i].remove(before)
        if after is not None:
            used.add((i, after))
            spans[i].append(after)
        edges = [span for span in (before, after) if span is not None]
        done.append(
            {
                "sentence": i, "way": way, "before": before, "after": after,
                "low": min(s.start for s in edges), "high": max(s.end for s in edges),
            }
        )  # fmt: skip
    damaged = [replace(e, tags=tuple(to_tags(sorted(s), len(e.tokens)))) for e, s in zip(examples, spans, strict=True)]
    return damaged, done


def prepare(name: str, arguments: Any) -> Path:
    """Write the damaged file of a set and train on it: once on all of it, and once on each half. Return the folder."""
    percent, seed = map(int, name.split(":"))
    folder = Path(arguments.runs, f"{percent}-{seed}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.conll"
    examples, _ = read_files([str(Path(arguments.data, "train.conll"))], ReadOptions())
    damaged, done = damage(examples, percent, seed)
    file.write_text("".join(conll_lines((e, [e.tags]) for e in damaged)), encoding="utf-8")
    (folder / "damage.json").write_text(json.dumps(done), encoding="utf-8")
    flags = [x for setting, value in SETTINGS.items() for x in (f"--{setting}", str(value))]
    flags += ["--train.seed", str(seed), "--run.record_tokens", "true", "--run.resume", "auto"]
    launch_training(arguments.model, str(folder), *flags, run=folder / "whole", splits=["train"])
    config = folder / "base.yaml"
    config.write_text(
        json.dumps({"model": {"name_or_path": arguments.model}, "data": {"train": str(file)}}), encoding="utf-8"
    )
    command = [sys.executable, "-m", "nerloop.compare", str(config), "--folds", str(arguments.folds)]
    command += ["--seeds", str(seed), "--dir", str(folder / "folds"), "--", *flags[: 2 * len(SETTINGS)]]
    if arguments.folds:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"nerloop.compare: {done.stderr[-3000:]}")
    return folder


def main() -> None:
    parser = benchmark_parser(__doc__, sets=["10:1"], folds=2, runs="runs/label_errors", cleanlab="")
    arguments = parser.parse_args()
    for name in arguments.sets:
        prepare(name, arguments)


if __name__ == "__main__":
    main()
