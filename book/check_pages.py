"""Count the pages of a built site: each page of the table of contents must be there, with text.

``python -m book.check_pages _build/html`` prints how many there are, or names each one that is
missing or empty and exits with 1. A build can end well without having written a page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml

TOC = Path(__file__).resolve().parent.parent / "_toc.yml"

_ARTICLE = re.compile(r"<article\b.*?</article>", re.S)
_TAG = re.compile(r"<[^>]*>")


def toc_pages(toc: Path = TOC) -> list[str]:
    """Return the document names of a ``_toc.yml``, in reading order."""
    return [str(name) for name in parse_toc_yaml(toc)]


def faults(html: Path, toc: Path = TOC) -> list[str]:
    """Return one line for each page that is missing from ``html`` or has no text."""
    found = []
    for name in dict.fromkeys(["index", *toc_pages(toc)]):
        page = html / f"{name}.html"
        if not page.is_file():
            found.append(f"{name}.html is missing")
        elif not _has_text(page, name):
            found.append(f"{name}.html is empty")
    return found


def _has_text(page: Path, name: str) -> bool:
    source = page.read_text(encoding="utf-8")
    if name == "index" and "http-equiv" in source.lower() and "refresh" in source.lower():
        return True  # Jupyter Book's index sends the reader to the first page
    article = _ARTICLE.search(source)
    return bool(article and _TAG.sub("", article.group()).strip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.check_pages", description=__doc__)
    parser.add_argument("html", type=Path, help="the built site, such as _build/html")
    parser.add_argument("--toc", type=Path, default=TOC, help="the table of contents")
    options = parser.parse_args(arguments)
    found = faults(options.html, options.toc)
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        return 1
    print(f"{len(toc_pages(options.toc))} pages, all there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
