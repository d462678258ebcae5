"""Every page of the table of contents, as a browser shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from fontTools import ttLib
from playwright.sync_api import Browser

from bn_core.experiments import records, registry
from bn_core.lab.plots import COLOURS, FAINT, INK
from book.check_pages import faults, toc_pages
from book.weigh import (
    MOST_BYTES,
    MOST_SECONDS_TO_MATHEMATICS,
    MOST_SECONDS_TO_PAINT,
    quickest,
    weigh,
)
from tests.site import checks
from tests.site.checks import PLOTS, Visit

PAGES = toc_pages()
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]
THEMES = ["light", "dark"]

every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)
Visited = Callable[..., Visit]


def test_every_page_of_the_contents_was_built(site: Path) -> None:
    assert faults(site) == []


@every_page
def test_no_request_leaves_the_origin(visited: Visited, name: str) -> None:
    assert checks.foreign_requests(visited(name)) == []


@every_page
def test_loads_without_an_error(visited: Visited, name: str) -> None:
    assert checks.loading_faults(visited(name)) == []


@every_page
def test_mathematics_is_rendered(visited: Visited, name: str) -> None:
    assert checks.unrendered_math(visited(name).page) == []


@every_page
def test_images_load_and_are_described(visited: Visited, name: str) -> None:
    page = visited(name).page
    assert checks.images_not_loaded(page) == []
    assert checks.images_without_alt(page) == []


@every_page
def test_fits_a_phone(visited: Visited, name: str) -> None:
    assert checks.sideways_scroll(visited(name).page, width=400) == []


@every_page
def test_code_is_seen_whole_on_a_wide_screen(visited: Visited, name: str) -> None:
    assert checks.cut_code(visited(name).page) == []


@every_page
@pytest.mark.parametrize("theme", THEMES)
def test_is_accessible(visited: Visited, name: str, theme: str) -> None:
    page = visited(name, theme).page
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    assert checks.inaccessible(page) == []


@every_page
def test_headings_and_tables_are_in_order(visited: Visited, name: str) -> None:
    page = visited(name).page
    assert checks.heading_faults(page) == []
    assert checks.tables_without_headers(page) == []


@every_page
@pytest.mark.parametrize("theme", THEMES)
def test_formulas_and_tables_stand_out(visited: Visited, name: str, theme: str) -> None:
    assert checks.pale(visited(name, theme).page) == []


@every_page
def test_the_keyboard_shows_where_it_is(visited: Visited, name: str) -> None:
    assert checks.unseen_focus(visited(name).page) == []


@every_page
def test_every_icon_is_in_the_font(visited: Visited, site: Path, name: str) -> None:
    [font] = site.glob("_static/vendor/fontawesome/*/webfonts/*.woff2")
    shown = checks.icons(visited(name).page)
    assert shown  # such as that of the search
    assert shown <= set(ttLib.TTFont(font).getBestCmap())


@every_page
def test_nothing_moves_for_those_who_do_not_want_it(visited: Visited, name: str) -> None:
    assert checks.movement(visited(name).page) == []


@every_page
def test_is_light_and_quick(
    browser: Browser,
    origin: str,
    site: Path,
    name: str,
    record_property: Callable[[str, object], None],
) -> None:
    address = f"{origin}{name}.html"
    weight, first = weigh(browser, address)
    times = quickest(browser, address, first)
    record_property("kB", weight.total // 1000)
    record_property("kB sent", weight.transferred // 1000)
    record_property("seconds to paint", round(times.paint, 2))
    record_property("to mathematics", round(times.mathematics, 2))
    assert weight.total <= MOST_BYTES
    assert weight.transferred <= MOST_BYTES
    assert (weight.vega > 0) == ('class="explorer"' in (site / f"{name}.html").read_text())
    assert times.paint < MOST_SECONDS_TO_PAINT
    assert times.mathematics < MOST_SECONDS_TO_MATHEMATICS


CLAIMS = [
    (registry.CHAPTERS[each.experiment], each.claims[-1].statement)
    for each in records.summaries(Path(__file__).parents[2] / "results")
    if each.claims
]


def found_by_search(browser: Browser, origin: str, sought: str) -> list[str]:
    """The addresses that the site's search lists."""
    tab = browser.new_page()
    tab.goto(f"{origin}search.html?q={quote_plus(sought)}")
    # The list grows while it is read; the summary is written when it is whole.
    tab.wait_for_function("() => document.querySelector('.search-summary')?.innerText.trim()")
    found = tab.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    tab.close()
    return list(found)


@pytest.mark.parametrize(
    ("sought", "page"),
    [
        ("saturation", "glossary.html"),
        ("x_hat", "notation.html"),
        ("gamma", "notation.html"),
        ("batch_norm_backward", "api.html#bn_core.algorithms.batch_norm_backward"),
        ("moving average", "chapters/07_algorithm_2.html"),
    ],
    ids=["term", "symbol", "symbol by name", "function", "words"],
)
def test_search_finds(browser: Browser, origin: str, sought: str, page: str) -> None:
    found = found_by_search(browser, origin, sought)
    assert any(page in address for address in found), found


@pytest.mark.parametrize(("chapter", "statement"), CLAIMS)
def test_search_finds_a_claim_by_its_words(
    browser: Browser, origin: str, chapter: str, statement: str
) -> None:
    words = " ".join(re.findall(r"\b[a-z]{5,}\b", statement)[:5])
    found = found_by_search(browser, origin, words)
    assert any(f"{chapter}.html" in address for address in found), (words, found)
    assert any("scoreboard.html" in address for address in found), (words, found)


@every_chapter
def test_a_chapter_links_its_terms(visited: Visited, name: str) -> None:
    assert visited(name).page.query_selector("article a[href*='glossary.html#term-']")


@every_page
def test_says_its_language(visited: Visited, name: str) -> None:
    assert visited(name).page.get_attribute("html", "lang") == "en"


@every_page
def test_plots_are_dark_in_the_dark_theme(visited: Visited, name: str) -> None:
    assert checks.plots_left_light(visited(name, "dark").page) == []


@pytest.mark.parametrize("inside", ["figure", "explorer"])
@pytest.mark.parametrize("theme", THEMES)
def test_what_figures_draw_stands_out(visited: Visited, theme: str, inside: str) -> None:
    lines, words = [*COLOURS.values(), FAINT], [INK]
    page = visited(CHAPTERS[2], theme).page
    found = checks.shown_colours(page, [*lines, *words], inside)
    assert {colour: ratio for colour, ratio in found.items() if ratio < 3} == {}
    assert {colour: found[colour] for colour in words if found[colour] < 4.5} == {}


@every_chapter
def test_a_chapter_has_plots(visited: Visited, name: str) -> None:
    assert visited(name).page.query_selector(PLOTS)


@every_chapter
def test_a_chapter_says_what_it_costs_to_read_and_run(visited: Visited, name: str) -> None:
    line = visited(name).page.inner_text("h1 + p.chapter-facts")
    assert "to read" in line
    assert "to run on" in line


@every_chapter
def test_the_notebook_can_be_downloaded(visited: Visited, name: str) -> None:
    page = visited(name).page
    assert checks.notebook_faults(page) == []
    with page.expect_download() as download:
        page.click("p.chapter-facts a.download")
    assert download.value.suggested_filename == f"{name.removeprefix('chapters/')}.ipynb"


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    assert checks.broken_links(site) == []
