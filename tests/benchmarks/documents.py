"""What document windows are worth: trains over seeds and prints the table that stands in the README.

    python tests/benchmarks/documents.py --model FOLDER --data ../shared/data/wikigold --windows 128 256 --json FILE

`--data` is a folder with train.conll, dev.conll and test.conll that have -DOCSTART- lines. The first row is the same
training sentence by sentence. All trainings take the same number of updates: a step takes whole windows until it holds
the batch, so it holds some more sentences, and as many updates are more epochs; the last column says how many.
Each training is a process of its own and stays in `--runs`; what is done there is not done again. Figures are means
over the seeds, with their range: F1 times 100 with Viterbi decoding, of the last and the best weights on the
validation split and of the best on the test split.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from turns import mean_and_range

COLUMNS = ("validation, last", "validation, best", "test, best", "epochs")


def rows_of(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the flags of each row, by its name."""
    rows = {"`all`": ["--alignment", "all"]}
    for size in arguments.windows:
        rows[f"`document`, {size}"] = ["--alignment", "document", "--alignment.max_length", str(size)]
    return rows


def run(arguments: argparse.Namespace, flags: list[str], seed: int) -> dict[str, float]:
    """Return the figures of one training."""
    folder = Path(arguments.runs, "-".join([Path(arguments.data).name, *flags[1::2], str(seed)]))
    files = {"train": "train.conll", "validation": "dev.conll", "test": "test.conll"}
    command = [sys.executable, "-m", "nerloop.train", "--model.name_or_path", arguments.model]
    command += [x for split, name in files.items() for x in (f"--data.{split}", str(Path(arguments.data, name)))]
    command += ["--train.max_steps", str(arguments.steps), "--train.batch_size", str(arguments.batch_size)]
    command += ["--train.learning_rate", "1e-4", "--train.mixed_precision", "auto", "--train.seed", str(seed), *flags]
    command += ["--run.dir", str(folder), "--run.resume", "auto"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = json.loads((folder / "results.json").read_text())
    epoch = max(json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines())
    validation = results["validation"]
    figures = (
        100 * validation["last"]["viterbi"]["f1"],
        100 * validation["best"]["viterbi"]["f1"],
        100 * results["test"]["best"]["viterbi"]["f1"],
        epoch,
    )
    return dict(zip(COLUMNS, figures, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--windows", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=310, help="updates of each training")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--runs", default="runs/documents")
    parser.add_argument("--json", help="file for the figures of each run")
    arguments = parser.parse_args()
    collected = {}
    print("| `alignment`, window |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, flags in rows_of(arguments).items():
        rows = [run(arguments, flags, seed) for seed in arguments.seeds]
        collected[name] = dict(zip(map(str, arguments.seeds), rows, strict=True))
        cells = [mean_and_range([row[column] for row in rows]) for column in COLUMNS]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(collected, indent=1))


if __name__ == "__main__":
    main()
