"""Time and memory of `python -m nerloop.inspect` for ten million tokens, reading included.

    python tests/benchmarks/inspection.py --model FOLDER
    python tests/benchmarks/inspection.py --tokens 1_000_000

Writes columns whose words follow Zipf's law, a tenth of them in entities; runs the command; prints the figures.
Exit codes: 0 done within `--most_seconds`, 1 later than that, or the command counted other tokens than were written.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

VOCABULARY = 200_000
TYPES = ("PER", "LOC", "ORG", "MISC")
LETTERS = "etaoinshrdlucmfwygpbvkqjxz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--model", help="folder of a model: count its subwords, too")
    parser.add_argument("--most_seconds", type=float, default=120)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.conll")
        num_sentences, num_tokens = write(path, arguments.tokens)
        command = [sys.executable, "-m", "nerloop.inspect", str(path), "--json", "--html", str(Path(folder, "x.html"))]
        command += ["--model", arguments.model] if arguments.model else []
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        (split,) = json.loads(done.stdout)["splits"]
        page_kib = Path(folder, "x.html").stat().st_size / 1024
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = used.ru_utime + used.ru_stime
    print(
        f"{num_tokens:,} tokens in {num_sentences:,} sentences: {seconds:.1f} s ({cpu_seconds:.1f} s of "
        f"processor time on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}), {used.ru_maxrss / 2**20:.2f} GiB "
        f"at most, HTML {page_kib:.0f} KiB"
    )
    sys.exit(seconds > arguments.most_seconds or (split["tokens"], split["sentences"]) != (num_tokens, num_sentences))


def write(path: Path, num_tokens: int) -> tuple[int, int]:
    """Write columns of at least this many tokens; return the numbers of sentences and tokens."""
    random = Random(0)
    words = sorted({"".join(random.choices(LETTERS, k=random.randint(2, 10))) for _ in range(VOCABULARY)})
    random.shuffle(words)
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(len(words))))
    sentences = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < num_tokens:
            length = max(1, round(random.lognormvariate(3.0, 0.5)))
            rows, left, type_ = [], 0, ""
            for word in random.choices(words, cum_weights=weights, k=length):
                if left:
                    rows.append(f"{word} I-{type_}\n")
                    left -= 1
                elif random.random() < 0.06:
                    left, type_ = random.randint(0, 2), random.choice(TYPES)
                    rows.append(f"{word.capitalize()} B-{type_}\n")
                else:
                    rows.append(f"{word} O\n")
            file.write("".join(rows) + "\n")
            sentences, written = sentences + 1, written + length
    return sentences, written


if __name__ == "__main__":
    main()
