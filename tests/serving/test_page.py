"""The page in a real browser: Chromium, driven by Playwright."""

from __future__ import annotations

import shutil

import pytest

app_of = pytest.importorskip("nerloop.serving.app", reason='needs the extra "serve"', exc_type=ImportError)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("needs chromium", allow_module_level=True)

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, serving, tagger):
    with serving(app_of.create_app(tagger, "<b>a model</b>")) as service:
        page = browser.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(service.url)
        sync_api.expect(page.locator("#model")).to_have_text("<b>a model</b>")
        yield page
        page.close()
        assert [problem for problem in problems if "413" not in problem] == []


def find(page, text: str) -> None:
    page.fill("#text", text)
    page.click("#tag")


def test_entities_are_marked_in_the_text_and_counted(page):
    find(page, "\U0001f600 <i>Dear</i>\nAnna and Anna")
    sync_api.expect(page.locator("#status")).to_have_text("2 entities")
    assert page.locator("#marked mark").all_inner_texts() == ["AnnaPER", "AnnaPER"]
    assert page.locator("#marked").text_content() == "\U0001f600 <i>Dear</i>\nAnnaPER and AnnaPER"
    assert page.locator("#marked i").count() == 0
    assert page.locator("#types").inner_text() == "PER 2"
    title = page.locator("#marked mark").first.get_attribute("title")
    assert title == "PER, confidence 90.0%, characters 14 to 18"


def test_the_slider_hides_what_is_less_sure_and_tells_what_validation_said(page):
    find(page, "Dear Anna")
    sync_api.expect(page.locator("#marked mark")).to_have_count(1)
    expected = page.locator("#expected")
    assert "at least 0 had precision 0.750 and recall 0.750" in expected.inner_text()
    page.locator("#least").focus()
    page.keyboard.press("End")
    assert page.locator("#least-value").inner_text() == "1.00"
    assert page.locator("#marked mark").count() == 0
    assert page.locator("#marked").inner_text() == "Dear Anna"
    assert page.locator("#status").inner_text() == "0 entities, 1 below the confidence"
    assert "at least 0.5 had precision 1.000 and recall 0.500" in expected.inner_text()
    page.keyboard.press("Home")
    assert page.locator("#marked mark").count() == 1


def test_an_operating_point_tags_anew(page):
    find(page, "Dear Anna")
    sync_api.expect(page.locator("#marked mark")).to_have_attribute("title", "PER, confidence 90.0%, characters 5 to 9")
    page.select_option("#point", "recall")
    sync_api.expect(page.locator("#marked mark")).to_have_attribute("title", "PER, confidence 40.0%, characters 5 to 9")
    assert page.locator("#expected").inner_text() == ""  # nothing is known of this point


def test_ctrl_enter_tags_and_an_error_is_shown(page):
    page.fill("#text", "x " * 6_000)
    page.press("#text", "Control+Enter")
    status = page.locator("#status.error")
    sync_api.expect(status).to_have_text("text 0: found a sentence of 6,001 tokens, expected at most 5,000")
    find(page, "Anna")
    sync_api.expect(page.locator("#status:not(.error)")).to_have_text("1 entity")
