"""Does `nerloop.evaluate --suspects` find wrong labels? Damages training spans on purpose and looks for them.

    python tests/benchmarks/label_errors.py --sets 10:1 5:2 10:3 --cleanlab /path/to/a/venv/bin/python

A set is a share of the spans in percent and a seed. A fourth of the damaged spans each is dropped, invented (at
capitalised tokens), retyped (at random), and moved by a token at one end. Trainings stay in `--runs`; those that are
done are not repeated. `--cleanlab` names a Python with cleanlab. `--cost` measures what recording costs a step.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import benchmark_parser, launch_training, median_and_spread, report, training_of

from nerloop.config import Config, DataSettings, ModelSettings, RunSettings, TrainSettings
from nerloop.data import ReadOptions, read_files
from nerloop.data.dataset import Dataset
from nerloop.data.writers import conll_lines
from nerloop.decoding.viterbi import Viterbi
from nerloop.distributed.collectives import SingleProcess
from nerloop.evaluation.predictor import Split
from nerloop.evaluation.suspects.dynamics import mean_probabilities, weighted
from nerloop.evaluation.suspects.suspects import Doubts, Suspects
from nerloop.evaluation.tagger import load_predictor
from nerloop.model.saved import SavedModel
from nerloop.run.token_record import read_records
from nerloop.tags import OUTSIDE, to_spans, to_tags
from nerloop.types import Example, MicroBatch, Span, Tensor

WAYS = ("dropped", "invented", "retyped", "moved")
SETTINGS: dict[str, Any] = {
    "train.epochs": 5, "train.batch_size": 16, "train.learning_rate": 1e-4, "train.mixed_precision": "auto",
}  # fmt: skip


def damage(examples: Sequence[Example], percent: int, seed: int) -> tuple[list[Example], list[dict[str, Any]]]:
    """Return the sentences with some spans damaged, and a list of what was done.

    An entry has `sentence`, `way`, `before` and `after` (spans, or None), and `low` and `high`, between which the tags
    were changed.
    """
    chance = random.Random(seed)
    spans = [to_spans(e.tags) for e in examples]
    types = sorted({span.type for of_one in spans for span in of_one})
    places = [(i, span) for i, of_one in enumerate(spans) for span in of_one]
    chance.shuffle(places)
    number = round(len(places) * percent / 100)
    ways = [WAYS[i % len(WAYS)] for i in range(number)]
    done: list[dict[str, Any]] = []
    used: set[tuple[int, Span]] = set()

    def free(i: int, start: int, end: int, but: Span | None = None) -> bool:
        """Whether no span lies on these tokens or beside them."""
        inside = 0 <= start < end <= len(examples[i].tokens)
        return inside and all(s == but or s.end < start or end < s.start for s in spans[i])

    for way in ways:
        while True:
            if way == "invented":
                i = chance.randrange(len(examples))
                length = len(range(*chance.choice(places)[1][:2]))
                start = chance.randrange(len(examples[i].tokens) or 1)
                if not free(i, start, start + length) or not examples[i].tokens[start][:1].isupper():
                    continue
                before, after = None, Span(start, start + length, chance.choice(types))
            else:
                i, before = chance.choice(places)
                if (i, before) in used:
                    continue
                after = None
                if way == "retyped":
                    after = before._replace(type=chance.choice([t for t in types if t != before.type]))
                elif way == "moved":
                    start, end = before.start + chance.choice([-1, 0, 1]), before.end + chance.choice([-1, 0, 1])
                    after = Span(start, end, before.type)
                    if abs(start - before.start) + abs(end - before.end) != 1 or not free(i, start, end, before):
                        continue
            break
        if before is not None:
            used.add((i, before))
            spans[i].remove(before)
        if after is not None:
            used.add((i, after))
            spans[i].append(after)
        edges = [span for span in (before, after) if span is not None]
        done.append(
            {
                "sentence": i, "way": way, "before": before, "after": after,
                "low": min(s.start for s in edges), "high": max(s.end for s in edges),
            }
        )  # fmt: skip
    damaged = [replace(e, tags=tuple(to_tags(sorted(s), len(e.tokens)))) for e, s in zip(examples, spans, strict=True)]
    return damaged, done


def prepare(name: str, arguments: Any) -> Path:
    """Write the damaged file of a set and train on it: once on all of it, and once on each half. Return the folder."""
    percent, seed = map(int, name.split(":"))
    folder = Path(arguments.runs, f"{percent}-{seed}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.conll"
    examples, _ = read_files([str(Path(arguments.data, "train.conll"))], ReadOptions())
    damaged, done = damage(examples, percent, seed)
    file.write_text("".join(conll_lines((e, [e.tags]) for e in damaged)), encoding="utf-8")
    (folder / "damage.json").write_text(json.dumps(done), encoding="utf-8")
    flags = [x for setting, value in SETTINGS.items() for x in (f"--{setting}", str(value))]
    flags += ["--train.seed", str(seed), "--run.record_tokens", "true", "--run.resume", "auto"]
    launch_training(arguments.model, str(folder), *flags, run=folder / "whole", splits=["train"])
    if arguments.folds:
        train_folds(folder, seed, arguments.model, arguments.folds)
    return folder


def train_folds(folder: Path, seed: int, model: str, folds: int) -> None:
    """Cross-validate by `nerloop.compare --folds`."""
    config = folder / "base.yaml"
    values = {"model": {"name_or_path": model}, "data": {"train": str(folder / "train.conll")}}
    config.write_text(json.dumps(values), encoding="utf-8")
    flags = [x for setting, value in SETTINGS.items() for x in (f"--{setting}", str(value))]
    command = [sys.executable, "-m", "nerloop.compare", str(config), "--folds", str(folds), "--seeds", str(seed)]
    finished = subprocess.run(
        [*command, "--dir", str(folder / "folds"), "--", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    if finished.returncode:
        sys.exit(f"nerloop.compare: {finished.stderr[-3000:]}")


# Looking for the damage

Place = tuple[int, int, int]
"""A sentence, and the first and last token (half-open) of what is suspected in it."""


class DamagedFile:
    """A damaged file, what was damaged in it, and probabilities of its tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.examples, _ = read_files([str(folder / "train.conll")], ReadOptions())
        self.damage = json.loads((folder / "damage.json").read_text())
        self.sentence_at = {example.location: i for i, example in enumerate(self.examples)}
        self.starts = np.concatenate([[0], np.cumsum([len(e.tokens) for e in self.examples])])
        self.records = read_records(folder / "whole", int(self.starts[-1]))
        self.labels = list(self.records[0].labels)
        self.given = np.array([self.labels.index(tag) for e in self.examples for tag in e.tags])

    def suspects(self, *flags: str) -> list[Place]:
        """Return what `nerloop.evaluate --suspects` lists, best first."""
        file = self.folder / "suspects.json"
        command = [sys.executable, "-m", "nerloop.evaluate", "--suspects", *flags, "--json", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        return self.places(json.loads(file.read_text()))

    def places(self, found: dict[str, Any]) -> list[Place]:
        """Return the places of suspects."""
        places = []
        for suspect in found["suspects"]:
            spans = [*suspect["file"], *suspect["model"]]
            edges = min(s["start"] for s in spans), max(s["end"] for s in spans)
            places.append((self.sentence_at[suspect["sentence"]["location"]], *edges))
        return places

    def by_tokens(self, order: np.ndarray) -> list[Place]:
        """Return the units of tokens, best first: a token's span, or itself and its neighbours outside of spans.

        Tools that rank tokens list a span once for each token; they are not charged with that here.
        """
        sentence = np.repeat(np.arange(len(self.examples)), np.diff(self.starts))
        units = [(i, t, t + 1) for i, e in enumerate(self.examples) for t in range(len(e.tokens))]
        spans = [(i, span) for i, e in enumerate(self.examples) for span in to_spans(e.tags)]
        for i, (start, end, _) in spans:
            units[self.starts[i] + start : self.starts[i] + end] = [(i, start, end)] * (end - start)
        found: list[Place] = []
        taken = np.zeros(len(units), dtype=bool)
        for token in order:
            if taken[token]:
                continue
            i, start, end = units[token]
            is_outside = self.labels[self.given[token]] == OUTSIDE
            beside = [t for t in (token - 1, token + 1) if is_outside and 0 <= t < len(units) and sentence[t] == i]
            taken[[*beside, *range(self.starts[i] + start, self.starts[i] + end)]] = True
            found.append(units[token])
        return found

    def precisions(self, places: Sequence[Place]) -> dict[str, float]:
        """Return the share of the first k places that were damaged, for k = 50 and the number of damaged spans.

        A damaged span counts once; a second suspect of it is wrong.
        """
        open_: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in self.damage:
            open_[entry["sentence"]].append(entry)
        hits = []
        for i, low, high in places[: max(50, len(self.damage))]:
            hit = next((d for d in open_[i] if low < d["high"] and d["low"] < high), None)
            hits.append(hit["way"] if hit else "")
            if hit:
                open_[i].remove(hit)
        first = hits[: len(self.damage)]
        ways = Counter(d["way"] for d in self.damage)
        return {
            "50": sum(map(bool, hits[:50])) / 50,
            "all": sum(map(bool, first)) / len(self.damage),
            **{way: first.count(way) / ways[way] for way in WAYS},
        }

    def mean_probabilities(self) -> np.ndarray:
        """Return the probabilities that `--suspects --run` uses, (tokens, labels)."""
        used, weights = weighted(self.records, self.given != self.labels.index(OUTSIDE))
        return mean_probabilities(used, weights, slice(0, len(self.given)), self.given)

    def out_of_fold(self, run: Path) -> np.ndarray:
        """Return the probabilities of the models of a cross-validation for what they were not trained on."""
        import torch

        found = np.zeros((len(self.given), len(self.labels)))
        waiting: dict[Any, deque[int]] = defaultdict(deque)
        for i, example in enumerate(self.examples):
            waiting[example.tokens].append(i)
        for fold in sorted(path for path in run.glob("fold-*") if path.is_dir()):
            held_out, _ = read_files([str(run.parents[1] / "folds" / f"{fold.name}.validation.jsonl")], ReadOptions())
            saved = SavedModel.read(str(fold / "model"), {})
            accelerator = SingleProcess(torch.device("cpu"), "no")
            predictor, model = load_predictor(str(fold / "model"), saved, accelerator, "no")
            columns = [list(predictor.labels).index(label) for label in self.labels]
            split = Split.of([replace(e, tags=()) for e in held_out], predictor.alignment, predictor.collator)
            for group in predictor.scores(model, split):
                for j, scores in group.items():
                    i = waiting[held_out[j].tokens].popleft()
                    found[self.starts[i] : self.starts[i + 1]] = np.exp(scores[:, columns])
        return found

    def ranked(self, probabilities: np.ndarray) -> list[Place]:
        """Return what nerloop finds by some probabilities, (tokens, labels)."""
        scheme = Dataset("", {"train": self.examples}).scheme
        logs = np.log(np.maximum(probabilities, 1e-6))
        parts = np.split(logs, self.starts[1:-1])
        suspects = Suspects("probabilities")
        for example, part, ids in zip(self.examples, parts, Viterbi(self.labels, scheme).decode(parts), strict=True):
            suspects.add(example, to_spans([self.labels[i] for i in ids]), Doubts(self.labels, np.exp(part)))
        return self.places(suspects.to_json())

    def ranked_by_cleanlab(self, python: str, probabilities: np.ndarray) -> list[Place]:
        """Return what cleanlab finds: its issues in their order, then the other tokens by their quality.

        As in its tutorial, B- and I- of a type are one class.
        """
        types = sorted({label.partition("-")[2] for label in self.labels})
        of_label = np.array([types.index(label.partition("-")[2]) for label in self.labels])
        merged = probabilities @ np.eye(len(types))[of_label]
        merged /= merged.sum(1, keepdims=True)
        file = self.folder / "cleanlab.npz"
        np.savez(file, labels=of_label[self.given], probabilities=merged, starts=self.starts)
        done = subprocess.run([python, "-c", CLEANLAB, str(file)], check=True, capture_output=True, text=True)
        return self.by_tokens(np.array(json.loads(done.stdout.splitlines()[-1])))


CLEANLAB = """
import json, sys
import numpy as np
from cleanlab.token_classification.filter import find_label_issues
from cleanlab.token_classification.rank import get_label_quality_scores

data = np.load(sys.argv[1])
starts = data["starts"]
labels = [part.tolist() for part in np.split(data["labels"], starts[1:-1])]
probabilities = np.split(data["probabilities"], starts[1:-1])
issues = [int(starts[i] + t) for i, t in find_label_issues(labels, probabilities)]
_, scores = get_label_quality_scores(labels, probabilities)
others = np.argsort(np.concatenate([np.asarray(s) for s in scores]), kind="stable").tolist()
print(json.dumps(list(dict.fromkeys([*issues, *others]))))
"""


def methods(file: DamagedFile, folds: Path | None, cleanlab: str) -> Iterator[tuple[str, list[Place]]]:
    """Yield the places that each method suspects, best first."""
    last, mean = (file.records[-1].loss, np.mean([r.loss.astype(float) for r in file.records], axis=0))
    yield "nerloop: training dynamics", file.suspects("--run", str(file.folder / "whole"))
    yield "loss of the last epoch", file.by_tokens(np.argsort(-last.astype(float), kind="stable"))
    yield "mean loss of all epochs", file.by_tokens(np.argsort(-mean, kind="stable"))
    margin = np.mean([r.margin.astype(float) for r in file.records], axis=0)
    yield "area under the margin", file.by_tokens(np.argsort(margin, kind="stable"))
    if cleanlab:
        yield "cleanlab: training dynamics", file.ranked_by_cleanlab(cleanlab, file.mean_probabilities())
    if folds is not None:
        held_out = file.out_of_fold(folds)
        yield "nerloop: out of fold", file.ranked(held_out)
        flags = ("--predictions", str(folds / "predictions.out_of_fold.jsonl"), str(file.folder / "train.conll"))
        yield "nerloop: out of fold, predictions file", file.suspects(*flags)
        if cleanlab:
            yield "cleanlab: out of fold", file.ranked_by_cleanlab(cleanlab, held_out)
        yield "nerloop: mean of both", file.ranked((held_out + file.mean_probabilities()) / 2)


def cost(arguments: Any, rounds: int = 20) -> list[float]:
    """Return the share of a step that recording takes, in CPU time, of some steps."""
    config = Config(
        ModelSettings(name_or_path=arguments.model),
        DataSettings(train=str(Path(arguments.data, "train.conll"))),
        train=TrainSettings(batch_size=16, mixed_precision="auto"),
        run=RunSettings(record_tokens=True, log_level="error"),
    )
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder, training_of(config) as training:
        recorder = training.tokens
        assert recorder is not None
        seconds = 0.0

        def timed(logits: Tensor, batch: MicroBatch) -> None:
            nonlocal seconds
            start = time.process_time()
            recorder.record(logits, batch)
            seconds = time.process_time() - start

        recorder.begin(0, Path(folder))
        training.step._record = timed
        training.model.train()
        for number in range(rounds + 2):
            batch = training.plan[number]
            start = time.process_time()
            micro_batch = training.collate(batch.micro_batches[0][0])
            training.step.backward(micro_batch, 1 / batch.num_labelled, is_last=True)
            training.step.update(number, 1e-5)
            shares.append(seconds / (time.process_time() - start))
    return shares[2:]  # the first steps allocate memory


def main() -> None:
    parser = benchmark_parser(__doc__, sets=["10:1"], folds=2, runs="runs/label_errors", cleanlab="")
    parser.add_argument("--cost", action="store_true", help="measure what recording costs instead")
    arguments = parser.parse_args()
    if arguments.cost:
        shares = [100 * share for share in cost(arguments)]
        print(f"recording takes {median_and_spread(shares)} percent of a step's CPU time")
        report({"cost": shares}, arguments.json)
        return
    rows = []
    print("| set | damaged | method | first 50 | first n |", " | ".join(WAYS), "|")
    print("|---|---:|---|---:|---:|" + "---:|" * len(WAYS))
    for name in arguments.sets:
        file = DamagedFile(prepare(name, arguments))
        folds = file.folder / "folds" / "base" / f"seed-{name.partition(':')[2]}" if arguments.folds else None
        for method, places in methods(file, folds, arguments.cleanlab):
            found = file.precisions(places)
            rows.append({"set": name, "damaged": len(file.damage), "method": method, **found})
            cells = " | ".join(f"{100 * value:.0f}" for value in found.values())
            print(f"| {name} | {len(file.damage)} | {method} | {cells} |", flush=True)
    report({"label_errors": rows, "settings": SETTINGS}, arguments.json)


if __name__ == "__main__":
    main()
