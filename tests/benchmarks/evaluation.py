"""How fast is evaluation? Tokens a second from sentences to metrics, nerloop and the plain loop in turn.

    python tests/benchmarks/evaluation.py --json evaluation.json

Both are timed after the files are read: tokenising, alignment, batches, forwards, and the work on the scores. The plain
loop takes the largest score and counts right tokens; nerloop joins windows, decodes twice (Viterbi, argmax) and
computes seqeval's metrics of both.
"""

import argparse
import json
import time
from pathlib import Path

from harness import benchmark_parser, compare, compared_cells, launch_worker, report, run_plain, training_of


def work(arguments: argparse.Namespace) -> None:
    """Print the speed of one evaluation."""
    import torch

    from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
    from nerloop.evaluation.prediction_files import write_nothing
    from nerloop.evaluation.predictor import Split

    few, whole = (str(Path(arguments.data, name)) for name in ("test.conll", "dev.conll"))
    config = Config(
        model=ModelSettings(name_or_path=arguments.model),
        data=DataSettings(train=few, validation=whole),
        train=TrainSettings(mixed_precision=arguments.worker),
        run=RunSettings(log_level="warning"),
    )
    with training_of(config) as training:
        model, examples = training.weights.model, training.splits["validation"].examples
        # The plain loop has trained before it evaluates, so its threads and memory are warm.
        training.predictor.tag_in_order(model, training.splits["validation"], write_nothing, training.evaluator)
        start = time.perf_counter()
        split = Split.of(examples, training.predictor.alignment, training.predictor.collator)
        counts = training.predictor.tag_in_order(model, split, write_nothing, training.evaluator)
        metrics = training.predictor.metrics_of(counts, training.evaluator)
        seconds = time.perf_counter() - start
        num_tokens = sum(len(e.tokens) for e in examples)
        assert metrics["viterbi"]["tokens"] == num_tokens
        print(json.dumps({"tokens_per_second": num_tokens / seconds, "threads": torch.get_num_threads()}))


def evaluate_plain(arguments: argparse.Namespace) -> dict[str, float]:
    files = ["--train", f"{arguments.data}/test.conll", "--validation", f"{arguments.data}/dev.conll"]
    found = run_plain(["--model", arguments.model, *files, "--steps", "2", "--warmup", "1"])
    return {"tokens_per_second": found["eval_tokens_per_second"], "threads": found["threads"]}


def main() -> None:
    parser = benchmark_parser(__doc__, precisions=["auto", "no"], rounds=3)
    parser.add_argument("--worker", metavar="PRECISION", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    rows = []
    print("| precision | nerloop, tokens/s | plain loop fp32, tokens/s | ratio of medians | threads |")
    print("|---|---:|---:|---:|---:|")
    inputs = ["--model", arguments.model, "--data", arguments.data]
    for precision in arguments.precisions:
        row = compare(
            lambda p=precision: launch_worker(__file__, *inputs, "--worker", p),
            lambda: evaluate_plain(arguments),
            "tokens_per_second",
            arguments.rounds,
        )
        rows.append({"precision": precision, **row})
        print(f"| `{precision}` | {compared_cells(row)}", flush=True)
    report({"evaluation": rows, "data": Path(arguments.data).name}, arguments.json)


if __name__ == "__main__":
    main()
