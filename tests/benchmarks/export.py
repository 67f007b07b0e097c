"""What does an export cost and gain? F1 and time of exports against torch in float32, in turn.

    python tests/benchmarks/export.py --model runs/x/model --json export.json

Needs the extra `export` and a trained model. Timed is all from sentences to tags of the test split; the exports are
made first, and one pass of each side is not counted.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import benchmark_parser, median_and_spread, report

FORMATS = ["onnx", "onnx-int8", "openvino"]


def main() -> None:
    parser = benchmark_parser(__doc__, formats=FORMATS, rounds=3)
    arguments = parser.parse_args()

    from nerloop.exporting.export import export

    test = str(Path(arguments.data, "test.conll"))
    with tempfile.TemporaryDirectory() as folder:
        sides = {"torch": arguments.model}
        for name in arguments.formats:
            sides[name] = str(Path(folder, name))
            export(arguments.model, name, sides[name], check=[test], max_loss=1.0)
        figures = measure(sides, test, arguments.rounds)
    print("| side | F1 x 100 | seconds | torch's time / its time |")
    print("|---|---:|---:|---:|")
    for name, side in figures.items():
        ratio = median_and_spread([a / b for a, b in zip(figures["torch"]["seconds"], side["seconds"], strict=True)])
        print(f"| `{name}` | {100 * side['f1']:.2f} | {median_and_spread(side['seconds'])} | {ratio} |")
    report({"export": figures, "data": Path(arguments.data).name}, arguments.json)


def measure(sides: dict[str, str], test: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Return F1 and the seconds of each round by side, the sides taken in turn."""
    from nerloop.distributed.collectives import SingleProcess
    from nerloop.evaluation.prediction_files import write_nothing
    from nerloop.evaluation.predictor import Split
    from nerloop.evaluation.tagger import load_predictor
    from nerloop.exporting.export import read_examples
    from nerloop.model.saved import SavedModel

    loaded = {}
    for name, folder in sides.items():
        saved = SavedModel.read(folder)
        examples = read_examples([test], saved.read_options)
        process = SingleProcess(None, "no") if saved.is_exported else SingleProcess.on_cpu()
        loaded[name] = (*load_predictor(folder, replace(saved, precision="no"), process, "no"), saved.build_evaluator())
    figures: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in sides}
    for number in range(rounds + 1):
        for name, (predictor, model, evaluator) in loaded.items():
            start = time.perf_counter()
            split = Split.of(examples, predictor.alignment, predictor.collator)
            metrics = predictor.metrics_of(predictor.tag_in_order(model, split, write_nothing, evaluator), evaluator)
            if number:
                figures[name]["seconds"].append(time.perf_counter() - start)
            figures[name]["f1"] = metrics[predictor.main_decoding]["f1"]
        print(f"  {number}/{rounds}: {figures}", file=sys.stderr, flush=True)
    assert all(statistics.median(side["seconds"]) > 0 for side in figures.values())
    return figures


if __name__ == "__main__":
    main()
