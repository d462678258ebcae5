"""The printed book: sheets, numbers, contents, outline, links and mathematics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from pypdf import PdfReader

from book import printing

NAMES = ["intro", "chapters/05_algorithm_1", "notation"]
CAPTIONS = {"chapters/05_algorithm_1": "A part"}


@pytest.fixture(scope="module")
def printed(site: Path, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    # A browser of its own: Playwright's is one for each thread, and `browser` is in this one.
    out = tmp_path_factory.mktemp("print") / "book.pdf"
    with ThreadPoolExecutor(1) as pool:
        pool.submit(printing.book, site, NAMES, CAPTIONS).result().write(out)
    return PdfReader(out)


def titles(outline: list, level: int = 0) -> list[tuple[int, str]]:
    found = []
    for entry in outline:
        if isinstance(entry, list):
            found += titles(entry, level + 1)
        else:
            found.append((level, entry.title))
    return found


def test_the_outline_has_parts_pages_and_sections(printed: PdfReader) -> None:
    found = titles(printed.outline)
    assert (0, "A part") in found
    assert (1, "5 · Algorithm 1") in found
    assert (2, "The four lines") in found


def test_the_list_of_contents_names_the_sheet_that_a_page_begins_on(printed: PdfReader) -> None:
    contents = printed.pages[1].extract_text()
    begins = {
        entry.title: printed.get_destination_page_number(entry) + 1
        for entry in _flat(printed.outline)
    }
    for title in ("5 · Algorithm 1", "Notation"):
        line = contents[contents.index(title) + len(title) :].split()
        assert int(line[0]) == begins[title]


def _flat(outline: list) -> list:
    return [e for entry in outline for e in (_flat(entry) if isinstance(entry, list) else [entry])]


def test_each_sheet_but_the_title_has_its_number(printed: PdfReader) -> None:
    for number, sheet in enumerate(printed.pages, start=1):
        last = sheet.extract_text().split()[-1]
        assert (last == str(number)) == (number > 1)


def test_links_between_pages_stay_in_the_book(printed: PdfReader) -> None:
    inside = 0
    for sheet in printed.pages:
        for reference in sheet.get("/Annots") or ():
            link = reference.get_object()
            inside += "/Dest" in link
            assert "127.0.0.1" not in str((link.get("/A") or {}).get("/URI", ""))
    assert inside > 10


def test_mathematics_is_set_and_nothing_is_folded(printed: PdfReader) -> None:
    text = "\n".join(sheet.extract_text() for sheet in printed.pages)
    assert "\\(" not in text
    assert "\\frac" not in text
    assert "Proof" in text
    assert "Solution" in text


def test_without_a_browser_it_says_what_to_install(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CHROMIUM", "/no/such/chromium")
    assert printing.main([str(site), str(tmp_path / "book.pdf")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("make pdf: no browser: looked for CHROMIUM=/no/such/chromium.")
    assert "apt-get install chromium" in said
    assert not (tmp_path / "book.pdf").exists()
