"""The built site, a server for it and a browser to look at it with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from book.browser import chromium, launched, served
from tests.site.checks import Visit, visit

ROOT = Path(__file__).resolve().parents[2]
TOGETHER = {"test_explorers", "test_printing"}  # share what takes long to make


@pytest.fixture(scope="session")
def site() -> Path:
    html = ROOT / "_build" / "html"
    if not (html / "index.html").is_file():
        pytest.fail("there is no _build/html: run make book first")
    return html


@pytest.fixture(scope="session")
def origin(site: Path) -> Iterator[str]:
    with served(site) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        chromium()
    except FileNotFoundError as error:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def visited(browser: Browser, origin: str) -> Callable[..., Visit]:
    """Load a page of the site, once for each theme; the page before is closed."""
    seen: dict[tuple[str, str], Visit] = {}

    def load(name: str, theme: str = "light") -> Visit:
        for other in [key for key in seen if key[0] != name]:
            seen.pop(other).page.context.close()
        if (name, theme) not in seen:
            seen[name, theme] = visit(browser, origin, f"{name}.html", theme)
        loaded = seen[name, theme]
        loaded.page.set_viewport_size({"width": 1400, "height": 900})
        return loaded

    return load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one page stand together, and run on one worker, so that it is loaded once."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            name = getattr(item, "callspec", None) and item.callspec.params.get("name")
            group = f"{item.path.stem} {name or ''}".strip()
            if name or item.path.stem in TOGETHER:
                item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_group)


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else ""
