"""Do processes get equal work? The imbalance of subwords between processes in each step of an epoch.

    python tests/benchmarks/balance.py --json balance.json
    python tests/benchmarks/balance.py --data ../shared/data/wikigold --num_processes 8 --batch_size 64

The imbalance of a step is the share by which the busiest process exceeds the mean: the others wait for it.
"""

import statistics

from harness import benchmark_parser, default_data, report

from nerloop import plugins
from nerloop.batching.plan import BatchUnits, Plan
from nerloop.config import ModelSettings
from nerloop.data import read_files
from nerloop.model.load import load_tokenizer
from nerloop.tags import labels_of


def main() -> None:
    parser = benchmark_parser(__doc__, batch_size=32, num_processes=4)
    parser.set_defaults(data=default_data("wnut17"))
    arguments = parser.parse_args()
    examples, _ = read_files([f"{arguments.data}/train.conll"])
    tokenizer = load_tokenizer(ModelSettings(name_or_path=arguments.model))
    alignment = plugins.build("alignment", "all", tokenizer, labels_of(e.tags for e in examples))
    features = alignment.split(examples)
    collator = plugins.build("collator", "pack", tokenizer)
    plan = Plan(
        BatchUnits.of(features),
        arguments.batch_size,
        42,
        num_processes=arguments.num_processes,
        cost=collator.num_cells,
    )
    imbalances, dealt = [], []
    for number in range(plan.num_steps(1)):
        loads = [sum(len(features[i]) for m in process for i in m) for process in plan[number].micro_batches]
        imbalances.append(max(loads) / statistics.mean(loads) - 1)
        # For comparison: sentences dealt out in turn, as a sampler does.
        turns = [0] * arguments.num_processes
        for at, feature in enumerate(plan[number].features):
            turns[at % arguments.num_processes] += len(features[feature])
        dealt.append(max(turns) / statistics.mean(turns) - 1)
    print(f"{len(imbalances)} steps of {arguments.batch_size} sentences on {arguments.num_processes} processes")
    print("| sentences | mean imbalance | largest |\n|---|---:|---:|")
    for name, shares in (("as nerloop plans", imbalances), ("dealt out in turn", dealt)):
        print(f"| {name} | {statistics.mean(shares):.2%} | {max(shares):.2%} |")
    report({"imbalances": imbalances, "in_turn": dealt}, arguments.json)


if __name__ == "__main__":
    main()
