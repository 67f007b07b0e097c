"""Do killed trainings resume exactly? Kills them at named points and at random moments, and prints a table.

    python tests/benchmarks/faults.py --kills 50
    python tests/benchmarks/faults.py --kills 14 --seed 2 --json faults.json --runs runs/faults

Half of the kills hit a training of one process, half a training of two. A training is killed several times, resumed
each time by `--run.resume auto`, and then left alone until it is done. It must end with the files of an undisturbed
training, byte for byte, timing aside: weights, optimizer, metrics.jsonl, predictions, results.json.

Exit codes: 0 all files are equal and all kills hit, 1 a file differs, a kill missed, or a training failed.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "launch"))
import faulty
from conftest import save_tiny_model, write_conll
from faulty import LONG, LOOP, MOMENTS, POINTS, START_UP, TWO_PROCESSES, Kill
from harness import report

from nerloop import demo

KILLS_A_RUN = 5
KINDS = (*POINTS, LOOP, START_UP, LOOP, LOOP, START_UP, LOOP, LOOP)
PROFILES = {1: None, 2: TWO_PROCESSES}


@dataclass(frozen=True)
class Outcome:
    """The result of one kill."""

    at: str
    num_processes: int
    run: int
    has_hit: bool
    is_identical: bool  # whether the run ended with the undisturbed run's files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write the result of each kill and the setting")
    parser.add_argument("--runs", help="folder for the runs, kept (none: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.runs or temporary).resolve()
        outcomes, problems = measure(folder, arguments.kills, arguments.seed)
    print_table(outcomes)
    report({"kills": [asdict(outcome) for outcome in outcomes], "problems": problems}, arguments.json)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


def measure(folder: Path, num_kills: int, seed: int) -> tuple[list[Outcome], list[str]]:
    """Return the result of each kill, and a line for each run that went wrong."""
    inputs = write_inputs(folder)
    runs = [(n, *run) for n, kills in ((1, num_kills - num_kills // 2), (2, num_kills // 2))
            for run in enumerate(plan(kills, Random(seed + n)))]  # fmt: skip

    def follow(num_processes: int, number: int, kills: list[Kill]) -> tuple[list[Outcome], list[str]]:
        run = folder / f"killed-{num_processes}-{number}"
        shutil.rmtree(run, ignore_errors=True)
        where = f"run {number} of {num_processes} process(es), killed at {', '.join(kill.at for kill in kills)}"
        hits, differing = [False] * len(kills), ["training failed"]
        try:
            hits = faulty.train_with_kills(run, [*inputs, *LONG], kills, profile=PROFILES[num_processes])
            differing = faulty.differences(undisturbed[num_processes].result(), run)
        except (AssertionError, TimeoutError) as error:
            differing = [str(error)]
        outcomes = [
            Outcome(kill.at, num_processes, number, has_hit, not differing)
            for kill, has_hit in zip(kills, hits, strict=True)
        ]
        problems = [f"{where}: {name}" for name in differing]
        problems += [f"{where}: missed at {o.at}" for o in outcomes if not o.has_hit]
        print(f"{where}: {'; '.join(problems) or 'identical'}", file=sys.stderr, flush=True)
        return outcomes, problems

    with ThreadPoolExecutor(faulty.num_workers()) as pool:
        undisturbed = {
            num_processes: pool.submit(
                faulty.train_undisturbed, folder / f"whole-{num_processes}", [*inputs, *LONG], profile=profile
            )
            for num_processes, profile in PROFILES.items()
        }
        found = list(pool.map(lambda run: follow(*run), runs))
    return [o for outcomes, _ in found for o in outcomes], [p for _, problems in found for p in problems]


def write_inputs(folder: Path) -> list[str]:
    """Write a tiny encoder and some sentences; return the flags that name them."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    splits = demo.splits()
    sizes = {"train": 50, "validation": 20, "test": 20}
    files = {split: write_conll(folder / f"{split}.conll", splits[split][:size]) for split, size in sizes.items()}
    return faulty.input_flags(save_tiny_model(folder / "model"), files)


def plan(num_kills: int, random: Random) -> Iterator[list[Kill]]:
    """Yield the kills of each run: as many of one kind as of another, in random order."""
    kills = []
    for at in itertools.islice(itertools.cycle(KINDS), num_kills):
        # The steps must last for all kills of a run, so a point is awaited a few times at most; results come once.
        number = random.randint(1, 4) if at in POINTS and at != "results" else 1
        kills.append(Kill(at, number, random.uniform(0, 3 if at == START_UP else 0.2)))
    random.shuffle(kills)
    for start in range(0, num_kills, KILLS_A_RUN):
        # The results are written after the loop, so that kill comes last.
        yield sorted(kills[start : start + KILLS_A_RUN], key=lambda kill: kill.at == "results")


def print_table(outcomes: list[Outcome]) -> None:
    print("| killed | processes | kills | resumed to identical files |")
    print("|---|---:|---:|---:|")
    for at, text in (POINTS | MOMENTS).items():
        for num_processes in PROFILES:
            if some := [o for o in outcomes if (o.at, o.num_processes) == (at, num_processes) and o.has_hit]:
                print(f"| {text} | {num_processes} | {len(some)} | {sum(o.is_identical for o in some)} |")
    hits = [o for o in outcomes if o.has_hit]
    print(f"| all | | {len(hits)} | {sum(o.is_identical for o in hits)} |")


if __name__ == "__main__":
    main()
