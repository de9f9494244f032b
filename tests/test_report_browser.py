"""report.html in a real browser: tables sort and filter, nothing is clipped, nothing is fetched."""

import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_examples import example, spec

from ablate.report.render.html import render_html
from ablate.report.report import report_of, write_report
from ablate.report.sections.live import live_of
from ablate.report.terms import TERMS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """The report's address, and the browser to open it in."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install '.[dev]')")
    folder = tmp_path_factory.mktemp("browser")
    write_report(example(spec("full")), folder, ("html",))
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield (folder / "report.html").as_uri(), browser
        browser.close()


@pytest.fixture
def open_page(report: tuple[str, Any]) -> Iterator[Callable[..., Any]]:
    """Open the report, with options of the browser's; keep what it asked for and complained of."""
    address, browser = report
    pages = []

    def call(**options: Any) -> Any:
        page = browser.new_page(**options)
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(address)
        page.evaluate("document.querySelectorAll('details.rest').forEach(section => section.open = true)")
        pages.append(page)
        return page

    yield call
    for page in pages:
        page.close()


def column(page: Any, place: int) -> list[str]:
    texts: list[str] = page.locator(
        f"#cells-table tbody tr:visible td:nth-child({place})"
    ).all_text_contents()
    return texts


def test_a_click_on_a_heading_sorts_by_number(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_role("button", name="Δ dev/mean").click()
    texts = column(page, 4)
    numbers = [float(text.replace("−", "-")) for text in texts if text != "–"]
    assert numbers == sorted(numbers)
    assert len(numbers) == 23
    assert texts[-1] == "–"  # the reference has no difference, and stays last
    page.get_by_role("button", name="Δ dev/mean").click()
    assert column(page, 4)[0] == texts[-2]


def test_words_in_the_filter_hide_other_rows(open_page: Callable[..., Any]) -> None:
    page = open_page()
    assert len(column(page, 1)) == 24
    page.locator("input[data-for=cells-table]").fill("joint siamese")
    names = column(page, 1)
    assert len(names) == 8
    assert all("joint" in name and "siamese" in name for name in names)


def test_nothing_is_fetched_and_nothing_complains(open_page: Callable[..., Any]) -> None:
    page = open_page()
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.complaints == []


def test_every_picture_is_shown(open_page: Callable[..., Any]) -> None:
    sizes = open_page().eval_on_selector_all("figure img", "images => images.map(i => i.naturalWidth)")
    assert len(sizes) >= 4
    assert min(sizes) > 0


def test_a_phone_shows_the_whole_answer(open_page: Callable[..., Any]) -> None:
    """Half a forest plot may show no effect at all."""
    page = open_page(viewport={"width": 400, "height": 800})
    right = page.locator("#says img").evaluate("image => image.getBoundingClientRect().right")
    assert right <= 400


def test_a_narrow_page_does_not_scroll_sideways(open_page: Callable[..., Any]) -> None:
    page = open_page(viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("section", ["cells", "effects"])
def test_a_window_of_1200_pixels_shows_all_columns(section: str, open_page: Callable[..., Any]) -> None:
    page = open_page(viewport={"width": 1200, "height": 900})
    page.evaluate("document.querySelectorAll('#effects details').forEach(group => group.open = true)")
    widths = page.eval_on_selector_all(
        f"#{section} .scroll", "all => all.map(t => [t.scrollWidth, t.clientWidth])"
    )
    assert widths
    assert all(table <= window for table, window in widths)


def test_on_paper_no_table_is_cut_off(open_page: Callable[..., Any]) -> None:
    # A4 between its margins, at 96 dots per inch.
    page = open_page(viewport={"width": 703, "height": 1000})
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 703


def test_on_paper_the_terms_and_sources_can_be_read(open_page: Callable[..., Any]) -> None:
    page = open_page()
    last_term = "[...document.querySelectorAll('dt')].at(-1).checkVisibility({contentVisibilityAuto: true})"
    assert not page.evaluate(last_term)
    page.emulate_media(media="print")
    # The page hears of it a moment later.
    page.wait_for_function(last_term)


def test_a_word_is_explained_by_hover_touch_and_keyboard(open_page: Callable[..., Any]) -> None:
    meaning = TERMS["95 % interval"]
    page = open_page(has_touch=True, viewport={"width": 400, "height": 800})
    word, tip = page.locator("abbr", has_text="95 % interval").first, page.locator("#tip")
    for reach in (word.hover, word.tap, word.focus):
        reach()
        assert tip.text_content() == meaning
        assert tip.is_visible()
        box = tip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        word.blur()
    page.mouse.move(0, 0)
    page.locator("#cells th button").first.focus()
    assert tip.text_content() == TERMS["cell"]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance of `rgb(r, g, b)`."""
    channels = [int(part) / 255 for part in colour.strip("rgb()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    for selector in ("p", ".v-helps", ".v-inconclusive", ".question", "figcaption", "a", ".soft"):
        ink = luminance(page.eval_on_selector(selector, "e => getComputedStyle(e).color"))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 4.5, selector


def write_live(folder: Path, every: float = 0.5, minutes_ago: float = 0) -> Path:
    """Write the page of a study that is running, which reloads every so many seconds."""
    results = example(spec("full"), keep=lambda cell, seed: seed != 33)
    written = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes_ago)
    page = folder / "report.html"
    page.write_text(render_html(report_of(results), [], live_of(results, written, every)))
    return page


@pytest.fixture
def browse(report: tuple[str, Any]) -> Iterator[Callable[[Path], Any]]:
    """Open a page in a small window."""
    pages = []

    def call(file: Path) -> Any:
        pages.append(report[1].new_page(viewport={"width": 900, "height": 500}))
        pages[-1].goto(file.as_uri())
        return pages[-1]

    yield call
    for page in pages:
        page.close()


def test_a_reload_keeps_what_is_open_sorted_and_filtered_and_its_place(
    browse: Callable[[Path], Any], tmp_path: Path
) -> None:
    page = browse(write_live(tmp_path, every=3600))
    page.locator("#cells summary").first.click()
    page.get_by_role("button", name="Δ dev/mean").click()
    page.get_by_role("button", name="Δ dev/mean").click()
    page.locator("input[data-for=cells-table]").fill("siamese")
    page.evaluate("scrollTo(0, 300)")
    page.reload()
    names = column(page, 1)
    assert len(names) == 12
    assert all("siamese" in name for name in names)
    assert page.locator("#cells th[aria-sort=descending]").text_content() == "Δ dev/mean"
    assert page.evaluate("scrollY") == 300
    assert page.locator("#design").get_attribute("open") is None


def test_a_page_that_reloads_does_not_while_somebody_types(
    browse: Callable[[Path], Any], tmp_path: Path
) -> None:
    page = browse(write_live(tmp_path, every=2))
    page.evaluate("document.getElementById('cells').open = true; window.before = true")
    page.locator("input[data-for=cells-table]").focus()
    page.wait_for_timeout(2500)
    assert page.evaluate("window.before")


def test_a_page_reloads_by_itself_and_says_when_it_is_no_longer_written(
    browse: Callable[[Path], Any], tmp_path: Path
) -> None:
    page = browse(write_live(tmp_path))
    assert not page.locator("#stale").is_visible()
    write_live(tmp_path, minutes_ago=5)
    page.locator("#stale").wait_for(state="visible")
