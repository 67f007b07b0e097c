"""Memory and time to the first step, by the number of sentences.

    python tests/benchmarks/size.py --json size.json
    python tests/benchmarks/size.py --alignment document --sizes 10000 200000

For each size it writes made-up text to a file, and trains a few steps of a tiny model on it several times: the first
run reads, tokenises and fills the cache, the others use the cache. Each is an `accelerate launch` of this file. The
peak of anonymous memory (RssAnon, the process's own) is sampled. Pages of mapped files, which the system can drop at
any time, are reported beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from pathlib import Path

from harness import launch_worker, report, threads_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SAMPLE_SECONDS = 0.02
STEPS = 5
SENTENCES_A_DOCUMENT = 20


def write_text(path: Path, num_sentences: int, most_tokens: int, *, seed: int = 0) -> None:
    """Write CoNLL columns: 3 to `most_tokens` tokens a sentence, of 50,000 words, a twentieth of them persons.

    A document has SENTENCES_A_DOCUMENT of them.
    """
    chance = random.Random(seed)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(50_000)]
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_sentences):
            if i % SENTENCES_A_DOCUMENT == 0:
                file.write("-DOCSTART- O\n\n")
            tokens = chance.choices(words, k=chance.randint(3, most_tokens))
            file.write("".join(f"{t} {'B-PER' if chance.random() < 0.05 else 'O'}\n" for t in tokens) + "\n")


def save_model(folder: Path) -> None:
    """Save a tiny BERT with a tokenizer of single letters and pairs."""
    import itertools

    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = [*LETTERS, *map("".join, itertools.product(LETTERS, LETTERS))]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *(f"##{p}" for p in pieces)]
    tokenizer = BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=128)
    tokenizer.save_pretrained(str(folder))
    BertModel(
        BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=64, max_position_embeddings=128)
    ).save_pretrained(str(folder))  # fmt: skip


def memory() -> dict[str, int]:
    """Return this process's memory in bytes: anonymous, and of mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def train_once(folder: Path, data: Path, run: Path, alignment: str) -> None:
    """Train some steps in this process; print their peak memory and seconds as JSON."""
    peak = {"RssAnon": 0, "RssFile": 0}
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            for name, value in memory().items():
                peak[name] = max(peak[name], value)

    sampler = threading.Thread(target=sample)
    sampler.start()
    started = time.perf_counter()
    try:
        from nerloop.config import Config, DataSettings, ModelSettings, Plugin, RunSettings, TrainSettings
        from nerloop.train import train

        results = train(
            Config(
                model=ModelSettings(name_or_path=str(folder / "model")),
                data=DataSettings(train=str(data), cache_dir=str(folder / "cache")),
                alignment=Plugin(alignment),
                train=TrainSettings(max_steps=STEPS, batch_size=32),
                run=RunSettings(dir=str(run), log_level="error"),
            )
        )
    finally:
        is_over.set()
        sampler.join()
    seconds = {
        "whole": time.perf_counter() - started,
        "first_step": results["timing"]["first_step_seconds"],
        "cpu": time.process_time(),  # less affected by other load on the machine
    }
    print(json.dumps({"peak": peak, "seconds": seconds, "threads": threads_of(run)}))


def measure(folder: Path, num_sentences: int, most_tokens: int, repeats: int, alignment: str) -> dict[str, object]:
    """Return the figures of a run that fills the cache, and those of the median run that uses it."""
    data = folder / f"{num_sentences}.conll"
    write_text(data, num_sentences, most_tokens)
    runs = []
    for i in range(1 + repeats):
        run = folder / f"run-{num_sentences}-{i}"
        runs.append(launch_worker(__file__, "--alignment", alignment, "--one", str(folder), str(data), str(run)))
    middle = sorted(runs[1:], key=lambda run: run["seconds"]["first_step"])[repeats // 2]
    return {"sentences": num_sentences, "bytes": data.stat().st_size, "build": runs[0], "cached": middle}


def growth(sizes: list[dict], name: str) -> float:
    """Return by how many bytes a sentence the peak of anonymous memory grows from the first to the last size."""
    first, last = sizes[0], sizes[-1]
    grown = last[name]["peak"]["RssAnon"] - first[name]["peak"]["RssAnon"]
    return grown / max(1, last["sentences"] - first["sentences"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 2_000_000], help="sentences, smallest first")
    parser.add_argument("--tokens", type=int, default=25, help="tokens of the longest sentences; the shortest have 3")
    parser.add_argument("--repeats", type=int, default=3, help="cached runs of each size")
    parser.add_argument("--alignment", default="all", help="all, first or document")
    parser.add_argument("--folder", help="folder for text and cache, some gigabytes (none: a temporary one)")
    parser.add_argument("--json", metavar="FILE", help="write the figures and the setting")
    parser.add_argument("--one", nargs=3, type=Path, metavar=("FOLDER", "DATA", "RUN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        train_once(*arguments.one, arguments.alignment)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        save_model(Path(folder, "model"))
        sizes = []
        print(" sentences     run anon. MiB  file MiB first step s  whole s   CPU s", flush=True)
        for n in arguments.sizes:
            found = measure(Path(folder), n, arguments.tokens, arguments.repeats, arguments.alignment)
            sizes.append(found)
            for name in ("build", "cached"):
                peak, seconds = found[name]["peak"], found[name]["seconds"]
                print(
                    f"{n:>10} {name:>7} {peak['RssAnon'] / 2**20:>9.1f} {peak['RssFile'] / 2**20:>9.1f} "
                    f"{seconds['first_step']:>12.2f} {seconds['whole']:>8.2f} {seconds['cpu']:>7.2f}", flush=True
                )  # fmt: skip
    grown = {name: growth(sizes, name) for name in ("build", "cached")}
    print(f"growth of anonymous memory, bytes a sentence: {grown['build']:.1f} building, {grown['cached']:.1f} cached")
    figures = {"size": sizes, "bytes_a_sentence": grown, "steps": STEPS, "most_tokens": arguments.tokens}
    report({**figures, "alignment": arguments.alignment}, arguments.json)


if __name__ == "__main__":
    main()
