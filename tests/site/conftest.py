"""The built site, a server for it and a browser to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.site.checks import Visit, served, visit

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        message = f"no browser: set CHROMIUM or install one of {', '.join(names)}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visited(browser: Browser, origin: str) -> Callable[..., Visit]:
    """Load a page of the site, once for each theme."""
    seen: dict[tuple[str, str], Visit] = {}

    def load(name: str, theme: str = "light") -> Visit:
        if (name, theme) not in seen:
            seen[name, theme] = visit(browser, origin, f"{name}.html", theme)
        loaded = seen[name, theme]
        loaded.page.set_viewport_size({"width": 1400, "height": 900})
        return loaded

    return load
