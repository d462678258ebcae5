"""Each check finds what it is there to find: small broken pages, and a sound one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from book.browser import served
from book.check_pages import main as check_pages
from tests.site import checks
from tests.site.checks import Visit, visit

DOT = (
    "data:image/png;base64,"
    + base64.b64encode(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
            "1f15c4890000000d49444154789c6360000002000001e221bc33000000"
            "0049454e44ae426082"
        )
    ).decode()
)
Look = Callable[..., Visit]


@pytest.fixture
def look(browser: Browser, tmp_path: Path) -> Iterator[Look]:
    """Write a page, serve it, load it."""
    with served(tmp_path) as origin:

        def load(body: str, head: str = "", theme: str = "light") -> Visit:
            (tmp_path / "page.html").write_text(
                f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title>'
                f'<link rel="icon" href="data:,">{head}</head>'
                f"<body><main><h1>Page</h1>{body}</main></body></html>",
                encoding="utf-8",
            )
            return visit(browser, origin, "page.html", theme)

        yield load


@pytest.fixture
def mathjax(site: Path, tmp_path: Path) -> str:
    """The head that gives a page the site's own MathJax."""
    (tmp_path / "_static").symlink_to(site / "_static")
    source = (site / "notation.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>[^<]*</script>", source)
    return "".join(script for script in scripts if "mathjax" in script.lower())


def test_a_sound_page_passes(look: Look, mathjax: str, tmp_path: Path) -> None:
    seen = look(
        rf'<p>A formula <span class="math">\(\gamma\)</span> and <img src="{DOT}" alt="a dot">'
        '<a href="page.html#end">and a link</a>.</p><p id="end">End.</p>',
        head=mathjax,
    )
    assert checks.foreign_requests(seen) == []
    assert checks.loading_faults(seen) == []
    assert checks.unrendered_math(seen.page) == []
    assert checks.images_not_loaded(seen.page) == []
    assert checks.images_without_alt(seen.page) == []
    assert checks.inaccessible(seen.page) == []
    assert checks.sideways_scroll(seen.page) == []
    assert checks.broken_links(tmp_path, [tmp_path / "page.html"]) == []


def test_a_request_to_another_origin_is_reported(look: Look) -> None:
    address = "http://127.0.0.2:1/x.js"
    seen = look("", head=f'<script src="{address}"></script>')
    assert checks.foreign_requests(seen) == [address]


def test_the_browser_has_no_network(look: Look) -> None:
    seen = look("")
    port = seen.origin.rstrip("/").rsplit(":", 1)[1]
    reached = """port => Promise.all(
      ["127.0.0.1", "localhost", "example.org"]
        .map(host => fetch(`http://${host}:${port}/page.html`, {mode: "no-cors"}))
        .map(answer => answer.then(() => true, () => false)))"""
    # The server does answer to its name, which other programs can look up.
    assert seen.page.evaluate(reached, port) == [True, False, False]


@pytest.mark.parametrize(
    "body",
    [
        "<script>console.error('broken')</script>",
        "<script>undefined_name()</script>",
        '<img src="absent.png" alt="Absent">',
    ],
    ids=["console", "script", "missing file"],
)
def test_an_error_while_loading_is_reported(look: Look, body: str) -> None:
    assert checks.loading_faults(look(body)) != []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (r'<span class="math">\(\left( x\)</span>', "error"),
        (r'<span class="math">\(\frac{1}{\)</span>', "not rendered"),
        (r'<span class="math">\(\nosuchmacro\)</span>', "unknown macro"),
        (r'<span class="math">no delimiters</span>', "not rendered"),
        (r'<p class="mathjax_ignore">Two dollars: $$x$$</p>', "left as source"),
        (r'<p class="mathjax_ignore">A bracket: \(x\)</p>', "left as source"),
    ],
    ids=["syntax", "unbalanced", "unknown macro", "not rendered", "dollars", "bracket"],
)
def test_a_bad_formula_is_reported(look: Look, mathjax: str, body: str, fault: str) -> None:
    found = checks.unrendered_math(look(body, head=mathjax).page)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_an_image_without_alt_text_is_reported(look: Look) -> None:
    page = look(f'<img src="{DOT}"><img src="{DOT}" alt=" ">').page
    assert checks.images_without_alt(page) == [DOT, DOT]


def test_an_image_that_does_not_load_is_reported(look: Look) -> None:
    assert checks.images_not_loaded(look('<img src="no.png" alt="No">').page) == ["no.png"]


def test_a_plot_that_stays_light_in_the_dark_is_reported(look: Look) -> None:
    page = look(f'<div class="cell_output"><img src="{DOT}" alt="Plot"></div>', theme="dark").page
    assert checks.plots_left_light(page) == [DOT]


def test_a_page_wider_than_the_screen_is_reported(look: Look) -> None:
    wide = '<div style="width: 900px">Wide</div>'
    assert checks.sideways_scroll(look(wide).page) != []
    assert checks.sideways_scroll(look(f'<div style="overflow: auto">{wide}</div>').page) == []


def test_code_that_is_longer_than_its_box_is_reported(look: Look) -> None:
    style = "width: 200px; overflow: auto"
    box = f"<article><details><pre style='{style}'>a\n{{}}</pre></details></article>"
    page = look(box.format("long " * 20)).page
    [found] = checks.cut_code(page)
    assert found.endswith("px: " + "long " * 20)
    assert page.query_selector("details[open]") is None
    assert checks.cut_code(look(box.format("short")).page) == []


@pytest.mark.parametrize(
    "body",
    ["<button></button>", '<p style="color: #999; background: #fff">Too pale</p>'],
    ids=["nameless button", "pale text"],
)
def test_what_is_not_accessible_is_reported(look: Look, body: str) -> None:
    assert checks.inaccessible(look(body).page) != []


@pytest.mark.parametrize(
    ("texts", "faults"),
    [
        ("<p>Ink</p><p>Ink</p>", 0),
        ("<p>Ink</p><p style='color: #999'>Pale</p>", 1),
        ("<p>Ink</p><div style='background: #222'><p>Ink</p></div>", 1),
        ("<p>Ink</p><p class='pale'>Pale</p><p class='pale'>Pale</p>", 1),
        ("<p>Ink</p><div style='opacity: 0.4'><p>Ink</p></div>", 1),
    ],
    ids=["none", "its colour", "its ground", "two alike", "what it stands in"],
)
def test_pale_text_is_found_once_among_texts_that_look_alike(
    look: Look, texts: str, faults: int
) -> None:
    style = "<style>body { background: #fff; color: #333 } .pale { color: #999 }</style>"
    assert len(checks.inaccessible(look(texts, head=style).page)) == faults


def test_a_table_without_headers_is_reported(look: Look) -> None:
    page = look("<article><table><tr><td>1</td></tr></table></article>").page
    assert checks.tables_without_headers(page) == ["1"]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<h2>Two</h2>", "the first heading is not an h1"),
        ("<h1>One</h1><h1>Again</h1>", "another h1: Again"),
        ("<h1>One</h1><h3>Three</h3>", "h3 after h1: Three"),
    ],
)
def test_headings_out_of_order_are_reported(look: Look, body: str, fault: str) -> None:
    found = checks.heading_faults(look(f"<article>{body}</article>").page)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_a_focus_that_is_not_seen_is_reported(look: Look) -> None:
    link = '<a href="page.html">somewhere</a>'
    assert checks.unseen_focus(look(link).page) == []
    hidden = "<style>a:focus { outline: none }</style>"
    assert len(checks.unseen_focus(look(link, head=hidden).page)) == 1


def test_movement_that_was_not_wanted_is_reported(look: Look) -> None:
    moving = '<p style="transition: opacity 1s">Fading</p>'
    assert len(checks.movement(look(moving).page)) == 1
    assert checks.movement(look("<p>Still</p>").page) == []


def test_pale_formulas_and_cells_are_reported(look: Look) -> None:
    cell = "<article><table><tr><th>Size</th><td style='color: {}'>7</td></tr></table></article>"
    assert checks.pale(look(cell.format("#aaa")).page) == ["2.3: 7"]
    assert checks.pale(look(cell.format("#333")).page) == []


def test_the_contrast_of_colours_is_measured_where_they_are_shown(look: Look) -> None:
    page = look("<article></article>").page
    found = checks.shown_colours(page, ["#000000", "#767676", "#ffffff"], "figure")
    assert list(found.values()) == pytest.approx([21, 4.54, 1], abs=0.02)
    dim = "<style>img { filter: brightness(0.5) }</style>"
    assert checks.shown_colours(look("<article></article>", head=dim).page, ["#000000"], "figure")[
        "#000000"
    ] == pytest.approx(5.3, abs=0.1)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("absent.html", "does not exist"),
        ("#absent", "has no anchor absent"),
        ("../outside.html", "does not exist"),
        ("http://example.org/", "is not https"),
    ],
)
def test_a_broken_link_is_reported(tmp_path: Path, address: str, fault: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.html").write_text("<p>Outside</p>")
    (root / "page.html").write_text(f'<p id="here"><a href="{address}">a</a></p>')
    assert checks.broken_links(root) == [f"page.html: {address} {fault}"]


def test_a_link_that_leads_somewhere_is_not_reported(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<p id="here"><a href="#here">a</a><a href="page.html#here">b</a>'
        '<a href="https://example.org/">c</a></p>'
    )
    assert checks.broken_links(tmp_path) == []


def test_a_download_that_is_no_notebook_is_reported(look: Look, tmp_path: Path) -> None:
    sound = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    body = (
        '<p class="chapter-facts"><a class="download" href="a.ipynb">a</a></p>'
        '<a class="btn-download-source-button" href="b.ipynb">b</a>'
    )
    (tmp_path / "a.ipynb").write_text(json.dumps(sound))
    (tmp_path / "b.ipynb").write_text("<html>Not found</html>")
    found = checks.notebook_faults(look(body).page)
    assert len(found) == 1
    assert "b.ipynb" in found[0]


def test_a_page_without_a_download_is_reported(look: Look) -> None:
    assert checks.notebook_faults(look("<p>Nothing</p>").page) != []


@pytest.fixture
def small_site(tmp_path: Path) -> Path:
    """A site of three pages, and its table of contents."""
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: one\n  - file: two\n"
    )
    html = tmp_path / "html"
    html.mkdir()
    (html / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=intro.html">')
    for name in ("intro", "one", "two"):
        (html / f"{name}.html").write_text(f"<article><h1>{name}</h1></article>")
    return html


def count_pages(html: Path) -> int:
    return check_pages([str(html), "--toc", str(html.parent / "_toc.yml")])


def test_pages_that_are_all_there_are_counted(
    small_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert count_pages(small_site) == 0
    assert capsys.readouterr().out == "3 pages, all there\n"


def test_missing_and_empty_pages_are_named(
    small_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_site / "one.html").unlink()
    (small_site / "two.html").write_text("<article></article>")
    (small_site / "index.html").unlink()
    assert count_pages(small_site) == 1
    assert (
        capsys.readouterr().err == "index.html is missing\none.html is missing\ntwo.html is empty\n"
    )
