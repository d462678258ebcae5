"""Print the built site as one PDF: `make pdf`.

Each page of the contents is printed by headless Chromium, mathematics set and folded solutions
open, without the code that is folded away. The sheets are joined behind a title and a list of
contents, numbered, and given an outline. Links between pages of the book lead to the sheet they
mean.
"""

from __future__ import annotations

import argparse
import functools
import html
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, PdfMargins
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject, NumberObject
from sphinx_external_toc.parsing import parse_toc_yaml

from book.browser import launched, served
from book.check_pages import TOC, toc_pages

PAPER = "A4"
MARGINS: PdfMargins = {"top": "20mm", "bottom": "20mm", "left": "20mm", "right": "20mm"}
TITLE = "Batch Normalization, by experiment"
NOTE = (
    "Printed on {date} from the pages of the book.<br>Code that a page folds away, such as that of "
    "figures, is in the notebooks;<br>on the pages the explorers can be operated."
)

_EDGE = (
    '<div style="width: 100%; margin: 0 20mm; font: 8pt sans-serif; color: #444; '
    'text-align: right">{}</div>'
)

_FRONT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: system-ui, "Liberation Sans", sans-serif; color: #1d2329; }}
h1 {{ margin: 80mm 0 10mm; font-size: 30pt; text-align: center; text-wrap: balance; }}
p {{ text-align: center; break-after: page; line-height: 1.6; }}
ul {{ list-style: none; padding: 0; }}
li {{ display: flex; justify-content: space-between; padding: 1.2mm 0; }}
li.part {{ font-weight: 600; padding-top: 5mm; }}
a {{ color: inherit; text-decoration: none; }}
</style></head><body><h1>{title}</h1><p>{note}</p><h2>Contents</h2><ul>{lines}</ul></body></html>"""

_READY = """async () => {
  document.documentElement.dataset.theme = "light";
  document.documentElement.dataset.mode = "light";
  await window.MathJax?.startup?.promise;
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  await document.fonts.ready;
  return document.querySelector("article h1")?.innerText.replace(/#$/, "").trim() ?? "";
}"""


@dataclass
class Sheets:
    """One page of the site, printed."""

    name: str
    title: str
    pdf: bytes

    @functools.cached_property
    def count(self) -> int:
        """How many sheets of paper."""
        return len(PdfReader(io.BytesIO(self.pdf)).pages)


def parts(toc: Path = TOC) -> dict[str, str]:
    """The first document of each part of the book, and the part's caption."""
    root = parse_toc_yaml(toc).root
    return {
        str(tree.items[0]): str(tree.caption)
        for tree in root.subtrees
        if tree.items and tree.caption
    }


def printed(browser: Browser, origin: str, name: str) -> Sheets:
    """Print one page of the site, its title at the head of each sheet."""
    context = browser.new_context(color_scheme="light", reduced_motion="reduce")
    context.add_init_script(
        "localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')"
    )
    page = context.new_page()
    page.goto(f"{origin}{name}.html", wait_until="load")
    title = str(page.evaluate(_READY))
    pdf = _pdf(page, header=title)
    context.close()
    return Sheets(name, title, pdf)


def _pdf(page: Page, header: str = "", footer: str = "") -> bytes:
    return page.pdf(
        format=PAPER,
        margin=MARGINS,
        print_background=True,
        outline=True,
        tagged=True,
        display_header_footer=True,
        header_template=_EDGE.format(html.escape(header)),
        footer_template=_EDGE.format(footer),
    )


def _front(browser: Browser, origin: str, rows: Sequence[Row]) -> bytes:
    """A title page and the list of contents."""
    lines = []
    for row in rows:
        title = html.escape(row.title)
        if row.name:
            lines.append(
                f'<li><a href="{origin}{row.name}.html">{title}</a><span>{row.sheet}</span></li>'
            )
        else:
            lines.append(f"<li class=part>{title}</li>")
    page = browser.new_page()
    note = NOTE.format(date=datetime.now(UTC).date().isoformat())
    page.set_content(_FRONT.format(title=html.escape(TITLE), note=note, lines="\n".join(lines)))
    pdf = _pdf(page)
    page.close()
    return pdf


def _numbers(browser: Browser, sheets: int) -> PdfReader:
    """As many empty sheets, with their numbers at the foot."""
    page = browser.new_page()
    page.set_content('<div style="break-after: page">&nbsp;</div>' * (sheets - 1) + "&nbsp;")
    pdf = _pdf(page, footer='<span class="pageNumber"></span>')
    page.close()
    return PdfReader(io.BytesIO(pdf))


@dataclass(frozen=True)
class Row:
    """A line of the list of contents: a part, or a page and the number of its first sheet."""

    title: str
    name: str = ""
    sheet: int = 0


def contents(sheets: Sequence[Sheets], captions: Mapping[str, str], first: int) -> list[Row]:
    """The list of contents.

    Args:
        sheets: the printed pages, in reading order.
        captions: the first page of each part, and the part's caption.
        first: the number of the first sheet after the list.
    """
    rows = []
    for page in sheets:
        if page.name in captions:
            rows.append(Row(captions[page.name]))
        rows.append(Row(page.title, page.name, first))
        first += page.count
    return rows


def joined(
    front: bytes, sheets: Sequence[Sheets], captions: Mapping[str, str], origin: str
) -> PdfWriter:
    """One document of all sheets, with an outline; links between pages lead inside it."""
    writer = PdfWriter()
    readers = {"": PdfReader(io.BytesIO(front))}
    readers |= {page.name: PdfReader(io.BytesIO(page.pdf)) for page in sheets}
    start: dict[str, int] = {}
    for name, reader in readers.items():
        start[name] = len(writer.pages)
        for sheet in reader.pages:
            writer.add_page(sheet)
    part = None
    for page in sheets:
        if page.name in captions:
            part = writer.add_outline_item(title=captions[page.name], page_number=start[page.name])
        chapter = writer.add_outline_item(
            title=page.title, page_number=start[page.name], parent=part
        )
        for title, number in _sections(readers[page.name]):
            writer.add_outline_item(
                title=title, page_number=start[page.name] + number, parent=chapter
            )
    for name, reader in readers.items():
        for number in range(len(reader.pages)):
            sheet = writer.pages[start[name] + number]
            for reference in sheet.get("/Annots") or ():
                link = reference.get_object()
                if target := _target(link, name, origin):
                    _lead(writer, link, start, _place(readers, *target))
    writer.add_metadata({"/Title": TITLE})
    return writer


def _sections(reader: PdfReader) -> list[tuple[str, int]]:
    """Titles of the second level and the sheets they stand on."""
    found = []
    for entry in reader.outline:
        for below in entry if isinstance(entry, list) else ():
            if isinstance(below, list) or below.title is None:
                continue
            number = reader.get_destination_page_number(below)
            if number is not None:
                found.append((str(below.title).removesuffix("#").strip(), number))
    return found


def _target(link: Any, name: str, origin: str) -> tuple[str, str] | None:
    """The page and the anchor that a link means, if it is one within the book."""
    action = link.get("/A")
    action = action.get_object() if action is not None else {}
    named = link.get("/Dest") or action.get("/D")
    if isinstance(named, str):
        return name, str(named).removeprefix("/")
    address = str(action.get("/URI", ""))
    if not address.startswith(origin):
        return None
    parts = urlsplit(address)
    return parts.path.removeprefix("/").removesuffix(".html"), parts.fragment


def _place(
    readers: Mapping[str, PdfReader], name: str, anchor: str
) -> tuple[str, int, float] | None:
    """Page, sheet of the page and height of an anchor; the page's top if it has no such anchor."""
    reader = readers.get(name)
    if reader is None:
        return None
    destinations = reader.named_destinations
    for spelling in (anchor, "/" + anchor):
        if anchor and spelling in destinations:
            found = destinations[spelling]
            number = reader.get_destination_page_number(found)
            if number is not None:
                return name, number, float(found.top or 0)
    return name, 0, float(reader.pages[0].mediabox.top)


def _lead(
    writer: PdfWriter, link: Any, start: Mapping[str, int], place: tuple[str, int, float] | None
) -> None:
    """Make a link lead to a sheet; nowhere, if it is to a page that is not printed."""
    for key in ("/A", "/Dest"):
        if key in link:
            del link[key]
    if place is not None:
        name, sheet, top = place
        page = writer.pages[start[name] + sheet].indirect_reference
        link[NameObject("/Dest")] = ArrayObject(
            [page, NameObject("/XYZ"), NumberObject(0), FloatObject(top), NullObject()]
        )


def book(site: Path, names: Sequence[str], captions: Mapping[str, str]) -> PdfWriter:
    """Print the pages of a site and join them.

    Args:
        site: the built site.
        names: its pages, in reading order.
        captions: the first page of each part, and the part's caption.

    Raises:
        FileNotFoundError: there is no browser, or no site.
    """
    if not (site / f"{names[0]}.html").is_file():
        raise FileNotFoundError(f"there is no {site}/{names[0]}.html: run make book first")
    with served(site) as origin, launched() as browser:
        sheets = [printed(browser, origin, name) for name in names]
        front = _front(browser, origin, contents(sheets, captions, 1))
        length = len(PdfReader(io.BytesIO(front)).pages)
        front = _front(browser, origin, contents(sheets, captions, length + 1))
        writer = joined(front, sheets, captions, origin)
        numbers = _numbers(browser, len(writer.pages))
        for number, sheet in enumerate(writer.pages):
            if number:  # the title page has none
                sheet.merge_page(numbers.pages[number])
    writer.compress_identical_objects()
    return writer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.printing", description=__doc__)
    parser.add_argument("site", type=Path, help="the built site, such as _build/html")
    parser.add_argument("out", type=Path, help="the PDF to write")
    options = parser.parse_args(arguments)
    try:
        writer = book(options.site, toc_pages(), parts())
    except FileNotFoundError as error:
        print(f"make pdf: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    writer.write(options.out)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(writer.pages)} sheets, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
