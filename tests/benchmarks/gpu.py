"""On a CUDA device: is it right, and how fast is it? Many minutes; exit code 1 if something is wrong.

    python tests/benchmarks/gpu.py --json gpu.json

Right: logits and gradients of packed sentences against those of each sentence alone, in float64, fp32 and bf16, and
whether one attention kernel computes all sentences; losses and weights after 20 steps with dropout, with and without
CUDA graphs, equal to the bit with deterministic kernels. Fast, for an encoder of bert-base's shape with random weights:
samples a second against the plain loop in fp32 and bf16, recording of graphs included; with and without graphs
(`train.cuda_graphs`) the time of a step over its limit, the share of the matmul peak at 16,000 subwords a step, and the
share of time in which the device idles in steady state, read from a trace of `run.profile`. `--model` gives the
tokenizer alone.
"""

import gzip
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from harness import (
    benchmark_parser,
    compare_sides,
    compared,
    compared_cells,
    report,
    run_plain,
    samples_per_second,
    threads_of,
    train_steps,
    write_few,
)

from nerloop.model.compat import prepare_model

TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 5e-2}  # relative, over all logits or all gradients
WARMUP, STEPS = 10, 200
TRACED = 240  # steps of a run with a trace; it begins when nearly all graphs are recorded
PEAK_SUBWORDS = 16_000


def check(model_folder: str, device: str = "cuda") -> list[dict[str, Any]]:
    """Return how far packed sentences are from lone ones, by type."""
    import numpy as np
    from transformers import AutoConfig, AutoModelForTokenClassification

    from nerloop import plugins
    from nerloop.config import ModelSettings
    from nerloop.model import packing as attention
    from nerloop.model.forward import feature_logits
    from nerloop.model.load import load_tokenizer
    from nerloop.types import IGNORE, Feature

    torch.backends.cuda.matmul.allow_tf32 = False
    tokenizer = load_tokenizer(ModelSettings(name_or_path=model_folder))
    random = np.random.RandomState(0)
    features = []
    for atom, length in enumerate((3, 60, 17, 128, 5, 31)):
        ids = random.randint(1000, 20000, length).astype(np.int64)
        features.append(Feature(ids, np.full(length, IGNORE), np.full(length, -1), atom, (atom,), (length,)))
    config = AutoConfig.from_pretrained(
        model_folder, num_labels=9, num_hidden_layers=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    rows = []
    for name, tolerance in TOLERANCES.items():
        dtype = getattr(torch, name)
        torch.manual_seed(0)
        model = AutoModelForTokenClassification.from_config(config).to(device, dtype)
        own, found = model.config._attn_implementation, {}
        for kind in ("pad", "pack"):
            model.set_attn_implementation(own)
            collator = plugins.build("collator", kind, tokenizer)
            if kind == "pack":
                prepare_model(model, collator)
            groups = [features] if kind == "pack" else [[feature] for feature in features]
            model.zero_grad()
            logits = [one for group in groups for one in feature_logits(model, collator(group))]
            torch.stack([one.float().square().sum() for one in logits]).sum().backward()
            gradient = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
            found[kind] = (torch.cat(logits).detach().double(), gradient)
        apart = [float((a - b).norm() / b.norm()) for a, b in zip(found["pack"], found["pad"], strict=True)]
        kind = (torch.device(device), dtype, config.hidden_size // config.num_attention_heads)
        rows.append({"type": name, "logits": apart[0], "gradients": apart[1],
                     "one_kernel": attention.can_use_varlen(*kind),
                     "one_kernel_for_windows": attention.can_use_varlen(*kind, is_windowed=True),
                     "is_right": max(apart) <= tolerance})  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def check_graphs(model_folder: str, device: str = "cuda") -> dict[str, Any]:
    """Return what becomes of 20 steps of 2 micro-batches by graphs and by the same steps without."""
    import numpy as np
    from transformers import AutoConfig, AutoModelForTokenClassification

    from nerloop import plugins
    from nerloop.config import ModelSettings
    from nerloop.distributed.launch import make_accelerator
    from nerloop.model.load import load_tokenizer
    from nerloop.objectives.cross_entropy import CrossEntropy
    from nerloop.optim.master_weights import Weights
    from nerloop.optim.optimizer import build_optimizer
    from nerloop.optim.step import TrainStep
    from nerloop.types import Feature

    tokenizer = load_tokenizer(ModelSettings(name_or_path=model_folder))
    config = AutoConfig.from_pretrained(model_folder, num_labels=9, num_hidden_layers=4)
    sides: list[tuple[list[float], torch.Tensor]] = []
    numbers: list[int] = []
    for is_on in (True, False):
        accelerator = make_accelerator("bf16", deterministic=True)
        torch.manual_seed(0)
        master = AutoModelForTokenClassification.from_config(config).to(device)
        collator = plugins.build("collator", "pack", tokenizer)
        prepare_model(master, collator)
        weights = Weights.of(master, "bf16")
        model, optimizer = accelerator.prepare(weights.model, build_optimizer(weights, 0.01, "bf16"))
        train_step = TrainStep(
            accelerator, weights, model, optimizer, 1.0, with_graphs=True, objective=CrossEntropy(["O"])
        )
        if train_step.graphs is None:
            sys.exit("found no CUDA graphs to check")
        train_step.graphs._is_on = is_on
        model.train()
        random, losses = np.random.RandomState(0), []
        for step in range(20):
            torch.manual_seed(step)
            for is_last in (False, True):
                features = []
                for atom, length in enumerate(random.randint(3, 60, 32)):
                    ids, labels = random.randint(1000, 20000, length), random.randint(0, 9, length)
                    features.append(Feature(ids, labels, np.full(length, -1), atom, (atom,), (int(length),)))
                losses.append(float(train_step.backward(collator(features), 1e-3, is_last=is_last)))
            train_step.update(step, 1e-4)
        numbers.append(len(train_step.graphs))
        sides.append((losses, torch.cat([p.detach().flatten() for p in master.parameters()])))
    torch.use_deterministic_algorithms(False)
    (losses, found), (same_losses, same) = sides
    row = {
        "type": "graphs",
        "graphs": numbers[0],
        "losses": max(abs(a - b) / b for a, b in zip(losses, same_losses, strict=True)),
        "weights": float((found - same).norm() / same.norm()),
    }
    row["is_right"] = numbers[0] > 1 and losses == same_losses and torch.equal(found, same)
    print(row, file=sys.stderr, flush=True)
    return row


def make_base(folder: Path, tokenizer_folder: str) -> str:
    """Save an encoder of bert-base's shape with random weights."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)


def train_ours(
    model: str, data: str, batch_size: int, *flags: str, steps: int = STEPS
) -> tuple[list[dict[str, float]], Path]:
    """Return the timings of steps after the warm-up, and the run's folder."""
    run = Path(tempfile.mkdtemp(), "run")
    flags = (*flags, "--train.save_every", "1000000")  # checkpoints only at the end: they are no part of a step
    sizes = {"steps": steps, "warmup": WARMUP}
    return train_steps(model, data, batch_size, "bf16", *flags, **sizes, run=run, profile="gpu.yaml"), run


def compare_speed(model: str, data: str, few: str, rounds: int) -> list[dict[str, Any]]:
    """Train in bf16 as by default, and with the plain loop in fp32 and bf16, in turn."""

    def ours() -> dict[str, float]:
        timings, run = train_ours(model, data, 32)
        return {"samples_per_second": samples_per_second(timings), "threads": threads_of(run)}

    arguments = ["--model", model, "--train", f"{data}/train.conll", "--validation", few, "--random"]
    arguments += ["--batch_size", "32", "--steps", str(STEPS), "--warmup", str(WARMUP)]
    sides: dict[str, Callable[[], Mapping[str, float]]] = {
        "nerloop": ours,
        "fp32": lambda: run_plain(arguments),
        "bf16": lambda: run_plain([*arguments, "--bf16"]),
    }
    found = compare_sides(sides, "samples_per_second", rounds)
    rows = []
    for name in ("fp32", "bf16"):
        row = compared(found["nerloop"], found[name], "samples_per_second")
        rows.append({"against": name, **row})
        print(f"| bf16 against plain {name} | {compared_cells(row)}", flush=True)
    return rows


def measure_rates() -> tuple[float, float]:
    """Return FLOPs a second of a large bf16 matrix product, and bytes a second of a copy."""
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    source, target = torch.empty(2, 1 << 28, device="cuda")

    def seconds(act: Any) -> float:
        found = []
        for _ in range(10):
            torch.cuda.synchronize()
            start = time.perf_counter()
            act()
            torch.cuda.synchronize()
            found.append(time.perf_counter() - start)
        return min(found)

    return 2 * 8192**3 / seconds(lambda: a @ b), 2 * source.numel() * 4 / seconds(lambda: target.copy_(source))


def idle_share(run: Path) -> float:
    """Return the share of the traced steps in which no kernel ran."""
    (file,) = (run / "profile").glob("*.pt.trace.json*")
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    events = [e for e in json.loads(text)["traceEvents"] if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events)
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (end - spans[0][0])


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("found no CUDA device")
    # First, since PyTorch reads with the first matrix product what deterministic ones need; the rest goes without it.
    of_graphs = check_graphs(arguments.model)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    figures: dict[str, Any] = {"right": [of_graphs, *check(arguments.model)]}
    with tempfile.TemporaryDirectory() as temporary:
        model = make_base(Path(temporary, "model"), arguments.model)
        few = write_few(arguments.data, temporary)
        print("| what | nerloop, samples/s | plain loop, samples/s | ratio | threads |\n|---|---:|---:|---:|---:|")
        figures["train"] = compare_speed(model, arguments.data, few, arguments.rounds)
        flops, copied = measure_rates()
        layers, everything = 12 * 12 * 768**2, 12 * 12 * 768**2 + 31_000 * 768  # bert-base: 7.1M a layer, embeddings
        for batch_size, graphs in itertools.product((32, PEAK_SUBWORDS // 25), ("true", "false")):
            flags = ("--run.profile", "20", "--train.cuda_graphs", graphs)
            timings, run = train_ours(model, arguments.data, batch_size, *flags, steps=TRACED)
            rate = statistics.median(t["subwords_per_second"] for t in timings)
            samples = statistics.median(t["samples_per_second"] for t in timings)
            seconds = batch_size / samples
            limit = 6 * layers * rate * seconds / flops + 34 * everything / copied
            results = json.loads((run / "results.json").read_text())
            row = {"batch_size": batch_size, "graphs": graphs, "subwords_a_step": rate * seconds,
                   "step_seconds": seconds, "over_limit": seconds / limit, "share_of_peak": 6 * layers * rate / flops,
                   "idle_share": idle_share(run), "samples_per_second_in_all": samples_per_second(timings),
                   "capture_seconds": results["timing"].get("capture_seconds", 0.0)}  # fmt: skip
            figures.setdefault("steps", []).append(row)
            print({k: v if isinstance(v, str) else round(v, 4) for k, v in row.items()}, flush=True)
    report(figures, arguments.json)
    sys.exit(0 if all(row["is_right"] for row in figures["right"]) else 1)


if __name__ == "__main__":
    main()
