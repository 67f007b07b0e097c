"""How fast is `nerloop.predict`, from the start of the process to the written file? Against transformers' `pipeline`.

    python tests/benchmarks/predict.py --model runs/x/model --json predict.json

Needs a trained model; with the extra `export`, int8 through ONNX Runtime is timed, too. The text is the sentences of
all splits, one a line, repeated up to --sentences. Every side is a process of its own, started in turn; a side reads
the text and writes entities or tags to a file. F1 is that of the test split, by exact characters for `pipeline`.

For nerloop in float32 the script also times what can't be left out: the matrix products of the same subwords, and a
run on one sentence, which is nearly all imports.
"""

import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import SPLITS, benchmark_parser, last_json, median_and_spread, report

PIPELINE_SIZES = [1, 16, 64]
ROWS = 4096  # subwords of a product, as in a forward of nerloop


def main() -> None:
    parser = benchmark_parser(__doc__, sentences=20_000, rounds=3, processes=0, worker="", text="", batch_size=16)
    parser.add_argument("--sides", nargs="+", help="only these")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(WORKERS[arguments.worker](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder))
    pipelines = [name for name in figures if name.startswith("`pipeline")] or list(figures)
    fastest = min(pipelines, key=lambda name: figures[name]["median"])
    print("| side | F1 x 100 | seconds | fastest `pipeline`'s time / its time | memory of a process, MiB |")
    print("|---|---:|---:|---:|---:|")
    for name, side in figures.items():
        ratios = [a / b for a, b in zip(figures[fastest]["seconds"], side["seconds"], strict=True)]
        cells = [f"{100 * side['f1']:.1f}", median_and_spread(side["seconds"]), median_and_spread(ratios)]
        print("|", " | ".join([name, *cells, f"{side['memory']:.0f}"]), "|")
    report({"predict": figures, "sentences": arguments.sentences}, arguments.json)


def measure(arguments: Any, folder: Path) -> dict[str, Any]:
    """Return F1, the seconds of each round, their median, and the peak memory by side, the sides taken in turn."""
    text, one = folder / "text.txt", folder / "one.txt"
    write_text(arguments.data, text, arguments.sentences)
    write_text(arguments.data, one, 1)
    own = [sys.executable, __file__, "--data", arguments.data, "--model"]
    command = [sys.executable, "-m", "nerloop.predict"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(arguments.processes)]
    fp32, bf16 = (["--model", arguments.model, "--mixed_precision", precision] for precision in ("no", "bf16"))
    models = {"`predict`, fp32": fp32, "`predict`, bf16": bf16}
    if importlib.util.find_spec("onnxruntime"):
        int8 = str(folder / "int8")
        models["`predict`, int8"] = ["--model", int8]
        exporting = [sys.executable, "-m", "nerloop.export", "--model", arguments.model, "--to", "onnx-int8", int8]
        subprocess.run([*exporting, "--max_loss", "1"], check=True, stdout=subprocess.DEVNULL)
    to_file = ["--output", str(folder / "out.conll")]
    sides = {name: [*command, *flags, str(text), *to_file] for name, flags in models.items()}
    if arguments.processes:
        name = f"`predict`, fp32, {arguments.processes} processes"
        sides[name] = [*launch, *command[1:], *fp32, str(text), *to_file]
    sides["one sentence, fp32"] = [*command, *fp32, str(one), *to_file]
    for size in PIPELINE_SIZES:
        sides[f"`pipeline`, batch size {size}"] = [
            *own, arguments.model, "--worker", "pipeline", "--batch_size", str(size), "--text", str(text)
        ]  # fmt: skip
    if unknown := set(arguments.sides or ()) - sides.keys():
        sys.exit(f"--sides: found {', '.join(unknown)}, expected some of {', '.join(sides)}")
    sides = {name: side for name, side in sides.items() if arguments.sides is None or name in arguments.sides}

    found: dict[str, Any] = {name: {"seconds": [], "memory": 0.0} for name in sides}
    products = []
    for number in range(arguments.rounds):
        for name, side in sides.items():
            seconds, memory = timed(side)
            found[name]["seconds"].append(seconds)
            found[name]["memory"] = max(found[name]["memory"], memory)
            print(f"  {number + 1}/{arguments.rounds} {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        products.append(last_json([*own, arguments.model, "--worker", "products", "--text", str(text)])["seconds"])
    test = str(Path(arguments.data, SPLITS["test"]))
    of_pipeline = last_json([*own, arguments.model, "--worker", "pipeline_f1"])["f1"]
    for name, side in found.items():
        side["median"] = statistics.median(side["seconds"])
        side["f1"] = of_pipeline
        if "pipeline" not in name:
            flags = models.get(name, fp32)
            metrics = folder / "metrics.json"
            scoring = [*command, *flags, test, "--output", str(folder / "test.conll"), "--metrics", str(metrics)]
            subprocess.run(scoring, check=True, stderr=subprocess.DEVNULL)
            side["f1"] = next(iter(json.loads(metrics.read_text()).values()))["f1"]
    if {"`predict`, fp32", "one sentence, fp32"} <= set(sides):
        start = found["one sentence, fp32"]["seconds"]
        limits = [a + b for a, b in zip(products, start, strict=True)]
        ratios = [a / b for a, b in zip(found["`predict`, fp32"]["seconds"], limits, strict=True)]
        print(f"matrix products: {median_and_spread(products)} s; `predict` in fp32 takes "
              f"{median_and_spread(ratios)} times products and one sentence together")  # fmt: skip
    return found


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the MiB of its peak memory."""
    found = last_json([sys.executable, "-c", MEASURE, *command])
    return found["seconds"], found["memory"]


MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - start
if done.returncode:
    sys.exit(done.stderr)
print(json.dumps({"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}))
"""


def write_text(data: str, file: Path, number: int) -> None:
    """Write this many sentences of all splits, one a line."""
    from nerloop.data import read_files

    lines = [" ".join(e.tokens) for split in SPLITS.values() for e in read_files([str(Path(data, split))])[0]]
    lines = list(itertools.islice(itertools.cycle(lines), number))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_pipeline(arguments: Any) -> dict[str, float]:
    """Write the entities of each line of a text, as its users do."""
    from transformers import pipeline

    tagger = pipeline("token-classification", arguments.model, aggregation_strategy="first", device="cpu")
    lines = Path(arguments.text).read_text(encoding="utf-8").splitlines()
    with open(f"{arguments.text}.entities", "w", encoding="utf-8") as file:
        for entities in tagger(lines, batch_size=arguments.batch_size):
            file.write(json.dumps([{**one, "score": float(one["score"])} for one in entities]) + "\n")
    return {}


def run_pipeline_f1(arguments: Any) -> dict[str, float]:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from nerloop.data import read_files
    from nerloop.evaluation.pipeline_score import count_pipeline, f1_of

    model = AutoModelForTokenClassification.from_pretrained(arguments.model)
    examples, _ = read_files([str(Path(arguments.data, SPLITS["test"]))])
    return {"f1": f1_of(count_pipeline(model, AutoTokenizer.from_pretrained(arguments.model), examples)["first"])}


def run_products(arguments: Any) -> dict[str, float]:
    """Time the products of all linear layers with the subwords of a text, in float32."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    lines = Path(arguments.text).read_text(encoding="utf-8").splitlines()
    subwords = sum(len(ids) for ids in AutoTokenizer.from_pretrained(arguments.model)(lines)["input_ids"])
    model = AutoModelForTokenClassification.from_pretrained(arguments.model, dtype=torch.float32)
    weights = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(ROWS, weight.shape[1]) for weight in weights}
    seconds = []
    with torch.inference_mode():
        for _ in range(-(-subwords // ROWS) + 1):
            start = time.perf_counter()
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.mean(seconds[1:]) * subwords / ROWS}


WORKERS = {"pipeline": run_pipeline, "pipeline_f1": run_pipeline_f1, "products": run_products}

if __name__ == "__main__":
    main()
