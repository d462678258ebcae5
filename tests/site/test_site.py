"""Every page of the table of contents, as a browser shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from book.check_pages import faults, toc_pages
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
@pytest.mark.parametrize("theme", THEMES)
def test_is_accessible(visited: Visited, name: str, theme: str) -> None:
    page = visited(name, theme).page
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    assert checks.inaccessible(page) == []


@every_page
def test_says_its_language(visited: Visited, name: str) -> None:
    assert visited(name).page.get_attribute("html", "lang") == "en"


@every_page
def test_plots_are_dark_in_the_dark_theme(visited: Visited, name: str) -> None:
    assert checks.plots_left_light(visited(name, "dark").page) == []


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
