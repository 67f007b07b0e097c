"""GLiNER's, DyGIE's and spaCy v2's JSON, whose entities count tokens; DocBin, which needs spaCy."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from nerloop.data import ReadOptions, format_of, read_files
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def pairs(path: str, **options) -> list[str]:
    examples = read_files([path], ReadOptions(**options))[0]
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def read(*records, **options) -> list[str]:
    Path("x.json").write_text(json.dumps(records))
    return pairs("x.json", **options)


def message(*records, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(*records, **options)
    return str(caught.value)


GLINER = {"tokenized_text": ["Anna", "Li", "met", "Bo", "."], "ner": [[3, 3, "person"], [0, 1, "job title"]]}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_gliners_spans_end_with_their_last_token(name):
    Path(name).write_text(json.dumps([GLINER]) if name == "x.json" else f"{json.dumps(GLINER)}\n" * 1)
    assert format_of(name) == "gliner"
    assert pairs(name) == ["Anna/B-job_title Li/I-job_title met/O Bo/B-person ./O"]


def test_of_gliners_nested_spans_one_is_kept_and_the_others_are_counted(caplog):
    nested = {"tokenized_text": ["Bank", "of", "China"], "ner": [[2, 2, "LOC"], [0, 2, "ORG"]]}
    assert read(nested) == ["Bank/B-ORG of/I-ORG China/I-ORG"]
    assert "1 nested or overlapping spans left out: x.json:1 LOC 'China' at 8" in caplog.text
    assert read(nested, overlaps="innermost") == ["Bank/O of/O China/B-LOC"]


@pytest.mark.parametrize(
    ("ner", "expected"),
    [
        ([[3, 5, "X"]], "x.json:1: found the span [3, 5, 'X'], expected its first and last token within 0 and 4: does "
                        "it end after its last token?"),
        ([[1, 0, "X"]], "x.json:1: found the span [1, 0, 'X'], expected its first and last token within 0 and 4: does "
                        "it end after its last token?"),
        ([["a", 0, "X"]], "x.json:1: found the offset 'a', expected a whole number"),
        ([[0, 1]], "x.json:1: found the span [0, 1], expected [first token, last token, type]"),
        (None, "x.json:1: found None in 'ner', expected a list of spans"),
    ],
)  # fmt: skip
def test_gliners_mistakes_are_told(ner, expected):
    assert message({**GLINER, "ner": ner}) == expected


def test_a_bad_record_of_gliners_is_left_out():
    assert len(read(GLINER, {**GLINER, "ner": [[9, 9, "X"]]}, GLINER, on_bad_record="skip")) == 2


def test_gliners_records_without_spans_can_be_tagged():
    Path("x.json").write_text(json.dumps([{"tokenized_text": ["Anna"]}]))
    assert read_files(["x.json"], ReadOptions(with_tags=False))[0][0].tokens == ("Anna",)


def test_dygies_spans_count_the_tokens_of_the_document():
    record = {
        "doc_key": "a", "sentences": [["Anna", "left"], ["Bo", "Li", "."]], "ner": [[[0, 0, "PER"]], [[2, 3, "PER"]]],
        "relations": [[], [[2, 3, 0, 0, "R"]]],
    }  # fmt: skip
    Path("x.jsonl").write_text(json.dumps(record) + "\n")
    assert pairs("x.jsonl") == ["Anna/B-PER left/O", "Bo/B-PER Li/I-PER ./O"]
    assert {e.document for e in read_files(["x.jsonl"])[0]} == {"x.jsonl:1"}


def spacy_doc(*sentences) -> dict:
    found = [{"tokens": [{"id": i, "orth": w, "ner": t} for i, (w, t) in enumerate(s)]} for s in sentences]
    return {"id": 0, "paragraphs": [{"raw": "x", "sentences": found, "cats": []}]}


ANNA = [("Anna", "B-PER"), ("de", "I-PER"), ("Li", "L-PER"), ("met", "O"), ("Bo", "U-PER")]


def test_spacys_biluo_tags_are_read(caplog):
    other = [("x", "-"), ("y", "O")]
    assert read(spacy_doc(ANNA, other), spacy_doc([("z", "O")])) == [
        "Anna/B-PER de/I-PER Li/E-PER met/O Bo/S-PER", "z/O",
    ]  # fmt: skip
    assert format_of("x.json") == "spacy_json"
    assert "1 sentences that have an unknown tag (-) are left out: x.json:1 (paragraph 1, sentence 2)" in caplog.text
    assert len(read_files(["x.json"], ReadOptions(with_tags=False))[0]) == 3


def test_spacys_mistakes_are_told():
    assert message(spacy_doc([("x", "X-PER")])).startswith("x.json:1 (paragraph 1, sentence 1): 'X-PER' is not a tag")
    assert message(spacy_doc(ANNA), {"paragraphs": [{"sentences": [{}]}]}) == (
        "x.json:1 (record 2) (paragraph 1, sentence 1): found {}, expected an object with a list of 'tokens'"
    )


# DocBin


def test_docbin_without_spacy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    Path("x.spacy").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_files(["x.spacy"])
    assert str(caught.value) == "x.spacy: this is spaCy's DocBin, which needs spaCy: pip install nerloop[spacy]"


@pytest.mark.extras
def test_docbin_is_read():
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    docs = [nlp("Anna Li lives in New  York."), nlp("Nobody.")]
    docs[0].set_ents([docs[0].char_span(0, 7, "PER"), docs[0].char_span(17, 26, "LOC")])
    docs[1].set_ents([])
    spacy.tokens.DocBin(docs=[*docs, nlp("not annotated")]).to_disk("x.spacy")
    assert format_of("x.spacy") == "docbin"
    assert pairs("x.spacy") == [
        "Anna/B-PER Li/I-PER lives/O in/O New/B-LOC York/I-LOC ./O", "Nobody/O ./O",
    ]  # fmt: skip
    assert len(read_files(["x.spacy"], ReadOptions(with_tags=False))[0]) == 3
    Path("y.spacy").write_bytes(b"no DocBin")
    with pytest.raises(DataError, match=r"^y\.spacy: not a DocBin, or damaged: "):
        read_files(["y.spacy"])


class Token:
    def __init__(self, text: str, idx: int) -> None:
        self.text, self.idx = text, idx


class Doc(list):
    """As much of spaCy's Doc as the reader uses; the test above runs on the real one where spaCy is installed."""

    text = "Anna  left"
    spans: dict = {}  # noqa: RUF012
    ents = (types.SimpleNamespace(start_char=0, end_char=4, label_="PER"),)

    def has_annotation(self, name: str) -> bool:
        return name == "ENT_IOB"


def test_docbin_through_a_stand_in_for_spacy(monkeypatch):
    doc = Doc([Token("Anna", 0), Token(" ", 5), Token("left", 6)])
    docbin = types.SimpleNamespace(get_docs=lambda vocab: [doc])
    tokens = types.ModuleType("spacy.tokens")
    tokens.DocBin = lambda: types.SimpleNamespace(from_bytes=lambda data: docbin)
    spacy = types.ModuleType("spacy")
    spacy.blank, spacy.tokens = lambda language: types.SimpleNamespace(vocab=None), tokens
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    monkeypatch.setitem(sys.modules, "spacy.tokens", tokens)
    Path("x.spacy").write_bytes(b"x")
    assert pairs("x.spacy") == ["Anna/B-PER left/O"]
