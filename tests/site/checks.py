"""What a page of the site must satisfy, as functions that return a list of faults.

An empty list is a pass. `test_site.py` applies them to every page of the book, and `test_gates.py`
to small broken pages, to show that each of them finds what it is there to find.
"""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import Browser, Page

from book.browser import served
from book.weigh import violations

__all__ = ["served"]

PLOTS = ".cell_output img, img.figure-plot, .figure-plot img"


@dataclass
class Visit:
    """A page that has been loaded, and what happened while it loaded."""

    page: Page
    origin: str
    requests: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)
    script_errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def visit(browser: Browser, origin: str, path: str, theme: str = "light") -> Visit:
    """Load a page in a fresh context, as a reader who has chosen `theme`; wait for MathJax."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
    )
    page = context.new_page()
    seen = Visit(page, origin)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("requestfailed", lambda request: seen.failures.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: seen.script_errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            seen.console_errors.append(message.text) if message.type == "error" else None
        ),
    )
    page.on(
        "response",
        lambda response: (
            seen.failures.append(f"{response.status}: {response.url}")
            if response.status >= 400
            else None
        ),
    )
    page.goto(origin + path, wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => true)")
    for image in page.query_selector_all("img[loading=lazy]"):
        image.scroll_into_view_if_needed()
    return seen


def foreign_requests(seen: Visit) -> list[str]:
    """Requests that left the origin."""
    own = (seen.origin, "data:", "blob:")
    return [url for url in seen.requests if not url.startswith(own)]


def loading_faults(seen: Visit) -> list[str]:
    """Errors of the console and of scripts, and responses that failed."""
    return [*seen.console_errors, *seen.script_errors, *seen.failures]


def unrendered_math(page: Page) -> list[str]:
    """Formulas without a rendering, with an error in it, or left as source in the text."""
    return list(
        page.evaluate(
            r"""() => {
              const faults = [];
              for (const node of document.querySelectorAll(".math")) {
                if (!node.querySelector("mjx-container")) {
                  faults.push("not rendered: " + node.textContent.trim());
                }
              }
              for (const formula of document.querySelectorAll("mjx-container")) {
                const source = formula.parentElement.getAttribute("data-tex") ?? "";
                if (formula.querySelector("mjx-merror, [data-mjx-error]")) {
                  faults.push("error: " + formula.textContent.trim() + source);
                }
                // An unknown macro is no error to MathJax: it prints its name in red.
                for (const text of formula.querySelectorAll("mjx-mtext, mtext")) {
                  if (text.style?.color === "red" || text.getAttribute("mathcolor") === "red") {
                    faults.push("unknown macro: " + formula.textContent.trim());
                    break;
                  }
                }
              }
              const apart = "pre, code, script, style, mjx-container, .math";
              const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
              while (walker.nextNode()) {
                const text = walker.currentNode;
                if (text.parentElement.closest(apart)) continue;
                if (/\$\$|\\\(|\\\[/.test(text.data)) {
                  faults.push("left as source: " + text.data.trim());
                }
              }
              return faults;
            }"""
        )
    )


def images_without_alt(page: Page) -> list[str]:
    """Images without a text for those who do not see them."""
    return list(
        page.eval_on_selector_all(
            "img", "all => all.filter(i => !i.alt.trim()).map(i => i.getAttribute('src'))"
        )
    )


def tables_without_headers(page: Page) -> list[str]:
    """Tables of data without a header cell, by their first words."""
    return list(
        page.eval_on_selector_all(
            "article table:not([role=presentation])",
            "all => all.filter(t => !t.querySelector('th')).map(t => t.innerText.slice(0, 60))",
        )
    )


def heading_faults(page: Page) -> list[str]:
    """Headings of the article: the first is the only h1, and no level is left out."""
    levels = page.eval_on_selector_all(
        "article :is(h1, h2, h3, h4, h5, h6)",
        "all => all.map(h => [Number(h.tagName[1]), h.innerText.trim().slice(0, 60)])",
    )
    faults = []
    if [level for level, _ in levels[:1]] != [1]:
        faults.append(f"the first heading is not an h1: {levels[:1]}")
    faults += [f"another h1: {text}" for level, text in levels[1:] if level == 1]
    faults += [
        f"h{level} after h{before}: {text}"
        for (before, _), (level, text) in pairwise(levels)
        if level > before + 1
    ]
    return faults


def unseen_focus(page: Page, most: int = 40) -> list[str]:
    """What the Tab key reaches and does not mark: no outline, no shadow, no other change."""
    page.evaluate("() => { window.scrollTo(0, 0); document.activeElement?.blur(); }")
    faults = []
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
              const e = document.activeElement;
              if (!e || e === document.body) return null;
              const look = () => ["outlineStyle", "outlineWidth", "boxShadow", "borderColor",
                "backgroundColor", "textDecorationLine"].map(k => getComputedStyle(e)[k]).join();
              const style = getComputedStyle(e);
              const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
              if (ring || style.boxShadow !== "none") return "";
              const focused = look();
              e.blur();
              const same = look() === focused;
              e.focus();
              return same ? e.outerHTML.slice(0, 100) : "";
            }"""
        )
        if found is None:
            break
        if found:
            faults.append(found)
    return faults


def movement(page: Page) -> list[str]:
    """What still moves for a reader who has asked for reduced motion."""
    page.emulate_media(reduced_motion="reduce")
    found = page.evaluate(
        """() => {
          const long = list => list.split(",").some(t => parseFloat(t) > 0.01);
          const faults = [...document.querySelectorAll("body, body *")].filter(e => {
            const s = getComputedStyle(e);
            return long(s.transitionDuration) ||
              (s.animationName !== "none" && long(s.animationDuration));
          }).map(e => e.outerHTML.slice(0, 100));
          if (getComputedStyle(document.documentElement).scrollBehavior === "smooth") {
            faults.push("the page scrolls smoothly");
          }
          return faults.slice(0, 5);
        }"""
    )
    page.emulate_media(reduced_motion="no-preference")
    return list(found)


def pale(page: Page, least: float = 4.5) -> list[str]:
    """Formulas and table cells whose contrast with what is behind them is below `least`."""
    return list(
        page.evaluate(
            r"""least => {
              const parts = c => (c.match(/[\d.]+/g) ?? []).map(Number);
              const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
              const behind = e => {
                for (; e; e = e.parentElement) {
                  const c = parts(getComputedStyle(e).backgroundColor);
                  if (c.length && (c.length < 4 || c[3] > 0.99)) return c;
                }
                return [255, 255, 255];
              };
              return [...document.querySelectorAll("article mjx-container, article :is(th, td)")]
                .filter(e => e.offsetWidth > 0)
                .map(e => {
                  const a = light(parts(getComputedStyle(e).color)), b = light(behind(e));
                  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e];
                })
                .filter(([ratio]) => ratio < least)
                .map(([ratio, e]) => ratio.toFixed(1) + ": " + e.textContent.trim().slice(0, 40))
                .slice(0, 5);
            }""",
            least,
        )
    )


def icons(page: Page) -> set[int]:
    """The code points of the icon font that the page shows beside its elements."""
    found = page.evaluate(
        """() => [...document.querySelectorAll("body *")].flatMap(e =>
          ["::before", "::after"].map(part => getComputedStyle(e, part))
            .filter(style => style.fontFamily.includes("Awesome"))
            .map(style => style.content)).join("")"""
    )
    return {ord(character) for character in found if "\ue000" <= character <= "\uf8ff"}


SWATCH = 20  # pixels


def shown_colours(page: Page, colours: Sequence[str], inside: str) -> dict[str, float]:
    """The contrast of colours with white, as the page shows both in a figure or in an explorer.

    Args:
        page: a page of the site, in one of its themes.
        colours: as in `#0072B2`, of what is drawn on white.
        inside: "figure" for a PNG like a cell's figure, "explorer" for SVG like a chart's.
    """
    blocks = ["#ffffff", *colours]
    if inside == "figure":
        picture = Image.new("RGB", (SWATCH * len(blocks), SWATCH))
        for k, colour in enumerate(blocks):
            picture.paste(colour, (k * SWATCH, 0, (k + 1) * SWATCH, SWATCH))
        file = io.BytesIO()
        picture.save(file, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        body = f'<div class="cell_output"><img id="swatches" alt="Swatches" src="{source}"></div>'
    else:
        rows = "".join(
            f'<rect x="{k * SWATCH}" width="{SWATCH}" height="{SWATCH}" fill="{colour}"/>'
            for k, colour in enumerate(blocks)
        )
        size = f'width="{SWATCH * len(blocks)}" height="{SWATCH}"'
        body = f'<div class="explorer-chart"><svg id="swatches" {size}>{rows}</svg></div>'
    page.evaluate(
        """async body => {
          const place = document.createElement("section");
          place.innerHTML = body;
          document.querySelector("article").prepend(place);
          await document.querySelector("img#swatches")?.decode();
        }""",
        body,
    )
    shot = Image.open(io.BytesIO(page.locator("#swatches").screenshot())).convert("RGB")
    page.evaluate("() => document.querySelector('#swatches').closest('section').remove()")
    light = [
        _luminance(shot.getpixel((k * SWATCH + SWATCH // 2, SWATCH // 2)))
        for k in range(len(blocks))
    ]
    return {
        colour: (max(light[0], value) + 0.05) / (min(light[0], value) + 0.05)
        for colour, value in zip(colours, light[1:], strict=True)
    }


def _luminance(pixel: Any) -> float:
    """Relative luminance, as WCAG defines it."""
    linear = [
        v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4
        for v in (channel / 255 for channel in pixel[:3])
    ]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def images_not_loaded(page: Page) -> list[str]:
    """Images that have no pixels."""
    return list(
        page.eval_on_selector_all(
            "img",
            "all => all.filter(i => !i.complete || !i.naturalWidth)"
            ".map(i => i.getAttribute('src'))",
        )
    )


def plots_left_light(page: Page) -> list[str]:
    """Plots that the dark theme shows on a light ground."""
    return list(
        page.eval_on_selector_all(
            PLOTS,
            """all => all.filter(i => {
              const style = getComputedStyle(i);
              return !style.filter.includes("invert(1)") || style.mixBlendMode !== "screen";
            }).map(i => i.getAttribute("src"))""",
        )
    )


def sideways_scroll(page: Page, width: int = 400) -> list[str]:
    """What makes the page wider than a screen of `width`; boxes that scroll are well."""
    page.set_viewport_size({"width": width, "height": 900})
    excess = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    if excess <= 0:
        return []
    culprits = page.evaluate(
        """() => [...document.body.querySelectorAll("*")]
          .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
          .slice(0, 5)
          .map(e => e.tagName.toLowerCase() + ": " + e.textContent.trim().slice(0, 60))"""
    )
    return [f"{excess} pixels too wide", *culprits]


def cut_code(page: Page) -> list[str]:
    """Code and printed text with lines longer than their box, folded boxes opened: they scroll."""
    found = page.evaluate(
        """() => {
          const closed = [...document.querySelectorAll("details:not([open])")];
          const folded = [...document.querySelectorAll(".toggle-hidden")];
          closed.forEach(box => { box.open = true; });
          folded.forEach(box => box.classList.remove("toggle-hidden"));
          const cut = [...document.querySelectorAll("article pre")]
            .filter(box => box.offsetWidth && box.scrollWidth > box.clientWidth)
            .map(box => `${box.scrollWidth - box.clientWidth} px: ` + box.innerText.split("\\n")
              .reduce((long, line) => line.length > long.length ? line : long, ""));
          closed.forEach(box => { box.open = false; });
          folded.forEach(box => box.classList.add("toggle-hidden"));
          return cut;
        }"""
    )
    return list(found)


def inaccessible(page: Page, within: str | None = None) -> list[str]:
    """What axe finds serious or critical, on the page or in a part of it."""
    return [
        f"{violation['impact']} {violation['id']}: {node['target']} {node.get('failureSummary')}"
        for violation in violations(page, within)
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


def broken_links(root: Path, pages: Iterable[Path] | None = None) -> list[str]:
    """Links, images, scripts and styles below `root` that lead nowhere; anchors are followed.

    An address on another host is not fetched; it must be https.
    """
    faults = []
    if pages is None:  # what is below _static belongs to the theme and is no page
        pages = (page for page in sorted(root.rglob("*.html")) if "_static" not in page.parts)
    for page in pages:
        where = page.relative_to(root)
        for tag in _parse(page).find_all(["a", "link", "img", "script", "iframe"]):
            address = tag.get("href") or tag.get("src")
            if isinstance(address, str) and (fault := _link_fault(root, page, address)):
                faults.append(f"{where}: {address} {fault}")
    return faults


def _link_fault(root: Path, page: Path, address: str) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in {"mailto", "data", "javascript"}:
        return None
    if parts.scheme or parts.netloc:
        return None if parts.scheme == "https" else "is not https"
    path = unquote(parts.path)
    base = root if path.startswith("/") else page.parent
    target = Path(os.path.normpath(base / path.lstrip("/"))) if path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_file() or not target.is_relative_to(root):
        return "does not exist"
    fragment = unquote(parts.fragment)
    if fragment and target.suffix == ".html" and fragment not in _anchors(target):
        return f"has no anchor {fragment}"
    return None


@functools.lru_cache(maxsize=64)
def _parse(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@functools.lru_cache(maxsize=64)
def _anchors(page: Path) -> frozenset[str]:
    soup = _parse(page)
    ids = {str(tag["id"]) for tag in soup.find_all(id=True)}
    return frozenset(ids | {str(tag["name"]) for tag in soup.find_all("a", attrs={"name": True})})


def notebook_faults(page: Page) -> list[str]:
    """Click each link that offers the notebook; say which gives something else."""
    links = page.query_selector_all(
        "p.chapter-facts a.download, a.btn-download-source-button[href$='.ipynb']"
    )
    if len(links) < 2:
        return [f"{len(links)} links to the notebook; below the title and in the menu makes 2"]
    faults = []
    for link in links:
        address = page.evaluate("a => a.href", link)
        response = page.request.get(address)
        try:
            nbformat.validate(nbformat.reads(response.text(), as_version=4))
        except Exception as error:
            faults.append(f"{address}: {type(error).__name__}: {error}")
    return faults
