"""Weigh the pages of a built site and time them in a browser: `make weigh`.

For each page: bytes of what a reader's browser fetches, MathJax apart; how soon something is
painted and the mathematics is set; and what axe objects to. The table is printed and stored.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response

from book.browser import launched, served
from book.check_pages import toc_pages

THEMES = ("light", "dark")
KINDS = ("document", "stylesheet", "script", "image", "font", "other")
MATHJAX = "/_static/mathjax/"
VEGA = "/_static/vega.js"

# What is promised of each page, without MathJax, from localhost on two cores: of its files as they
# are on the disk without Vega, which comes when a reader gets near an explorer; and of what is sent
# with Vega, packed as a web server packs it.
MOST_BYTES = 1_000_000
MOST_SECONDS_TO_PAINT = 1.0
MOST_SECONDS_TO_MATHEMATICS = 2.5

# Types that GitHub Pages, like any web server that is set up well, sends gzipped.
TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")

_SETTLED = """async () => {
  const until = async (what, come) => {
    const latest = performance.now() + 60000;
    while (!come()) {
      if (performance.now() > latest) throw new Error(`${what} did not come within a minute`);
      await new Promise(go => setTimeout(go, 5));
    }
  };
  const typesetting = () => window.MathJax?.startup?.promise;
  if (document.querySelector("script[src*='/mathjax/']")) await until("MathJax", typesetting);
  await typesetting();
  const mathematics = performance.now() / 1000;
  const painted = () => performance.getEntriesByName("first-contentful-paint")[0];
  await until("the first paint", painted);
  return {mathematics, paint: painted().startTime / 1000};
}"""


# Marks each text that looks like an earlier one: it and all that it stands in have the same names,
# classes, colours, sizes and places.
_MARK_ALIKE = """() => {
  const shown = ["color", "backgroundColor", "backgroundImage", "fontSize", "fontWeight", "opacity",
    "filter", "mixBlendMode", "position", "textShadow", "visibility", "display"];
  const looks = new Map([[null, ""]]);
  const look = element => {
    if (!looks.has(element)) {
      const style = getComputedStyle(element);
      const own = [element.localName, element.className, ...shown.map(name => style[name])];
      looks.set(element, `${look(element.parentElement)}/${own}`);
    }
    return looks.get(element);
  };
  const seen = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE &&
      node.data.trim());
    if (!text) continue;
    element.toggleAttribute("data-alike", seen.has(look(element)));
    seen.add(look(element));
  }
}"""
_ONE_OF_A_KIND = """
axe.configure({rules: [{id: "color-contrast", selector: ":not([data-alike])"}]});"""


@dataclass(frozen=True)
class Weight:
    """Bytes of the files that a page loads.

    Attributes:
        unpacked: as they are on the disk, by kind, without MathJax and Vega.
        mathjax: those of MathJax.
        vega: that of Vega, 0 on a page without an explorer.
        transferred: all but MathJax, packed.
    """

    unpacked: Mapping[str, int]
    mathjax: int
    vega: int
    transferred: int

    @property
    def total(self) -> int:
        """Bytes without MathJax and Vega, as they are on the disk."""
        return sum(self.unpacked.values())


@dataclass(frozen=True)
class Times:
    """Seconds from the request to the first paint and to the end of typesetting."""

    paint: float
    mathematics: float


def weigh(browser: Browser, address: str) -> tuple[Weight, Times]:
    """Load a page, time it, and count what came with all its images and explorers.

    Args:
        browser: a browser; the page gets a context of its own, so nothing is in a cache.
        address: the page's.
    """
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(address, wait_until="commit")
    page.wait_for_load_state("domcontentloaded")
    times = page.evaluate(_SETTLED)
    page.wait_for_load_state("load")
    for image in page.query_selector_all("img[loading=lazy]"):
        image.scroll_into_view_if_needed()
    if page.query_selector(".explorer"):
        page.eval_on_selector(
            ".cell:has(+ .explorer), .explorer", "part => part.scrollIntoView({block: 'center'})"
        )
        page.wait_for_selector(".explorer[data-ready]")
    page.wait_for_load_state("networkidle")
    unpacked = dict.fromkeys(KINDS, 0)
    mathjax = vega = transferred = 0
    for answer in answers:
        if not answer.url.startswith("http") or not answer.ok:
            continue
        body = answer.body()
        path = urlsplit(answer.url).path
        if MATHJAX in path:
            mathjax += len(body)
            continue
        if path.endswith(VEGA):
            vega += len(body)
        else:
            kind = answer.request.resource_type
            unpacked[kind if kind in unpacked else "other"] += len(body)
        packed = answer.headers.get("content-type", "").startswith(TEXT)
        transferred += len(gzip.compress(body, 6)) if packed else len(body)
    context.close()
    return Weight(unpacked, mathjax, vega, transferred), Times(times["paint"], times["mathematics"])


def time_page(browser: Browser, address: str) -> Times:
    """Load a page into an empty cache and time it."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(address, wait_until="commit")
    page.wait_for_load_state("domcontentloaded")
    found = page.evaluate(_SETTLED)
    context.close()
    return Times(found["paint"], found["mathematics"])


def quickest(browser: Browser, address: str, first: Times, tries: int = 5) -> Times:
    """The best of several loads: other work on the machine only ever makes a page slower.

    It stops at the first that keeps what is promised.

    Args:
        browser: a browser.
        address: the page's.
        first: the times of a load that has been made.
        tries: how many more to make at most.
    """
    best = first
    for _ in range(tries):
        if best.paint < MOST_SECONDS_TO_PAINT and best.mathematics < MOST_SECONDS_TO_MATHEMATICS:
            break
        again = time_page(browser, address)
        best = Times(min(best.paint, again.paint), min(best.mathematics, again.mathematics))
    return best


def violations(page: Page, within: str | None = None) -> list[dict[str, Any]]:
    """What axe objects to on a loaded page, or in a part of it, of every impact.

    Axe asks of every text what lies behind it, which takes seconds on a page of ten thousand
    elements. The contrast of texts that look alike, in all that the style sheets say of them and of
    what they stand in, is the same: it is asked once. All other rules see every element.
    """
    page.evaluate(_MARK_ALIKE)
    # preload: axe would fetch the style sheets anew, and look for an @import in the wrong place.
    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe(AXE_SCRIPT + _ONE_OF_A_KIND).run(page, context=within, options=options)
    listed: list[dict[str, Any]] = found.response["violations"]
    return listed


def count_violations(browser: Browser, address: str) -> dict[str, int]:
    """Elements that axe objects to in both themes together, by impact."""
    counts = dict.fromkeys(("critical", "serious", "moderate", "minor"), 0)
    for theme in THEMES:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        page = context.new_page()
        page.goto(address, wait_until="load")
        page.evaluate(_SETTLED)
        for violation in violations(page):
            counts[violation["impact"]] += len(violation["nodes"])
        context.close()
    return counts


def measure(site: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each page.

    Args:
        site: the built site.
        names: document names, such as `chapters/05_algorithm_1`.
    """
    rows = []
    with served(site) as origin, launched() as browser:
        for name in names:
            address = f"{origin}{name}.html"
            weight, first = weigh(browser, address)
            times = quickest(browser, address, first)
            rows.append(
                {
                    "page": name,
                    "bytes": weight.total,
                    "transferred": weight.transferred,
                    "mathjax": weight.mathjax,
                    "vega": weight.vega,
                    "kinds": dict(weight.unpacked),
                    **{key: round(value, 2) for key, value in asdict(times).items()},
                    "violations": count_violations(browser, address),
                }
            )
    return rows


def say(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for a terminal."""
    lines = [
        f"{'page':<38}{'kB':>6}{'sent':>6}{'html':>6}{'css':>6}{'js':>6}{'img':>6}{'font':>6}"
        f"{'vega':>6}{'mathjax':>9}{'paint s':>9}{'math s':>8}{'axe':>5}"
    ]
    for row in rows:
        kinds = row["kinds"]
        sizes = (
            row["bytes"],
            row["transferred"],
            *(kinds[kind] for kind in ("document", "stylesheet", "script", "image", "font")),
        )
        lines.append(
            f"{row['page']:<38}"
            + "".join(f"{size / 1000:>6.0f}" for size in sizes)
            + f"{row['vega'] / 1000:>6.0f}{row['mathjax'] / 1000:>9.0f}"
            f"{row['paint']:>9.2f}{row['mathematics']:>8.2f}"
            f"{sum(row['violations'].values()):>5}"
        )
    return "\n".join(lines)


def _revision() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.weigh", description=__doc__)
    parser.add_argument("site", type=Path, help="the built site, such as _build/html")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file to store the table in")
    options = parser.parse_args(arguments)
    try:
        rows = measure(options.site, toc_pages())
    except FileNotFoundError as error:
        print(f"book.weigh: {error}", file=sys.stderr)
        return 1
    print(say(rows))
    if options.out is not None:
        record = {
            "date": datetime.now(UTC).date().isoformat(),
            "revision": _revision(),
            "pages": rows,
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
