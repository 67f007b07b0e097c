"""Is it worth annotating the sentences that `predict --uncertain` chooses? F1 with them and with random ones.

    python tests/benchmarks/uncertain.py --seeds 1 2 3 4 5 --first 100 --more 100

Per seed: train on some sentences of the training file; choose more of the others, once by `predict --uncertain`, once
at random until they have as many tokens; add them with their gold tags; train from the start on all. F1 is that of the
test split. Annotation costs by the token, so equal numbers of sentences would favour long ones.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import benchmark_parser, launch_training, mean_and_range, report

Sentences = list[str]
"""Sentences of a CoNLL file, each the text of its lines."""


def read(path: Path) -> Sentences:
    return [s for s in path.read_text(encoding="utf-8").strip().split("\n\n") if s]


def write(path: Path, sentences: Sentences) -> Path:
    path.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return path


def num_tokens(sentences: Sentences) -> int:
    return sum(len(s.splitlines()) for s in sentences)


def choose_uncertain(model: Path, pool: Sentences, number: int, folder: Path) -> Sentences:
    """Return what `predict --uncertain` chooses; it sees no tags."""
    untagged = ["\n".join(line.split(" ")[0] for line in s.splitlines()) for s in pool]
    source, tasks = write(folder / "pool.conll", untagged), folder / "tasks.jsonl"
    command = [sys.executable, "-m", "nerloop.predict", "--model", str(model), "--format", "conll", str(source)]
    done = subprocess.run(
        [*command, "--uncertain", str(number), "--output", str(tasks)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    # The location is file:line of a sentence's first token.
    lines, at = {}, 1
    for i, sentence in enumerate(untagged):
        lines[at] = i
        at += len(sentence.splitlines()) + 1
    found = [json.loads(line)["meta"]["location"] for line in tasks.read_text(encoding="utf-8").splitlines()]
    return [pool[lines[int(location.rpartition(":")[2])]] for location in found]


def f1_of(arguments, train: Sentences, seed: int, folder: Path) -> float:
    """Train on some sentences; return the F1 of the test split, of the last weights: they have no validation split."""
    flags = ["--train.batch_size", "16", "--train.learning_rate", "2e-4", "--train.max_steps", str(arguments.steps)]
    flags += ["--train.mixed_precision", "auto", "--train.seed", str(seed), "--data.train", str(folder / "train.conll")]
    folder.mkdir()
    write(folder / "train.conll", train)
    launch_training(arguments.model, arguments.data, *flags, run=folder / "run", splits=["test"])
    results = json.loads((folder / "run" / "results.json").read_text())
    return 100 * float(results["test"]["best"]["viterbi"]["f1"])


def compare_choices(arguments, seed: int, folder: Path) -> dict[str, float]:
    sentences = read(Path(arguments.data, "train.conll"))
    random.Random(seed).shuffle(sentences)
    first, pool = sentences[: arguments.first], sentences[arguments.first :]
    row = {"seed": seed, "before": f1_of(arguments, first, seed, folder / "first")}
    chosen = choose_uncertain(folder / "first" / "run" / "model", pool, arguments.more, folder)
    drawn: Sentences = []  # the pool is in random order
    for sentence in pool:
        if num_tokens(drawn) >= num_tokens(chosen):
            break
        drawn.append(sentence)
    row["uncertain"] = f1_of(arguments, first + chosen, seed, folder / "uncertain")
    row["random"] = f1_of(arguments, first + drawn, seed, folder / "random")
    return row | {"tokens": num_tokens(chosen), "chosen": len(chosen), "drawn": len(drawn)}


def main() -> None:
    parser = benchmark_parser(__doc__, seeds=[1, 2, 3, 4, 5], first=100, more=100, steps=80)
    arguments = parser.parse_args()
    rows = []
    print("| seed | F1 before | with uncertain | with random | gain | tokens added | sentences |")
    print("|---:|---:|---:|---:|---:|---:|---|")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            row = compare_choices(arguments, seed, Path(folder))
        rows.append(row)
        cells = [f"{row[name]:.1f}" for name in ("before", "uncertain", "random")]
        gain = f"{row['uncertain'] - row['random']:+.1f}"
        print(
            f"| {seed} | {' | '.join(cells)} | {gain} | {row['tokens']} | {row['chosen']}, {row['drawn']} |", flush=True
        )
    gains = [row["uncertain"] - row["random"] for row in rows]
    print(f"| all | | | | {mean_and_range(gains)}, sd {statistics.stdev(gains) if len(gains) > 1 else 0:.1f} | | |")
    report(
        {"uncertain": rows, "first": arguments.first, "more": arguments.more, "steps": arguments.steps}, arguments.json
    )


if __name__ == "__main__":
    main()
