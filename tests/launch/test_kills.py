"""SIGKILL at named points and at random moments: a resumed run ends as the one that nobody disturbed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import faulty
from faulty import LONG, TWO_PROCESSES, Kill

NAMED = [Kill("write", 2), Kill("sync", 2), Kill("rename", 2), Kill("renamed", 2), Kill("prune"), Kill("status")]


def kills(seed: int) -> list[Kill]:
    """Return a kill at every point, with five at random moments between them.

    Each named one waits for the second folder that is written since the last resume, where there is a second one. They
    are step-6, best-10, step-12, step-18, best-20 and so on: both kinds are met.
    """
    random = faulty.random_kills(5, seed)
    return [kill for pair in zip(NAMED, random, strict=False) for kill in pair] + [
        *NAMED[len(random) :],
        Kill("results"),
    ]


CHAINS = {2: (TWO_PROCESSES, kills(seed=2)), 1: (None, kills(seed=1))}
"""By the number of processes: the profile, and the kills that a training sees one after the other."""


@pytest.fixture(scope="module")
def chains(tiny_model, files, tmp_path_factory) -> Iterator[dict[int, Future]]:
    """Return what will have come of each chain: which kills hit a living training, and which files differ."""
    folder = tmp_path_factory.mktemp("kills")
    undisturbed = tmp_path_factory.getbasetemp() / "undisturbed"
    undisturbed.mkdir(exist_ok=True)
    arguments = [*faulty.input_flags(tiny_model, files), *LONG]

    def follow(num_processes: int) -> tuple[list[bool], list[str]]:
        profile, kills = CHAINS[num_processes]
        run = folder / f"killed-{num_processes}"
        hits = faulty.train_with_kills(run, arguments, kills, profile=profile)
        whole = faulty.train_undisturbed(undisturbed / f"long-{num_processes}", arguments, profile=profile)
        return hits, faulty.differences(whole, run)

    with ThreadPoolExecutor() as pool:
        yield {num_processes: pool.submit(follow, num_processes) for num_processes in CHAINS}


def test_the_chains_have_every_point_and_ten_random_moments():
    ats = [[kill.at for kill in kills] for _, kills in CHAINS.values()]
    assert [len(chain) for chain in ats] == [12, 12]
    assert [set(chain) for chain in ats] == [{*faulty.POINTS, *faulty.MOMENTS}] * 2
    assert [sum(at in faulty.MOMENTS for at in chain) for chain in ats] == [5, 5]


def test_every_point_is_reached_by_what_nerloop_writes(tmp_path):
    """If no code passed a point, a chain of kills would wait for it forever, or test nothing."""
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(faulty.__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "import torch, faulty\n"
        "from nerloop.run import atomic, checkpoint\n"
        "reached = []\n"
        "faulty.watch_points(reached.append)\n"
        "model, run = torch.nn.Linear(2, 2), Path(sys.argv[1])\n"
        "for step in (1, 2):\n"
        "    state = {'step': step, 'best_step': None}\n"
        "    checkpoint.save_checkpoint(run / f'step-{step}', model, torch.optim.SGD(model.parameters()), state)\n"
        "checkpoint.prune(run, 1)\n"
        "atomic.write_json(run / 'status.json', {})\n"
        "atomic.write_json(run / 'results.json', {})\n"
        "print(*reached)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = ["write", "sync", "rename", "renamed"]
    assert done.stdout.split() == [*written, *written, "prune", "status", "results"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "status.json", "step-2"]


@pytest.mark.processes
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("num_processes", CHAINS)
def test_a_run_killed_twelve_times_ends_as_the_undisturbed_one(chains, num_processes):
    hits, differing = chains[num_processes].result()
    assert hits == [True] * 12
    assert differing == []


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Return the folders of two runs that are done and equal but for their timing."""
    for seconds, name in ((1.5, "a"), (2.5, "b")):
        run = tmp_path / name
        (run / "model").mkdir(parents=True)
        (run / "model" / "model.safetensors").write_bytes(b"weights")
        (run / "checkpoints" / "step-2").mkdir(parents=True)
        (run / "checkpoints" / "step-2" / "optimizer.safetensors").write_bytes(b"moments")
        state = {"step": 2, "progress": {"step": 2, "seconds": seconds}}
        (run / "checkpoints" / "step-2" / "state.json").write_text(json.dumps(state))
        lines = [{"step": step, "loss": 0.5, "timing": {"samples_per_second": seconds}} for step in (1, 2)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "results.json").write_text(json.dumps({"steps": 2, "timing": {"train_seconds": seconds}}))
    return tmp_path / "a", tmp_path / "b"


def test_differences_leave_timing_aside(pair):
    assert faulty.differences(*pair) == []


@pytest.mark.parametrize(
    "name",
    ["model/model.safetensors", "checkpoints/step-2/optimizer.safetensors", "checkpoints/step-2/state.json",
     "metrics.jsonl", "results.json"],
)  # fmt: skip
def test_differences_name_a_file_that_differs(pair, name):
    file = pair[1] / name
    file.write_bytes(file.read_bytes().replace(b"weights", b"Weights").replace(b"moments", b"Moments")
                     .replace(b": 2", b": 3"))  # fmt: skip
    assert faulty.differences(*pair) == [name]


def test_differences_name_a_doubled_and_a_missing_line(pair):
    for text in ('{"step": 1, "loss": 0.5}\n' * 2 + '{"step": 2, "loss": 0.5}\n', '{"step": 1, "loss": 0.5}\n'):
        (pair[1] / "metrics.jsonl").write_text(text)
        assert faulty.differences(*pair) == ["metrics.jsonl"]


def test_differences_name_what_is_there_in_one_alone(pair):
    (pair[1] / "checkpoints" / ".step-3.tmp").mkdir()
    (pair[1] / "checkpoints" / ".step-3.tmp" / "model.safetensors").write_bytes(b"weights")
    shutil.rmtree(pair[1] / "checkpoints" / "step-2")
    assert faulty.differences(*pair) == [
        "checkpoints/.step-3.tmp/model.safetensors",
        "checkpoints/step-2/optimizer.safetensors",
        "checkpoints/step-2/state.json",
    ]


def test_differences_refuse_a_run_that_is_not_done(pair):
    (pair[0] / "model" / "model.safetensors").unlink()
    with pytest.raises(AssertionError, match="a run that isn't done"):
        faulty.differences(*pair)
