"""Ask every address outside the book that a built site links to: `make links`.

An answer of 404 or 410, or none at all after three tries, is a broken link. Others, such as 403 or
429, are a server's way to turn robots away and say nothing about the page; they are listed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from bs4 import BeautifulSoup

GONE = frozenset({404, 410})
TRIES = 3
SECONDS = 20
AGENT = "Mozilla/5.0 (link check of a book)"


def addresses(site: Path) -> dict[str, list[str]]:
    """Each address outside the site, without its anchor, and the pages that link to it."""
    found: dict[str, list[str]] = {}
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.relative_to(site).parts:
            continue
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for link in soup.find_all("a", href=True):
            address = str(link["href"]).partition("#")[0]
            where = page.relative_to(site).as_posix()
            if address.startswith("http") and where not in found.setdefault(address, []):
                found[address].append(where)
    return found


def ask(address: str, pause: float = 2.0) -> int | None:
    """The status an address answers with; None if nothing answered, three times."""
    for attempt in range(TRIES):
        try:
            with requests.get(
                address, timeout=SECONDS, headers={"User-Agent": AGENT}, stream=True
            ) as answer:
                return int(answer.status_code)
        except requests.RequestException:
            if attempt < TRIES - 1:
                time.sleep(pause * (attempt + 1))
    return None


def check(
    found: dict[str, list[str]], asked: Callable[[str], int | None] = ask
) -> tuple[list[str], list[str]]:
    """Lines about the links that are broken, and about those that could not be judged."""
    broken, unclear = [], []
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(found, pool.map(asked, found), strict=True))
    for address, status in answers.items():
        line = f"{status or 'no answer'}: {address} (in {', '.join(found[address])})"
        if status is None or status in GONE:
            broken.append(line)
        elif status >= 400:
            unclear.append(line)
    return broken, unclear


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.links", description=__doc__)
    parser.add_argument("site", type=Path, help="the built site, such as _build/html")
    site = parser.parse_args(arguments).site
    found = addresses(site)
    broken, unclear = check(found)
    for line in unclear:
        print(f"not judged: {line}")
    for line in broken:
        print(f"broken: {line}", file=sys.stderr)
    print(f"{len(found)} addresses, {len(broken)} broken, {len(unclear)} not judged")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
