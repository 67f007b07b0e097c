"""The page: what is shown, nothing from outside, text stays text; in a browser the filters filter."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nerloop.evaluation.report.analysis import Analysis
from nerloop.evaluation.report.as_html import MOST_OF_KIND, MOST_OF_TYPE, as_html, worst
from nerloop.evaluation.report.breakdown import TrainingNames
from nerloop.evaluators.seqeval import Seqeval
from nerloop.tags import to_tags
from nerloop.types import Example, Span

EVIL = "</p><script>alert('x')</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def found_for(sentences: list[tuple[list[str], list[Span], list[Span]]], *, names: bool = True) -> dict:
    """Return the evaluation of sentences with gold and predicted spans; confidences fall from one to the next."""
    examples = [Example(tuple(t), tuple(to_tags(g, len(t))), f"x:{i}") for i, (t, g, _) in enumerate(sentences)]
    analysis = Analysis(TrainingNames.of(examples) if names else None)
    for i, (example, (_, _, predicted)) in enumerate(zip(examples, sentences, strict=True)):
        analysis.add(example, [{**s._asdict(), "confidence": 1 - i / 10_000} for s in predicted])
    evaluator = Seqeval()
    tags = [to_tags(p, len(t)) for t, _, p in sentences]
    return analysis.to_json(evaluator.metrics(evaluator.count([e.tags for e in examples], tags)))


SENTENCES = [
    (["Anna", "Li", EVIL], [Span(0, 2, "PER")], [Span(0, 1, "PER"), Span(2, 3, EVIL)]),
    (["سافر", "محمد"], [Span(1, 2, "PER")], [Span(1, 2, "LOC")]),
    (["Rome"], [Span(0, 1, "LOC")], []),
    (["a"] * 200, [Span(150, 152, "ORG")], [Span(150, 151, "ORG"), Span(151, 152, "ORG")]),
    (["\u202eevil", ""], [], [Span(0, 2, "LOC")]),
]


def test_the_page_loads_nothing_and_runs_nothing():
    html = as_html(found_for(SENTENCES), f"test {EVIL}")
    assert not re.search(r"<(?:script|img|link|iframe|object|embed|form|a|base)\b", html)
    assert not re.search(r"url\(|@import|https?:|\son\w+=", html)
    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    assert html.count("&lt;script&gt;") > 5
    assert "\u202e" not in html


def test_what_targets_delivered_is_shown():
    scores = {"precision": 0.954, "recall": 0.424, "f1": 0.587}
    one = {"threshold": 0.92, "validation": scores, "delivered": {**scores, "precision": 0.986}}
    html = as_html(found_for(SENTENCES) | {"targets": {"precision": {"0.95": one}, "recall": {}}}, "")
    row = "".join(f"<td class=n>{cell}</td>" for cell in ("0.92", "0.9540", "0.4240", "0.9860", "0.4240"))
    assert f"<tr><td>precision 0.95</td>{row}</tr>" in html
    assert "<h2>Targets</h2>" not in as_html(found_for(SENTENCES) | {"targets": {"precision": {}, "recall": {}}}, "")


def test_gold_stands_above_predicted_and_the_error_stands_out():
    html = as_html(found_for(SENTENCES), "")
    (item,) = re.findall(r"<article[^>]*><p class=\"head\"><b>PER <bdi>محمد</bdi> → LOC .*?</article>", html)
    assert re.sub(r' style="[^"]*"', "", item) == (
        '<article class="item t1 t3"><p class="head"><b>PER <bdi>محمد</bdi> → LOC <bdi>محمد</bdi></b>'
        "<span>confidence 1.000</span><code>x:1</code></p>"
        "<dl><dt>gold</dt>"
        '<dd dir="auto">سافر <mark class=hit>محمد <span class="type" dir="ltr">PER</span></mark></dd>'
        "<dt>model</dt>"
        '<dd dir="auto">سافر <mark class=hit>محمد <span class="type" dir="ltr">LOC</span></mark></dd></dl>'
        "</article>"
    )


def test_of_a_long_sentence_the_part_around_the_error_is_shown():
    html = as_html(found_for(SENTENCES), "")
    (item,) = re.findall(
        r"<article[^>]*><p class=\"head\"><b>ORG <bdi>a a</bdi> → ORG <bdi>a</bdi> \+ ORG .*?</article>", html
    )
    assert item.count("…") == 4
    assert len(re.findall(r"\ba\b", item)) == 2 * (25 + 2 + 25) + 4  # 4 in the heading


def test_the_most_confident_errors_of_each_kind_come_first_and_each_type_has_some():
    many = [(["a"], [], [Span(0, 1, "COMMON")])] * 500 + [(["b"], [], [Span(0, 1, "RARE")])] * 20
    many += [(["c"], [Span(0, 1, "COMMON")], [])] * 70
    found = found_for(many)
    shown = worst(found["mistakes"])
    types = [(error["kind"], s["predicted"][0]["type"] if s["predicted"] else "") for s, error in shown]
    assert types.count(("spurious", "COMMON")) == MOST_OF_KIND
    assert types.count(("spurious", "RARE")) == MOST_OF_TYPE
    assert types.count(("missed", "")) == MOST_OF_KIND
    sure = [error["confidence"] for _, error in shown if error["confidence"] is not None]
    assert sure == sorted(sure, reverse=True)
    assert found["errors"]["spurious"] == 520
    assert "spurious: the 68 worst of 520" in as_html(found, "")


def test_without_errors_without_names_without_spans():
    html = as_html(found_for([(["Rome"], [Span(0, 1, "LOC")], [Span(0, 1, "LOC")])], names=False), "")
    assert "Sentences with errors" not in html
    assert "--train FILE" in html
    html = as_html(found_for([(["Rome"], [], [])]), "")
    assert "<h2>Scores</h2>" in html
    assert "Confidence" not in re.findall(r"<h2>(\w+)", html)


def test_metrics_of_another_evaluator():
    found = found_for(SENTENCES) | {"scores": {"mine": 0.5}}
    html = as_html(found, "")
    assert "<td>mine</td><td class=n>0.5000</td>" in html
    assert "<h2>Types</h2>" not in html


@pytest.mark.parametrize(("scores", "is_strict"), [({}, True), ({"f1": 0.9}, False), (None, False)])
def test_intervals_and_strict_matching_are_those_of_seqeval(scores, is_strict):
    found = found_for(SENTENCES)
    html = as_html(found | {"scores": {"mine": 0.5} if scores is None else found["scores"] | scores}, "")
    assert ("strict is the score above" in html) == is_strict
    assert ("strict is the F1 of seqeval" in html) != is_strict
    assert ("Intervals: 95%" in html) == ("95% interval</th>" in html) == is_strict


MEASURE = """<script>addEventListener('load', () => {
const seen = [...document.querySelectorAll('.item')].filter(e => e.getBoundingClientRect().height > 0);
const measured = document.createElement('pre');
measured.textContent = seen.map(e => e.querySelector('b').textContent).join('|') + '#'
    + (document.documentElement.scrollWidth <= innerWidth);
document.body.append(measured); })</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(
    ("kind", "type_", "expected"),
    [
        (
            "all",
            "",
            "LOC Rome → nothing|nothing → \\ \\|nothing → LOC \\u202eevil |PER محمد → LOC محمد|PER Anna Li → PER Anna|"
            "ORG a a → ORG a + ORG a",
        ),
        ("spurious", "", "nothing → \\ \\|nothing → LOC \\u202eevil "),
        ("wrong_type", "LOC", "PER محمد → LOC محمد"),
    ],
)
def test_in_a_browser_the_filters_filter(kind, type_, expected, tmp_path):
    """A script is added that measures; the page as it is lets none run."""
    html = as_html(found_for(SENTENCES), "x").replace("style-src", "script-src 'unsafe-inline'; style-src", 1)
    html = html.replace(" checked>", ">").replace(f'id="kind-{kind}"', f'id="kind-{kind}" checked')
    html = html.replace(f">{type_}</option>", f" selected>{type_}</option>") if type_ else html
    (tmp_path / "page.html").write_text(html.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    dom = _dump(tmp_path)
    items, _, fits = dom.partition("<pre>")[2].partition("</pre>")[0].rpartition("#")
    assert items.replace("&lt;/p&gt;&lt;script&gt;alert('x')&lt;/script&gt;", "\\") == expected
    assert fits == "true"


def _dump(folder: Path) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--dump-dom", "--window-size=500,900", (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
