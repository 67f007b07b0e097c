"""How fast are tokenising and alignment? Tokens a second from sentences to features, each distinct token once or not.

python tests/benchmarks/tokenising.py --json tokenising.json
"""

import statistics
import time
from pathlib import Path
from unittest import mock

from harness import benchmark_parser, default_data, median_and_spread, report

from nerloop import plugins
from nerloop.alignment import subwords
from nerloop.config import ModelSettings
from nerloop.data import read_files
from nerloop.model.load import load_tokenizer
from nerloop.tags import labels_of


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=5)
    parser.add_argument("--data", nargs="+", default=[default_data("wikigold"), default_data("wnut17")])
    arguments = parser.parse_args()
    rows = []
    print("| data, train | tokens | each distinct token once, tokens/s | sentence by sentence, tokens/s | ratio |")
    print("|---|---:|---:|---:|---:|")
    for folder in arguments.data:
        examples, _ = read_files([str(Path(folder, "train.conll"))])
        alignment = plugins.build(
            "alignment", "all", load_tokenizer(ModelSettings(name_or_path=arguments.model)),
            labels_of(e.tags for e in examples),
        )  # fmt: skip
        num_tokens = sum(len(e.tokens) for e in examples)
        alignment.split(examples[:100])  # the tokenizer starts its threads
        speeds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(arguments.rounds):
            for once in speeds:
                with mock.patch.object(subwords, "is_token_by_token", lambda *_, once=once: once):
                    start = time.perf_counter()
                    features = alignment.split(examples)
                    assert len(features) >= len(examples)
                    speeds[once].append(num_tokens / (time.perf_counter() - start))
        ratio = statistics.median(speeds[True]) / statistics.median(speeds[False])
        name = Path(folder).name
        rows.append({"data": name, "tokens": num_tokens, "tokens_per_second": speeds[True], "direct": speeds[False]})
        print(f"| {name} | {num_tokens} |", " | ".join(map(median_and_spread, speeds.values())), f"| {ratio:.2f} |")
    report({"tokenising": rows}, arguments.json)


if __name__ == "__main__":
    main()
