"""What does unlabelled text gain, when half of the training sentences have labels? A student with and without teachers.

    python tests/benchmarks/distill.py --seeds 1 2 3 4 5 6 7 8 9 10 --runs runs/distill

A random half of the training sentences of `--data` keeps its labels. The teacher is the mean of `--teachers` models
trained on that half, with seeds of their own. Three students of the same kind are compared, paired by seed:

    plain    the half with labels
    long     the same, for as many steps as `distill`
    distill  the half with labels and, without labels, the other half and the training sentences of `--unlabelled`

No sentence of a validation or test file is trained on. Every run stays in `--runs`: one that is done is not repeated,
one that was interrupted goes on. The differences and their intervals are those of nerloop.compare.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from harness import benchmark_parser, default_data, report

from nerloop.config.parse import parse
from nerloop.data import read_files
from nerloop.data.writers import conll_lines
from nerloop.errors import NerloopError
from nerloop.experiments.as_text import as_text
from nerloop.experiments.comparison import Configuration, compare
from nerloop.experiments.finished import read_finished
from nerloop.experiments.runner import Task, length_of, slots_of, train_all
from nerloop.run.atomic import write_text
from nerloop.types import Example

FIRST_TEACHER = 1001
"""Seed of the first teacher: no student has it, so that no student is paired with its own teacher."""


def write_halves(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Write the half with labels and the text without; return the file of the one and the files of the other."""
    sentences = read_train(arguments.data)
    order = list(range(len(sentences)))
    random.Random(arguments.split_seed).shuffle(order)
    kept = set(order[: len(order) // 2])
    half = [e for i, e in enumerate(sentences) if i in kept]
    texts = {"other_half": [e for i, e in enumerate(sentences) if i not in kept]}
    texts |= {Path(folder).name: read_train(folder) for folder in arguments.unlabelled}
    base = Path(arguments.runs)
    base.mkdir(parents=True, exist_ok=True)
    labelled = write_if_new(base / "half.conll", [(e, [e.tags]) for e in half])
    # Not even the files have the tags of the sentences that count as unlabelled.
    without = {name: [(e, [["O"] * len(e.tokens)]) for e in found] for name, found in texts.items()}
    return labelled, [write_if_new(base / f"text_{name}.conll", found) for name, found in without.items()]


def read_train(folder: str) -> list[Example]:
    """Return the training sentences of a data folder."""
    return list(read_files([str(Path(folder, "train.conll"))])[0])


def write_if_new(path: Path, sentences: list[Any]) -> str:
    """Write sentences as CoNLL columns unless the file has them already; return its name."""
    content = "".join(conll_lines(sentences, document=None))
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        write_text(path, content)
    print(f"{path}: {len(sentences)} sentences", file=sys.stderr)
    return str(path)


def common_flags(arguments: argparse.Namespace, train: str) -> list[str]:
    """Return the settings that all runs share."""
    values = {
        "model.name_or_path": arguments.model,
        "data.train": train,
        "data.validation": str(Path(arguments.data, "dev.conll")),
        "train.batch_size": arguments.batch_size,
        "train.learning_rate": arguments.learning_rate,
        "train.mixed_precision": arguments.precision,
        "run.score_pipeline": 0,
        "run.keep_checkpoints": 1,
    }
    return [x for name, value in values.items() for x in (f"--{name}", str(value))]


def train_group(name: str, seeds: list[int], flags: list[str], runs: Path, jobs: int) -> list[Path]:
    """Train a run for each seed, as far as it is not done; return their folders."""
    tasks = []
    for seed in seeds:
        of_seed = [*flags, "--train.seed", str(seed)]
        tasks.append(Task(runs / name / f"seed-{seed}", of_seed, length_of(parse(of_seed))))
    train_all(tasks, slots_of(jobs), title=name)
    return [task.folder for task in tasks]


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train everything that is not done yet; return the comparison, and the cost of the teachers."""
    half, unlabelled = write_halves(arguments)
    runs, jobs = Path(arguments.runs), arguments.jobs
    common = common_flags(arguments, half)
    tested = ["--data.test", str(Path(arguments.data, "test.conll"))]
    epochs = ["--train.epochs", str(arguments.epochs)]
    limit = ["--train.max_steps", str(arguments.max_steps)] if arguments.max_steps else []
    seeds = list(range(FIRST_TEACHER, FIRST_TEACHER + arguments.teachers))
    taught = train_group("teachers", seeds, [*common, *epochs, *limit], runs, jobs)  # never shown the test file
    options = {
        "data.unlabelled": json.dumps(unlabelled),
        "objective": "distill",
        "objective.teacher": json.dumps([str(folder / "model") for folder in taught]),
        "objective.temperature": str(arguments.temperature),
        "objective.weight": str(arguments.weight),
        "data.cache_dir": str(runs / "cache"),  # the teachers are asked once for all students
    }
    (runs / "cache").mkdir(exist_ok=True)
    distill = [*common, *tested, *epochs, *limit, *(x for name, value in options.items() for x in (f"--{name}", value))]
    groups = {
        "plain": train_group("plain", arguments.seeds, [*common, *tested, *epochs, *limit], runs, jobs),
        "distill": train_group("distill", arguments.seeds, distill, runs, jobs),
    }
    students = read_finished(groups["distill"])
    steps = ["--train.max_steps", str(students[0].results["steps"])]
    # Evaluated as often as the others: five times with five epochs.
    every = ["--train.eval_every", str(-(-students[0].results["steps"] // arguments.epochs))]
    if arguments.long:
        groups["long"] = train_group("long", arguments.seeds, [*common, *tested, *steps, *every], runs, jobs)
    order = [name for name in ("plain", "long", "distill") if name in groups]
    compared = compare([Configuration(name, read_finished(groups[name])) for name in order])
    asked = max(run.results["timing"]["teacher_seconds"] for run in students)
    trained = [run.results["timing"]["train_seconds"] for run in read_finished(taught)]
    cost = {"teachers": len(taught), "training_seconds": sum(trained), "asking_seconds": asked}
    return {"comparison": compared, "teachers": cost}


def main() -> None:
    parser = benchmark_parser(__doc__, seeds=[1, 2, 3, 4, 5], epochs=5, runs="runs/distill")
    parser.add_argument("--unlabelled", nargs="*", default=[default_data("wnut17")], metavar="FOLDER",
                        help="folders whose train.conll is used as text without labels")  # fmt: skip
    parser.add_argument("--teachers", type=int, default=10, help="models whose mean is the teacher")
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--weight", type=float, default=0.5, help="share of the teacher on sentences with labels")
    parser.add_argument("--precision", default="no", choices=["auto", "no", "bf16"])
    parser.add_argument("--split_seed", type=int, default=0, help="decides which half keeps its labels")
    parser.add_argument("--max_steps", type=int, help="of each run, for a trial of this script")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--long", action=argparse.BooleanOptionalAction, default=True,
                        help="whether the control that trains as many steps is trained, too")  # fmt: skip
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        found = work(arguments)
    except NerloopError as error:
        sys.exit(f"distill.py: {error}")
    print(as_text(found["comparison"]))
    cost = found["teachers"]
    print(
        f"\nThe {cost['teachers']} teacher(s) took {cost['training_seconds']:.0f} s to train and "
        f"{cost['asking_seconds']:.0f} s to be asked, once for all students."
    )
    print(f"{time.perf_counter() - start:.0f} s since this start", file=sys.stderr)
    report(found, arguments.json)


if __name__ == "__main__":
    main()
