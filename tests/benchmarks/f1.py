"""What F1 do alignments and settings reach? Trains over seeds and prints a table.

    python tests/benchmarks/f1.py --alignments first all --seeds 1 2 3
    python tests/benchmarks/f1.py --variants "plain: --collator pad --train.mixed_precision no" \
        "fast: --train.mixed_precision auto"

A variant is a name and further settings. Each training is an `accelerate launch -m nerloop.train` of its own and stays
in `--runs`; one that is done is not repeated. Figures are means over the seeds, with their range, times 100: of the
last weights on the validation split with both decodings, of the best weights on the validation split with
transformers' pipeline and on the test split with Viterbi.
"""

from pathlib import Path
from typing import Any

from harness import benchmark_parser, mean_and_range, report, train_seed

COLUMNS = ("validation viterbi", "validation argmax", "pipeline simple", "pipeline first", "test viterbi")


def figures(results: dict[str, Any]) -> dict[str, float]:
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
    parser = benchmark_parser(__doc__, seeds=[1, 2, 3], epochs=5, runs="runs/f1")
    parser.add_argument("--alignments", nargs="*", default=[], metavar="ALIGNMENT")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME: FLAGS")
    arguments = parser.parse_args()
    variants = {alignment: ["--alignment", alignment] for alignment in arguments.alignments}
    variants |= {name: flags.split() for name, _, flags in (v.partition(":") for v in arguments.variants)}
    if not variants:
        parser.error("expected --alignments or --variants")
    collected = {}
    print("| variant |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for variant, settings in variants.items():
        rows = []
        for seed in arguments.seeds:
            run = Path(arguments.runs, f"{Path(arguments.data).name}-{variant}-{seed}")
            flags = ["--train.epochs", str(arguments.epochs), *settings]
            results = train_seed(arguments.model, arguments.data, seed, *flags, run=run)
            rows.append({**figures(results), "seed": seed, "threads": results["threads"]})
        collected[variant] = rows
        cells = [mean_and_range([row[name] for row in rows]) for name in COLUMNS]
        print(f"| `{variant}` |", " | ".join(cells), "|", flush=True)
    report({"f1": collected, "data": Path(arguments.data).name, "epochs": arguments.epochs}, arguments.json)


if __name__ == "__main__":
    main()
