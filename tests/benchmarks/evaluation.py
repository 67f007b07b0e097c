"""How fast is evaluation? Tokens a second from sentences to metrics, nerloop and the plain loop in turn.

    python tests/benchmarks/evaluation.py --json evaluation.json

Both are timed from read sentences on: tokenising, alignment, batches, forwards, and what each does with the scores: the
plain loop takes the largest and counts right tokens; nerloop joins windows, decodes twice (Viterbi, argmax) and scores
both with seqeval's figures.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from turns import compared, default_data, default_model, finish, in_turn, median_and_spread, run_plain


def work(arguments: argparse.Namespace) -> None:
    """Print the speed of one evaluation, in a process of its own."""
    from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
    from nerloop.distributed import launch as hardware
    from nerloop.evaluation.predictor import Split
    from nerloop.run.signals import Interruption
    from nerloop.training.setup import Training, load_dataset

    few, whole = (str(Path(arguments.data, name)) for name in ("test.conll", "dev.conll"))
    config = Config(
        model=ModelSettings(name_or_path=arguments.model),
        data=DataSettings(train=few, validation=whole),
        train=TrainSettings(mixed_precision=arguments.worker),
        run=RunSettings(log_level="warning"),
    )
    accelerator, precision = hardware.start(config)
    dataset = load_dataset(config, accelerator)
    task = Training.build(config, dataset, precision, accelerator, Interruption())
    task.evaluate(task.weights.model, "validation")  # the plain loop has trained before it evaluates: all is warm
    examples = dataset.splits["validation"]
    start = time.perf_counter()
    split = Split.of(examples, task.predictor.alignment, task.predictor.collator)
    metrics = task.predictor.evaluate(task.weights.model, split, task.evaluator)
    seconds = time.perf_counter() - start
    assert metrics["viterbi"]["tokens"] == sum(len(e.tokens) for e in examples)
    print(json.dumps({"tokens_per_second": metrics["viterbi"]["tokens"] / seconds}))


def evaluate_ours(arguments: argparse.Namespace, precision: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--model", arguments.model, "--data", arguments.data, "--worker", precision]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def evaluate_plain(arguments: argparse.Namespace) -> dict[str, float]:
    files = ["--train", f"{arguments.data}/test.conll", "--validation", f"{arguments.data}/dev.conll"]
    found = run_plain(["--model", arguments.model, *files, "--steps", "2", "--warmup", "1"])
    return {"tokens_per_second": found["eval_tokens_per_second"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=default_model(), required=default_model() is None)
    parser.add_argument("--data", default=default_data(), help="folder with test.conll and dev.conll")
    parser.add_argument("--precisions", nargs="+", default=["auto", "no"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--worker", metavar="PRECISION", help="what the processes are told; not for people")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    rows = []
    print("| precision | nerloop, tokens/s | plain loop fp32, tokens/s | ratio of medians |\n|---|---:|---:|---:|")
    for precision in arguments.precisions:
        sides = {"nerloop": lambda p=precision: evaluate_ours(arguments, p), "plain": lambda: evaluate_plain(arguments)}
        found = in_turn(sides, arguments.rounds)
        ours, plain = ([one["tokens_per_second"] for one in found[side]] for side in sides)
        rows.append({"precision": precision, **compared(ours, plain)})
        cells = (f"`{precision}`", median_and_spread(ours), median_and_spread(plain), f"{rows[-1]['ratio']:.2f}")
        print("|", " | ".join(cells), "|", flush=True)
    finish({"evaluation": rows, "data": Path(arguments.data).name}, arguments.json)


if __name__ == "__main__":
    main()
