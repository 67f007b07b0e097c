"""F1 over seeds: trains and prints the table that stands in the README.

    python tests/benchmarks/f1.py --model FOLDER --data ../shared/data/wikigold --alignments first all --seeds 1 2 3
    python tests/benchmarks/f1.py --model FOLDER --data ../shared/data/wikigold --alignments \
        --variants "plain: --collator pad --train.mixed_precision no" "fast: --train.mixed_precision auto"

`--data` is a folder with train.conll, dev.conll and test.conll. Each run is a process of its own and stays in `--runs`;
what is done there is not done again. A variant is a name and further settings. Figures are means over the seeds, with
their range, times 100: of the last weights on the validation split with both decodings and with transformers' pipeline
(its weights are the best), and of the best weights on the test split.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from turns import mean_and_range

COLUMNS = ("validation viterbi", "validation argmax", "pipeline simple", "pipeline first", "test viterbi")


def run(arguments: argparse.Namespace, name: str, settings: list[str], seed: int) -> dict:
    """Return results.json of one training."""
    folder = Path(arguments.runs, f"{Path(arguments.data).name}-{name}-{seed}")
    files = {"train": "train.conll", "validation": "dev.conll", "test": "test.conll"}
    command = [sys.executable, "-m", "nerloop.train", "--model.name_or_path", arguments.model]
    command += [x for split, name in files.items() for x in (f"--data.{split}", str(Path(arguments.data, name)))]
    command += ["--train.epochs", str(arguments.epochs), "--train.batch_size", "16", "--train.learning_rate", "1e-4"]
    command += ["--train.seed", str(seed), *settings, "--run.dir", str(folder), "--run.resume", "auto"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "results.json").read_text())


def figures(results: dict) -> dict[str, float]:
    """Return the figures of one training, times 100."""
    validation = results["validation"]
    found = (
        validation["last"]["viterbi"]["f1"],
        validation["last"]["argmax"]["f1"],
        validation["pipeline"]["simple"],
        validation["pipeline"]["first"],
        results["test"]["best"]["viterbi"]["f1"],
    )
    return {name: 100 * f1 for name, f1 in zip(COLUMNS, found, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--alignments", nargs="*", default=["first"])
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME: FLAGS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--runs", default="runs/f1")
    parser.add_argument("--json", help="file for the figures of each run")
    arguments = parser.parse_args()
    collected = {}
    print("| variant |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    variants = {alignment: ["--alignment", alignment] for alignment in arguments.alignments}
    variants |= {name: flags.split() for name, _, flags in (v.partition(":") for v in arguments.variants)}
    for variant, settings in variants.items():
        rows = [figures(run(arguments, variant, settings, seed)) for seed in arguments.seeds]
        collected[variant] = dict(zip(map(str, arguments.seeds), rows, strict=True))
        cells = [mean_and_range([row[name] for row in rows]) for name in COLUMNS]
        print(f"| `{variant}` |", " | ".join(cells), "|", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(collected, indent=1))


if __name__ == "__main__":
    main()
