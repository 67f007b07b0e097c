"""How good are confidences and operating points on test, and what do they cost? For models that were trained before.

    python tests/benchmarks/confidence.py --models runs/seed-1/model runs/seed-2/model runs/seed-3/model

Everything is fitted on dev.conll and measured on test.conll, from the models' scores. "mean" is the mean softmax
probability of the tags, nerloop's confidence until 2026-11. The cost is that of scoring, decoding and confidences on
the test split, in CPU seconds of one process; each part is repeated, and the median counts.
"""

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import benchmark_parser, report


def held_out(model: str, file: Path) -> tuple[Any, Any, float]:
    """Return a split with its scores, the predictor, and the CPU seconds that the scores took."""
    import torch

    from nerloop.data import read_files
    from nerloop.distributed.collectives import SingleProcess
    from nerloop.evaluation.held_out import HeldOut
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.model.saved import SavedModel

    saved = SavedModel.read(model)
    accelerator = SingleProcess(torch.device("cpu"), saved.precision)
    predictor, loaded = load_predictor(model, saved, accelerator, saved.precision)
    examples, _ = read_files([str(file)], saved.read_options)
    split = Split.of(examples, predictor.alignment, predictor.collator)
    start = time.process_time()
    scores = {i: s for group in predictor.scores(loaded, split) for i, s in group.items()}
    seconds = time.process_time() - start
    return HeldOut(predictor.labels, examples, [scores[i] for i in range(len(examples))]), predictor, seconds


def median_seconds(run: Callable[[], Any], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return statistics.median(found)


def errors_of(test: Any, decoding: Any, temperature: float) -> dict[str, float]:
    """Return the expected calibration errors on test of the three kinds of confidence."""
    from nerloop.evaluation.held_out import Judged
    from nerloop.evaluation.predictor import softmax
    from nerloop.evaluation.report.reliability import calibration

    plain, fitted = (Judged.of(test, decoding, t) for t in (1.0, temperature))
    means = [
        softmax(s)[np.arange(len(s)), path][span.start : span.end].mean()
        for s, path, spans in zip(test.scores, decoding.decode(test.scores), test.predicted(decoding), strict=True)
        for span in spans
    ]
    kinds = {"mean": np.array(means), "probability": plain.confidences, "calibrated": fitted.confidences}
    return {name: calibration(c, plain.is_correct)["ece"] for name, c in kinds.items()}


def measure_model(model: str, data: Path, rounds: int) -> dict[str, Any]:
    from nerloop.evaluation.calibration import fit, measure

    dev, predictor, _ = held_out(model, data / "dev.conll")
    test, predictor, scoring = held_out(model, data / "test.conll")
    decoding = predictor.decodings["viterbi"]
    start = time.process_time()
    calibration = fit(dev, decoding)
    seconds = {"fit": time.process_time() - start, "scoring": scoring}
    spans = test.predicted(decoding)
    seconds["decoding"] = median_seconds(lambda: decoding.decode(test.scores), rounds)
    seconds["confidences"] = median_seconds(lambda: decoding.span_probabilities(test.scores, spans, 1.3), rounds)
    biases = {name: dict(point.biases) for name, point in calibration.points.items()}
    found = {"model": model, "temperature": calibration.temperature, "biases": biases, "seconds": seconds}
    return found | {"ece": errors_of(test, decoding, calibration.temperature), **measure(test, decoding, calibration)}


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=5)
    parser.add_argument("--models", nargs="+", required=True, metavar="DIR", help="folders of saved models")
    arguments = parser.parse_args()
    logging.disable()
    rows = [measure_model(model, Path(arguments.data), arguments.rounds) for model in arguments.models]
    print("| model | temperature | ECE mean | ECE probability | ECE calibrated |\n|---|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['model']} | {row['temperature']:.2f} | {' | '.join(f'{e:.3f}' for e in row['ece'].values())} |")
    print("\n| model | operating point | precision | recall | F1 | biases |\n|---|---|---:|---:|---:|---|")
    for row in rows:
        for name, scores in row["operating_points"].items():
            cells = " | ".join(f"{100 * scores[m]:.1f}" for m in ("precision", "recall", "f1"))
            biases = ", ".join(f"{kind} {value:+g}" for kind, value in row["biases"][name].items())
            print(f"| {row['model']} | {name} | {cells} | {biases} |")
    print("\n| model | target | promised | delivered | recall on test |\n|---|---|---:|---:|---:|")
    for row in rows:
        for target, by_value in row["targets"].items():
            for value, found in by_value.items():
                promised, delivered = found["validation"][target], found["delivered"]
                print(f"| {row['model']} | {target} {value} | {promised:.3f} | {delivered[target]:.3f} | "
                      f"{delivered['recall']:.3f} |")  # fmt: skip
    print("\n| model | scoring, CPU s | decoding | confidences | fit |\n|---|---:|---:|---:|---:|")
    for row in rows:
        cells = " | ".join(f"{row['seconds'][part]:.3f}" for part in ("scoring", "decoding", "confidences", "fit"))
        print(f"| {row['model']} | {cells} |")
    report({"confidence": rows, "data": Path(arguments.data).name}, arguments.json)


if __name__ == "__main__":
    main()
