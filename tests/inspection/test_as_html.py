"""The page: nothing from outside, all text escaped, each in its own direction; looked at in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nerloop.inspection.as_html import as_html, example_sentences, tagged
from nerloop.inspection.charts import bins_of, histogram
from nerloop.inspection.escaping import text
from nerloop.inspection.findings import unreadable
from nerloop.inspection.inspection import Inspection
from nerloop.inspection.parts import Part
from nerloop.inspection.statistics import Statistics
from nerloop.inspection.subwords import Limit, SubwordStatistics
from nerloop.types import Example

EVIL = "</p><script>alert('x')</script>"
HUES = {"PER": 0, "LOC": 90, EVIL: 180}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class _Page(HTMLParser):
    """The tags of a page, and whether each is closed."""

    VOID = ("meta", "rect", "line", "link", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def inspection(wordpiece):
    """Return an inspection with all there can be on a page, and hostile text wherever there is some."""
    sentences = {
        "train": [[("Anna", "B-PER"), ("lives", "O"), ("in", "O"), ("New", "B-LOC"), ("York", "I-LOC")]] * 12
        + [[("New", "O")] * 100],
        "validation": [
            [(EVIL, f"B-{EVIL}"), ("&amp;", "O"), ("\u202eevil", "O"), ("", "O"), ('"', "I-PER")],
            [("سافر", "O"), ("محمد", "B-PER"), ("إلى", "O"), ("باريس", "B-LOC"), (".", "O")],
            [],
        ],
    }
    limit, parts = Limit.of(wordpiece, 32), []
    for split, rows in sentences.items():
        examples = [
            Example(tuple(t for t, _ in row), tuple(g for _, g in row), f"<{split}>.jsonl:{i}")
            for i, row in enumerate(rows, 1)
        ]
        statistics = Statistics.of(examples)
        subwords = SubwordStatistics.of(wordpiece, examples, statistics.lengths, limit)
        parts.append(Part(split, f"<{split}>.jsonl", examples, statistics, subwords, taken_by="by its name"))
    return Inspection.of(parts, unreadable(f"{EVIL}.conll", [f"{EVIL}.conll:3: found {EVIL}"]), limit, f"models/{EVIL}")


def test_the_page_loads_nothing_and_runs_nothing(inspection):
    page = _Page(as_html(inspection))
    assert not {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base"} & {t for t, _ in page.tags}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href", "srcset", "action")}
    assert "svg" in {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?:", as_html(inspection))


def test_a_browser_is_told_to_load_nothing(inspection):
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in as_html(inspection)


def test_every_element_is_closed(inspection):
    page = _Page(as_html(inspection))
    assert page.open == []
    assert len(page.tags) > 200


def test_text_of_the_data_stays_text(inspection):
    page = as_html(inspection)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") > 5
    assert "&amp;amp;" in page


def test_controls_that_would_turn_the_page_around_are_shown_as_escapes():
    assert text("\u202eevil\x00\n<") == "\\u202eevil\\x00\\n&lt;"


def test_joiners_stay_as_they_are():
    assert text("می\u200cخواهم") == "می\u200cخواهم"


def test_a_sentence_with_its_entities():
    example = Example(("Anna", "saw", "Rome"), ("B-PER", "O", "B-LOC"), "x:1")
    assert tagged(example, HUES) == (
        '<p class="sentence" dir="auto"><mark style="--h:0">Anna <span class="type" dir="ltr">PER</span></mark> saw '
        '<mark style="--h:90">Rome <span class="type" dir="ltr">LOC</span></mark></p>'
    )


def test_an_entity_that_begins_in_front_of_the_cut_is_whole():
    tags = (*["O"] * 79, "B-PER", "I-PER", "O", "O")
    example = Example(tuple(f"t{i}" for i in range(83)), tags, "x:1")
    html = tagged(example, HUES)
    assert (
        't79 t80 <span class="type" dir="ltr">PER</span></mark> <span class="more" dir="ltr">and 2 tokens more' in html
    )
    assert "t81" not in html


def test_the_first_sentence_and_that_of_each_type_are_shown(make_part):
    part = make_part("train", *["a/O"] * 3, *["b/O Eve/B-PER"] * 20, "c/O Rome/B-LOC")
    assert example_sentences(part) == [0, 3, 4, 5, 6, 7, 8, 23]


def test_no_findings_and_no_entities(make_part):
    page = as_html(Inspection.of([make_part("train", *[f"Al/B-PER {i}/O" for i in range(10)])]))
    assert "<h2>No findings</h2>" in page
    page = as_html(Inspection.of([make_part("train", "a/O")]))
    assert "<p>No sentence has an entity.</p>" in page
    assert "<h2>Types</h2>" not in page


def test_nothing_could_be_read():
    page = as_html(Inspection.of([], unreadable("a", ["a: no such file"])))
    assert "<h2>Findings: 1 error</h2>" in page
    assert _Page(page).open == []


@pytest.mark.parametrize(
    ("lengths", "bins"),
    [
        ([], (1, [0], False)),
        ([0, 1, 1, 3], (1, [1, 2, 0, 1], False)),
        ([*range(80)], (2, [2] * 40, False)),
        ([1] * 999 + [5_000], (1, [0, 1_000], True)),
    ],
)
def test_bars_of_a_histogram(lengths, bins):
    assert bins_of(np.array(lengths, dtype=np.int32)) == bins


def test_the_limit_is_drawn_where_it_lies_within():
    assert 'x1="75.00%"' in histogram(np.arange(40), "tokens", 30)
    assert "limit" not in histogram(np.arange(40), "tokens", 512)


MEASURE = """<script>addEventListener('load', () => {
const all = selector => [...document.querySelectorAll(selector)];
const is_seen = element => element.getBoundingClientRect().height > 0;
const is_too_wide = element => !element.closest('.scroll, svg')
    && (element.getBoundingClientRect().right > innerWidth || element.getBoundingClientRect().left < 0);
parent.postMessage(JSON.stringify({
    width: innerWidth, content: document.documentElement.scrollWidth,
    too_wide: all('main *').filter(is_too_wide).map(element => element.tagName),
    bars: all('rect').filter(is_seen).length,
    entities: all('mark').filter(is_seen).length,
    right_to_left: all('.sentence').filter(element => getComputedStyle(element).direction == 'rtl').length,
}), '*'); })</script>"""
# Chromium has no window narrower than 500 pixels, but a frame is as wide as it is told to be.
FRAME = """<!DOCTYPE html><body><script>addEventListener('message', event => {
const measured = document.createElement('pre');
measured.textContent = event.data;
document.body.append(measured); })</script><iframe src="page.html" style="border:0;height:844px;width:%dpx"></iframe>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_nothing_is_wider_than_the_screen(inspection, tmp_path, width):
    """A script is added that measures; the page as it is lets none run."""
    page = as_html(inspection).replace(
        "style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    dom = _dump(page.replace("</body>", f"{MEASURE}</body>"), tmp_path, width)
    measured = json.loads(dom.partition("<pre>")[2].partition("</pre>")[0])
    assert measured == {
        "width": width, "content": width, "too_wide": [], "bars": 15, "entities": 20, "right_to_left": 1
    }  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser_no_script_runs(inspection, tmp_path):
    dom = _dump(as_html(inspection).replace("</body>", f"{MEASURE}</body>"), tmp_path, 1200)
    assert "<iframe" in dom
    assert "<pre>" not in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_draws_it_at_phone_width(inspection, tmp_path):
    (tmp_path / "page.html").write_text(as_html(inspection), encoding="utf-8")
    _chromium(tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=390,844", "page.html")
    header = (tmp_path / "page.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (390, 844)


def _dump(page: str, folder: Path, width: int) -> str:
    (folder / "page.html").write_text(page, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME % width, encoding="utf-8")
    return _chromium(folder, "--dump-dom", "--virtual-time-budget=3000", "--window-size=1300,900", "frame.html")


def _chromium(folder: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    *options, page = arguments
    done = subprocess.run(
        [CHROMIUM, *flags, *options, (folder / page).as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
