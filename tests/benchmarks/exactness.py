"""Does the hardware matter? Trains the same batches split in many ways and prints the table of README.md.

    python tests/benchmarks/exactness.py
    python tests/benchmarks/exactness.py --precisions float64 --json exactness.json --runs runs/exactness
    python tests/benchmarks/exactness.py --gpus 1      # on CUDA devices: the cases of up to so many processes

Each launch (1, 2, 3 processes, two machines on the loopback) is a real `accelerate launch` of this file. In it
`nerloop.train.train` runs the cases of the launch one after the other. All must agree with the first case of their
objective, one process that takes each batch in one piece: in the gradient of the first step (AdamW's first moment after
it, times ten), the weights after 50 steps, the loss and gradient norm of every step, and to the last digit in steps,
learning rates and, in float64, metrics. Cases that resume start from that case's checkpoint; their gradient is that of
the next step.
In fp32 each launch also tags with the model of the first case: predictions and metrics must be the same bytes.

Exit codes: 0 all agree, 1 a tolerance is broken or a launch failed.
"""

import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness import LAUNCH, ROOT, report

LAUNCH_SECONDS = 600  # limit for one launch; under a minute is usual

BATCH_SIZE = 8
NUM_SENTENCES = 7 * BATCH_SIZE + 2  # the last batch of an epoch is smaller than the others, and than three processes
NUM_STEPS = 50
RESUMED_STEP = 23  # the next step is the last of its epoch
SEED = 129  # its first batch and its batch after RESUMED_STEP are nasty; check_situations asserts that
WINDOW = {"max_length": 40, "stride": 10}  # in subwords

# float64: the worst tensor's gradient, the worst weight; fp32: both over the whole parameter vector, relative.
TOLERANCES = {
    "float64": {"gradient": 1e-12, "weights": 1e-9, "losses": 1e-12},
    "no": {"gradient": 1e-6, "weights": 1e-5, "losses": 1e-5},
}
# On CUDA devices the order of sums is not fixed, so even a rerun of the first case differs.
GPU_TOLERANCES = {
    "float64": {"gradient": 1e-11, "weights": 1e-8, "losses": 1e-11},
    "no": {"gradient": 1e-5, "weights": 1e-4, "losses": 1e-4},
}
LOSSES = ("loss", "grad_norm")  # compared in every step
ZERO_GRADIENT = "attention.self.key.bias"  # softmax cancels it, so its gradient is rounding alone


class Launch(NamedTuple):
    """One `accelerate launch`, or one on each of several machines."""

    num_processes: int
    num_machines: int
    profile: str


@dataclass(frozen=True)
class Case:
    """One training on the same batches."""

    launch: str
    micro_batches: int = 1  # of each process
    max_subwords: int | None = None
    collator: str = "pack"
    resumes: bool = False
    objective: str = "cross_entropy"

    @property
    def base(self) -> "Case":
        """The case that it is compared with."""
        return Case("1", objective=self.objective)

    @property
    def name(self) -> str:
        """The name of its folder."""
        budget = "" if self.max_subwords is None else f"-budget{self.max_subwords}"
        resumed = "-resumed" * self.resumes
        return f"{self.launch}-{self.micro_batches}{budget}-{self.collator}-{self.objective}{resumed}"


LAUNCHES = {
    "1": Launch(1, 1, "cpu.yaml"),
    "2": Launch(2, 1, "cpu_2_processes.yaml"),
    "3": Launch(3, 1, "cpu_2_processes.yaml"),
    "2-on-2-machines": Launch(2, 2, "multi_node.yaml"),
}
CASES = (
    Case("1"),
    Case("1", 2),
    Case("1", 4),
    Case("1", 8),
    Case("1", max_subwords=64),
    Case("1", collator="pad"),
    Case("2"),
    Case("2", 4),
    Case("2", max_subwords=64, collator="pad"),
    Case("2", resumes=True),
    Case("3"),
    Case("3", 2, collator="pad"),
    Case("3", max_subwords=64),
    Case("3", resumes=True),
    Case("2-on-2-machines"),
    Case("2-on-2-machines", 2, collator="pad"),
    Case("1", objective="crf"),
    Case("1", 4, collator="pad", objective="crf"),
    Case("2", max_subwords=64, objective="crf"),
    Case("3", objective="crf"),
    Case("3", collator="pad", resumes=True, objective="crf"),
)
BASE = CASES[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", nargs="+", default=list(TOLERANCES), choices=list(TOLERANCES))
    parser.add_argument("--json", help="file for the figures of each case")
    parser.add_argument("--runs", help="new folder for the runs (none: a temporary one)")
    parser.add_argument("--gpus", type=int, default=0, help="train on this many CUDA devices (0: on the CPU)")
    parser.add_argument("--worker", metavar="LAUNCH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(Path(arguments.runs), arguments.worker, arguments.precisions)
        return
    if arguments.gpus:
        choose_gpus(arguments.gpus)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        collected = measure(Path(arguments.runs or temporary).resolve(), arguments.precisions)
    collected["seconds"] = round(time.perf_counter() - start, 1)
    print_table(collected, arguments.precisions)
    report(collected, arguments.json)
    for problem in collected["problems"]:
        print(problem, file=sys.stderr)
    sys.exit(1 if collected["problems"] else 0)


def choose_gpus(num_gpus: int) -> None:
    """Keep only the launches and cases that this many CUDA devices of one machine can run; use GPU profiles."""
    global CASES
    import torch

    if torch.cuda.device_count() < num_gpus:  # the profiles would train on the CPU
        sys.exit(f"found {torch.cuda.device_count()} CUDA devices, expected {num_gpus}")
    for name, launch in list(LAUNCHES.items()):
        if launch.num_machines > 1 or launch.num_processes > num_gpus:
            del LAUNCHES[name]
        else:
            LAUNCHES[name] = launch._replace(profile="gpu.yaml" if launch.num_processes == 1 else "multi_gpu.yaml")
    CASES = tuple(case for case in CASES if case.launch in LAUNCHES)
    TOLERANCES.update(GPU_TOLERANCES)


def measure(folder: Path, precisions: list[str]) -> dict[str, Any]:
    """Return all figures, and under "problems" a line for each tolerance that is broken."""
    write_inputs(folder)
    situations = {case: situations_of(folder, case) for case in CASES}
    check_situations(situations)
    for name in LAUNCHES:
        print(f"{name}: {sum(case.launch == name for case in CASES) * len(precisions)} trainings", file=sys.stderr)
        run_launch(folder, name, precisions)
    cases = [
        {"precision": precision, **asdict(case), **compare(folder, case, precision), "situations": situations[case]}
        for precision in precisions
        for case in CASES
    ]
    tagging = [compare_tagging(folder, name) for name in LAUNCHES] if "no" in precisions else []
    problems = [problem for row in cases + tagging for problem in row["problems"]]
    return {"cases": cases, "tagging": tagging, "tolerances": TOLERANCES, "problems": problems}


# Inputs


def write_inputs(folder: Path) -> None:
    """Write a BERT of two tiny layers, and sentences of every kind that makes a batch hard to split."""
    import torch
    import transformers

    from nerloop import demo
    from nerloop.types import Example

    splits = demo.splits()
    tokenizer = demo.build_tokenizer(splits["train"][:300])
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.1,  # with BERT's own 0.02 all tokens would get the same tag
    )  # fmt: skip
    transformers.logging.disable_progress_bar()
    transformers.BertModel(config).save_pretrained(str(folder / "model"))
    tokenizer.save_pretrained(str(folder / "model"))

    text = [token for e in splits["train"][300:320] for token in zip(e.tokens, e.tags, strict=True)]
    long = [text[i : i + 60] for i in range(0, 240, 60)]
    odd = [
        *(Example(tuple(t for t, _ in part), tuple(g for _, g in part)) for part in long),  # several windows each
        Example(("See", "abcdefghij" * 9, "now"), ("O", "B-ORG", "O")),  # one window sees only the middle of a token
        *(Example((token,), (tag,)) for token, tag in (("Preston", "B-PER"), (".", "O"), ("Bonn", "B-LOC"))),
        *(Example(("\u200e",) * n, ("O",) * n) for n in (1, 2, 3)),  # a left-to-right mark has no subwords
        Example(("\u200e", "\u200e"), ("B-LOC", "I-LOC")),
    ]
    for name, examples in {
        "train": [*odd, *splits["train"][: NUM_SENTENCES - len(odd)]],
        "validation": [*odd, *splits["validation"][:30]],
        "test": [*odd, *splits["validation"], *splits["test"]],  # enough for each process to get a share
    }.items():
        lines = ("".join(f"{t} {g}\n" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples)
        (folder / f"{name}.conll").write_text("\n".join(lines), encoding="utf-8")


def situations_of(folder: Path, case: Case) -> dict[str, int]:
    """Return how often a case meets each hard situation, by nerloop's own plan."""
    import numpy as np

    from nerloop import plugins
    from nerloop.batching.plan import BatchUnits, Plan
    from nerloop.config import ModelSettings
    from nerloop.data import read_files
    from nerloop.evaluation.predictor import Split
    from nerloop.model.load import load_tokenizer
    from nerloop.tags import labels_of

    examples, to_tag = (read_files([str(folder / f"{name}.conll")])[0] for name in ("train", "test"))
    tokenizer = load_tokenizer(ModelSettings(name_or_path=str(folder / "model")))
    alignment = plugins.build("alignment", "first", tokenizer, labels_of(e.tags for e in examples), **WINDOW)
    atoms = BatchUnits.of(alignment.split(examples))
    collator = plugins.build("collator", case.collator, tokenizer)
    plan = Plan(
        atoms,
        BATCH_SIZE,
        SEED,
        num_processes=LAUNCHES[case.launch].num_processes,
        gradient_accumulation_steps=case.micro_batches,
        max_subwords=case.max_subwords,
        cost=collator.num_cells,
    )
    found: Counter[str] = Counter(
        {
            "sentences": len(examples),
            "sentences of one token": sum(len(e.tokens) == 1 for e in examples),
            "sentences of several windows": int((np.diff(atoms.offsets) > 1).sum()),
            "sentences without subwords": int((atoms.lengths == 2).sum()),  # the special tokens
            "groups to tag": len(Split.of(to_tag, alignment, collator).groups),  # dealt out to the processes
        }
    )
    for number in range(NUM_STEPS):
        step = plan[number]
        micro_batches = [m for process in step.micro_batches for m in process]
        figures = {
            "sentences": step.num_sentences,
            "windows": len(step.features),
            "micro-batches of a process": len(step.micro_batches[0]),
            "micro-batches without a label": sum(bool(m) and not atoms.labelled[list(m)].any() for m in micro_batches),
            "dummy micro-batches": sum(not m for m in micro_batches),
        }
        found["small steps"] += step.num_sentences < BATCH_SIZE
        found["micro-batches without a label"] += figures["micro-batches without a label"]
        found["dummy micro-batches"] += figures["dummy micro-batches"]
        if number == (RESUMED_STEP if case.resumes else 0):
            found.update({f"compared step: {name}": figure for name, figure in figures.items()})
    return dict(found)


def check_situations(situations: dict[Case, dict[str, int]]) -> None:
    """Assert that the cases meet the hard situations: agreement on easy batches would prove nothing."""
    base = situations[BASE]
    assert base["sentences"] == NUM_SENTENCES
    assert base["sentences of one token"] == 4
    assert base["sentences of several windows"] == 5
    assert base["sentences without subwords"] == 4
    assert base["groups to tag"] > 3
    assert base["small steps"] == 6
    for case, found in situations.items():
        num_processes = LAUNCHES[case.launch].num_processes
        if case.resumes:  # the small step: of two sentences, one without subwords
            assert found["compared step: sentences"] == found["compared step: windows"] == 2
            assert found["compared step: micro-batches without a label"] == 1
            assert found["compared step: dummy micro-batches"] == num_processes - 2
        else:
            assert found["compared step: sentences"] == BATCH_SIZE
            assert found["compared step: windows"] == 13
        if case.micro_batches * num_processes == 8:
            assert found["compared step: micro-batches without a label"] == 1
        if case.max_subwords is not None:
            assert found["compared step: micro-batches of a process"] > 1
        if num_processes == 3:
            assert found["dummy micro-batches"] == 6


# Launches


def run_launch(folder: Path, name: str, precisions: list[str]) -> None:
    """Start the processes of a launch and wait for their end. Exits with their logs if they fail."""
    launch = LAUNCHES[name]
    command = [
        *LAUNCH,
        "--config_file",
        str(ROOT / "launch" / launch.profile),
        "--num_processes",
        str(launch.num_processes),
    ]
    if launch.num_processes > 1:
        command += ["--num_machines", str(launch.num_machines), "--main_process_ip", "127.0.0.1"]
        command += ["--main_process_port", str(free_port())]
    worker = [__file__, "--worker", name, "--runs", str(folder), "--precisions", *precisions]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    if launch.profile not in ("gpu.yaml", "multi_gpu.yaml"):
        environment["CUDA_VISIBLE_DEVICES"] = ""
    logs = [folder / f"{name}.{rank}.log" for rank in range(launch.num_machines)]
    machines: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            of_machine = ["--machine_rank", str(rank)] if launch.num_machines > 1 else []
            with log.open("wb") as file:
                # A session of its own, so that it can be ended with all its processes.
                machines.append(
                    subprocess.Popen([*command, *of_machine, *worker], cwd=ROOT, env=environment, stdout=file,
                                     stderr=file, start_new_session=True)
                )  # fmt: skip
        deadline = time.monotonic() + LAUNCH_SECONDS
        while any(m.poll() is None for m in machines) and not any(m.poll() for m in machines):
            if time.monotonic() > deadline:
                sys.exit(f"{name}: not done after {LAUNCH_SECONDS} s")
            time.sleep(0.1)
    finally:
        for machine in machines:  # if one has failed, the others would wait for it for ever
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGTERM)
    if any(machine.wait() for machine in machines):
        sys.exit("\n".join(f"{log}:\n{log.read_text(encoding='utf-8')[-5000:]}" for log in logs))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def work(folder: Path, launch: str, precisions: list[str]) -> None:
    """Train a launch's cases, and tag with the first case's model: on every process of the launch."""
    from nerloop import predict
    from nerloop.distributed import collectives
    from nerloop.train import train

    rank = os.environ.get("RANK", "0")
    machine = os.environ.get("GROUP_RANK", "0")
    (folder / f"{launch}.process-{rank}.json").write_text(json.dumps({"machine": machine}))
    for precision in precisions:
        for case in CASES:
            if case.launch == launch:
                train(settings_of(folder, case, precision))
                if rank == "0":
                    drop_checkpoints(folder_of(folder, case, precision))
    if "no" in precisions:
        out = folder / f"{launch}.tagged"
        model = folder_of(folder, BASE, "no") / "model"
        sys.argv[1:] = ["--model", str(model), str(folder / "test.conll"), "--output", f"{out}.jsonl",
                        "--output_format", "jsonl", "--metrics", f"{out}.json"]  # fmt: skip
        predict.main()
    else:
        collectives.destroy_process_group()


def settings_of(folder: Path, case: Case, precision: str) -> Any:
    """Return the settings of a case."""
    from nerloop.config import Config, DataSettings, ModelSettings, Plugin, RunSettings, TrainSettings

    checkpoint = folder_of(folder, case.base, precision) / "checkpoints" / f"step-{RESUMED_STEP}"
    return Config(
        model=ModelSettings(name_or_path=str(folder / "model"), dropout=0.0),
        data=DataSettings(train=str(folder / "train.conll"), validation=str(folder / "validation.conll")),
        alignment=Plugin("first", WINDOW),  # with it a window of many subwords may have few labels, or none
        collator=Plugin(case.collator),
        objective=Plugin(case.objective),
        train=TrainSettings(
            max_steps=NUM_STEPS,
            batch_size=BATCH_SIZE,
            gradient_accumulation_steps=case.micro_batches,
            max_subwords=case.max_subwords,
            max_grad_norm=0,  # a clipped gradient would hide a wrong factor
            mixed_precision=precision,  # type: ignore[arg-type]
            seed=SEED,
            eval_every=NUM_STEPS // 2,
            save_every=1,
        ),
        run=RunSettings(
            dir=str(folder_of(folder, case, precision)),
            resume=str(checkpoint) if case.resumes else "off",
            keep_checkpoints=NUM_STEPS,
            log_every=1,
            log_level="warning",
        ),
    )


def folder_of(folder: Path, case: Case, precision: str) -> Path:
    return folder / precision / case.name


def drop_checkpoints(run: Path) -> None:
    """Delete the checkpoints that no comparison reads."""
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) not in (1, RESUMED_STEP, RESUMED_STEP + 1, NUM_STEPS):
            shutil.rmtree(checkpoint)


# Comparison


def compare(folder: Path, case: Case, precision: str) -> dict[str, Any]:
    """Return how far a case is from the first one; "problems" has a line for each difference that is too large."""
    import numpy as np  # its maximum of NaN and a number is NaN

    base, run = folder_of(folder, case.base, precision), folder_of(folder, case, precision)
    measure_distance = worst_tensors if precision == "float64" else whole_vectors
    steps = [read_steps(r) for r in (base, run)]
    results = [json.loads((r / "results.json").read_text()) | {"timing": None} for r in (base, run)]
    machines = [json.loads(f.read_text())["machine"] for f in folder.glob(f"{case.launch}.process-*.json")]
    found: dict[str, Any] = {
        "num_processes": json.loads((run / "environment.json").read_text())["num_processes"],
        "num_machines": len(set(machines)),
        **measure_distance("gradient", *(read_gradient(r, base, case) for r in (base, run))),
        **measure_distance("weights", *(read_tensors(r, NUM_STEPS, "model") for r in (base, run))),
        "losses": float(np.max([abs(b[k] / a[k] - 1) for a, b in zip(*steps, strict=True) for k in LOSSES])),
        "same_learning_rates": [(s["step"], s["lr"]) for s in steps[0]] == [(s["step"], s["lr"]) for s in steps[1]],
        "same_metrics": results[0] == results[1],
        "num_steps": len(steps[1]),
        "padding_share": sum(s["timing"]["padding_share"] for s in steps[1]) / len(steps[1]),
        "predicted_spans": results[1]["validation"]["last"]["viterbi"]["predicted_spans"],
    }
    assert (len(machines), found["num_processes"], found["num_machines"]) == (
        LAUNCHES[case.launch].num_processes, *LAUNCHES[case.launch][:2]
    ), "the launch differs from the one asked for"  # fmt: skip
    equal = ["same_learning_rates", *["same_metrics"] * (precision == "float64")]
    problems = [
        f"{precision} {case.name}: {name} {found[name]:.1e} apart, expected {most:g} at most"
        for name, most in TOLERANCES[precision].items()
        if not found[name] <= most  # NaN is a problem, too
    ] + [f"{precision} {case.name}: {name} is false" for name in equal if not found[name]]
    return {**found, "problems": problems}


def read_tensors(run: Path, step: int, kind: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(str(run / "checkpoints" / f"step-{step}" / f"{kind}.safetensors"))


def read_gradient(run: Path, base: Path, case: Case) -> dict[str, Any]:
    """Return the gradient of each parameter in the first step of a case, computed from AdamW's first moments.

    moment = 0.9 moment before + 0.1 gradient; before a resumed run the moments are those of `base`.
    """
    number = RESUMED_STEP if case.resumes else 0
    after = read_tensors(run, number + 1, "optimizer")
    before = read_tensors(base, number, "optimizer") if number else {}
    return {
        name.removeprefix("exp_avg:"): (moment - 0.9 * before.get(name, 0 * moment)) / 0.1
        for name, moment in after.items()
        if name.startswith("exp_avg:")
    }


def read_steps(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def worst_tensors(kind: str, base: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return the largest difference of a tensor, and its name. Weights: absolute; gradients: relative, by norm."""
    assert base.keys() == run.keys()
    assert len(base) > 30
    if kind == "weights":
        apart = {name: float((run[name] - base[name]).abs().max()) for name in base}
    else:
        names = [name for name in base if not name.endswith(ZERO_GRADIENT)]
        apart = {name: float((run[name] - base[name]).norm() / base[name].norm()) for name in names}
    worst = max(apart, key=lambda name: math.inf if math.isnan(apart[name]) else apart[name])
    return {kind: apart[worst], f"worst_{kind}": worst}


def whole_vectors(kind: str, base: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return the relative difference, by norm, of all trained tensors taken as one vector."""
    import torch

    # The ids of a pruned embedding would be nearly all of the norm; its untrained rows are the model's own.
    names = [name for name in base if not name.endswith((".used_ids", ".rest"))]
    a, b = (torch.cat([tensors[name].flatten().double() for name in names]) for tensors in (base, run))
    return {kind: float((b - a).norm() / a.norm())}


def compare_tagging(folder: Path, launch: str) -> dict[str, Any]:
    """Return whether a launch tagged like the first one, to the byte."""
    base, out = (folder / f"{name}.tagged" for name in (BASE.launch, launch))
    predictions, metrics = (Path(f"{out}.{kind}").read_bytes() for kind in ("jsonl", "json"))
    found = {
        "launch": launch,
        "same_predictions": predictions == Path(f"{base}.jsonl").read_bytes(),
        "same_metrics": metrics == Path(f"{base}.json").read_bytes(),
        "sentences": predictions.count(b"\n"),
        "predicted_spans": json.loads(metrics)["viterbi"]["predicted_spans"],
        "f1": json.loads(metrics)["viterbi"]["f1"],
    }
    equal = ("same_predictions", "same_metrics")
    return {**found, "problems": [f"tagging {launch}: {name} is false" for name in equal if not found[name]]}


def print_table(collected: dict[str, Any], precisions: list[str]) -> None:
    of_precisions = [(p, what) for p in precisions for what in ("gradient", "weights")]
    headings = [f"{'fp32' if p == 'no' else p} {what}" for p, what in of_precisions]
    print("| processes | micro-batches each | collator | objective |", " | ".join(headings), "| metrics |")
    print("|---|---|---|---|" + "---:|" * len(headings) + "---|")
    for case in CASES:
        rows = {r["precision"]: r for r in collected["cases"] if asdict(case).items() <= r.items()}
        split = str(case.micro_batches) if case.max_subwords is None else f"of {case.max_subwords} subwords"
        split += f", resumed at step {RESUMED_STEP}" * case.resumes
        figures = [f"{rows[p][what]:.1e}" if rows[p][what] else "0" for p, what in of_precisions]
        metrics = {True: "equal", False: "NOT EQUAL"}[rows["float64"]["same_metrics"]] if "float64" in rows else ""
        plugins = [f"`{case.collator}`", f"`{case.objective}`"]
        print("|", " | ".join([case.launch.replace("-", " "), split, *plugins, *figures, metrics]), "|")
    if tagging := collected["tagging"]:
        launches = ", ".join(row["launch"].replace("-", " ") for row in tagging)
        what = f"tagging {tagging[0]['sentences']} sentences with the first row's fp32 model"
        same = "NOT EQUAL" if any(row["problems"] for row in tagging) else "equal, predictions too"
        plugins = [f"`{BASE.collator}`", f"`{BASE.objective}`"]
        print("|", " | ".join([launches, what, *plugins, *[""] * len(headings), same]), "|")
    print(f"{len(collected['cases'])} trainings, {collected['seconds']:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
