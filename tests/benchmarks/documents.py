"""What are document windows worth? Trains over seeds and prints a table.

    python tests/benchmarks/documents.py --windows 128 256 --seeds 1 2 3 --json documents.json

The files of `--data` have -DOCSTART- lines. The first row is the same training sentence by sentence. All trainings have
the same number of updates: a step takes whole windows until it holds the batch, so it holds a few more sentences, and
the same updates are more epochs; the last column says how many. Each training is an `accelerate launch -m
nerloop.train` of its own and stays in `--runs`; one that is done is not repeated. Figures are means over the seeds,
with their range: F1 times 100 with Viterbi decoding, of the last and the best weights on the validation split and of
the best on the test split.
"""

import json
from pathlib import Path

from harness import benchmark_parser, mean_and_range, report, train_seed

COLUMNS = ("validation, last", "validation, best", "test, best", "epochs")


def train_row(model: str, data: str, seed: int, flags: list[str], run: Path) -> dict[str, float]:
    """Return the figures of one training."""
    results = train_seed(model, data, seed, *flags, run=run)
    epoch = max(json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines())
    validation = results["validation"]
    figures = (
        100 * validation["last"]["viterbi"]["f1"],
        100 * validation["best"]["viterbi"]["f1"],
        100 * results["test"]["best"]["viterbi"]["f1"],
        epoch,
    )
    return {**dict(zip(COLUMNS, figures, strict=True)), "seed": seed, "threads": results["threads"]}


def main() -> None:
    parser = benchmark_parser(
        __doc__, windows=[128, 256], seeds=[1, 2, 3], steps=310, precision="auto", runs="runs/documents"
    )
    arguments = parser.parse_args()
    variants = {"`all`": ["--alignment", "all"]}
    for size in arguments.windows:
        variants[f"`document`, {size}"] = ["--alignment", "document", "--alignment.max_length", str(size)]
    settings = ["--train.max_steps", str(arguments.steps), "--train.mixed_precision", arguments.precision]
    collected = {}
    print("| `alignment`, window |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, alignment in variants.items():
        rows = []
        for seed in arguments.seeds:
            run = Path(arguments.runs, "-".join([Path(arguments.data).name, *alignment[1::2], str(seed)]))
            rows.append(train_row(arguments.model, arguments.data, seed, [*settings, *alignment], run))
        collected[name] = rows
        cells = [mean_and_range([row[column] for row in rows]) for column in COLUMNS]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    report({"documents": collected, "steps": arguments.steps}, arguments.json)


if __name__ == "__main__":
    main()
