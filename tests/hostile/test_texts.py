"""Exports of any shape: examples whose offsets are their tokens, or one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from nerloop.convert import TARGETS, _arguments, convert
from nerloop.data import ReadOptions, read_files
from nerloop.data.formats import FORMATS
from nerloop.errors import NerloopError
from nerloop.tags import to_spans
from nerloop.types import Example

COUNTS = {
    "records": 400,
    "records with something odd in them": 500,
    "brat": 300,
    "tables and CoNLL-U": 500,
    "conversions": 150,
}
TEXTS = (
    "Anna met Bo. Yes! No",
    "😀 Zoë\r\nParis😀-x",
    "",
    " \n",
    "東京。大阪",
    "a\u2028b\x85c\td",
    "New York-based Anna",
)
INTRUDERS = (b"\xff", b"\0", b'"', b"[", b"{", b"}", b"]", b",", b"\\ud800", b"null", b"NaN", b"9" * 5000, b"\n", b"\t",
             b"[" * 3000, b"-1", b" ")  # fmt: skip

places = st.tuples(st.integers(-1, 22), st.integers(0, 22))
junk = st.sampled_from((None, True, 1.5, "", "x", "\ud800", [], {}, [[]], 10**30))
types = st.sampled_from(("PER", "LOC", "Job Title")) | junk


def record(value: tuple) -> Any:
    text, spans, form, odd = value
    objects = [{"start": a, "end": b, "label": t, "text": text[a:b] if odd else None} for (a, b), t in spans]
    triples = [[a, b, t] for (a, b), t in spans]
    regions = [{"type": "labels", "value": {"start": a, "end": b, "labels": [t]}} for (a, b), t in spans]
    return {
        "prodigy": {"text": text, "spans": objects, "answer": odd, "tokens": objects if odd else None},
        "doccano": {"text": text, "label": triples},
        "spacy": [text, {"entities": triples}],
        "label_studio": {"data": {"text": text}, "annotations": [{"result": regions}]},
    }[form]


records = st.tuples(
    st.sampled_from(TEXTS) | st.text(max_size=8) | junk.filter(lambda v: isinstance(v, str)),
    st.lists(st.tuples(places, types), max_size=3),
    st.sampled_from(("prodigy", "doccano", "spacy", "label_studio")),
    st.sampled_from((None, None, "accept", "reject")),
).map(record)
options = st.fixed_dictionaries(
    {
        "format": st.sampled_from(("auto", "auto", *FORMATS)),
        "with_tags": st.booleans(),
        "tokenizer": st.sampled_from(("words", "whitespace")),
        "offsets": st.sampled_from(("auto", "codepoints", "utf16")),
        "overlaps": st.sampled_from(("outermost", "innermost", "error")),
        "discontinuous": st.sampled_from(("hull", "skip")),
    }
)


def check(examples: list[Example]) -> None:
    for e in examples:
        assert len(e.tags) in (0, len(e.tokens))
        spans = to_spans(e.tags)
        assert all(span in spans for span in e.widened)
        if e.offsets:
            assert [b - a for a, b in e.offsets] == [len(token) for token in e.tokens]
            assert e.document


@pytest.fixture
def read(folder: Path, monkeypatch: pytest.MonkeyPatch, attempt) -> Callable[..., str]:
    monkeypatch.chdir(folder)

    def run(name: str, **options: Any) -> str:
        found = attempt(lambda: read_files([name], ReadOptions(**options))[0], name)
        if isinstance(found, NerloopError):
            return "refused"
        check(found)
        return "read"

    return run


def test_records_are_read_or_refused(feed, read):
    def one(value):
        found, is_array, options = value
        lines = [json.dumps(r) for r in found]
        Path("x.json").write_text(f"[{','.join(lines)}]" if is_array else "\n".join(lines))
        return read("x.json", **options)

    outcomes = feed(
        COUNTS["records"], st.tuples(st.lists(records, min_size=1, max_size=2), st.booleans(), options), one
    )
    assert min(outcomes["read"], outcomes["refused"]) > 20


def test_records_with_something_odd_are_read_or_refused(feed, read):
    def one(value):
        found, at, intruder, is_array, options = value
        data = json.dumps(found).encode()
        data = b"[" + data + b"]" if is_array else data
        at %= len(data) + 1
        Path("x.json").write_bytes(data[:at] + intruder + data[at:])
        return read("x.json", **options)

    values = st.tuples(records, st.integers(0, 300), st.sampled_from(INTRUDERS), st.booleans(), options)
    outcomes = feed(COUNTS["records with something odd in them"], values, one)
    assert outcomes["refused"] > 100


def test_brats_folders_are_read_or_refused(feed, read):
    Path("b").mkdir(exist_ok=True)
    lines = st.builds(
        lambda kind, tab, where, text: f"{kind}{tab}PER {';'.join(f'{a} {b}' for a, b in where)}{tab}{text}",
        st.sampled_from(("T1", "T2", "R1", "#", "x", "")),
        st.sampled_from("\t\t\t "),
        st.lists(places, min_size=1, max_size=2),
        st.sampled_from(("Anna", "Paris", "", "\ufeff")),
    )

    def one(value):
        text, found, end, options = value
        Path("b/a.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
        Path("b/a.ann").write_bytes(end.join(found).encode())
        return read("b", **options)

    values = st.tuples(st.sampled_from(TEXTS), st.lists(lines, max_size=2), st.sampled_from(("\n", "\r\n")), options)
    outcomes = feed(COUNTS["brat"], values, one)
    assert min(outcomes["read"], outcomes["refused"]) > 20


def test_tables_and_conllu_are_read_or_refused(feed, read):
    words = ("Anna", "B-PER", "O", "1", "1-2", "2.1", "_", "NER=B-X", "Entity=(a)", "", '"', "['a']", "['O']", "[", "é")
    cells = st.sampled_from((*words, "token", "tag", "sentence_id", "# newdoc", "# global.columns = ID FORM MISC"))
    rows = st.lists(st.lists(cells, min_size=1, max_size=10), min_size=1, max_size=4)

    def one(value):
        found, separator, name, options = value
        Path(name).write_text("\n".join(separator.join(row) for row in found), encoding="utf-8")
        return read(name, **options)

    names = st.sampled_from(("x.csv", "x.conllu", "x.parquet", "x.txt"))
    outcomes = feed(COUNTS["tables and CoNLL-U"], st.tuples(rows, st.sampled_from(",\t;"), names, options), one)
    assert outcomes["refused"] > 100


def test_conversions_are_done_or_refused(feed, share, folder, monkeypatch, attempt):
    monkeypatch.chdir(folder)

    def one(value):
        found, target = value
        Path("x.json").write_text(json.dumps(found))
        out = f"out{next(numbers)}"
        result = attempt(lambda: convert(_arguments(["x.json", out, "--to", target])), "x.json")
        assert Path(out).exists() != isinstance(result, NerloopError)
        return "refused" if isinstance(result, NerloopError) else "done"

    numbers = iter(range(10_000))
    values = st.tuples(st.lists(records, min_size=1, max_size=2), st.sampled_from(TARGETS))
    assert feed(COUNTS["conversions"], values, one)["done"] > (20 if share == 1 else 0)
