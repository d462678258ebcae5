"""Sphinx extension: style sheets without the rules that no page can use, icons without the rest.

Bootstrap, the theme and Font Awesome bring some 500 kB of style sheets and 150 kB of icons; the
pages use a small part. A rule is left out if each of its selectors asks for a class that is named
nowhere in the pages or scripts of the site.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import tinycss2
from fontTools import subset, ttLib
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

# Scripts that write their own style sheets, and in which any word is to be found.
APART = ("mathjax", "vega.js")
ICONS = "_static/vendor/fontawesome/*/webfonts/fa-solid-900.woff2"
OTHER_ICONS = re.compile(r"fa-(?:brands|regular|v4compatibility|solid-900\.ttf)")

_WORD = re.compile(r"[\w-]+")
# Of an icon font, a character of the private use area, wherever it stands; others beside elements.
_SHOWN = re.compile(r'content:\s*"([^"]*)"|([\ue000-\uf8ff])')

logger = logging.getLogger(__name__)


def words(site: Path) -> frozenset[str]:
    """Every word of the pages and scripts: what is none of them is no class of an element."""
    found: set[str] = set()
    for path in (*site.rglob("*.html"), *site.rglob("*.js")):
        if not any(name in path.relative_to(site).parts for name in APART):
            found.update(_WORD.findall(path.read_text(encoding="utf-8")))
    return frozenset(found)


def without_unused(css: str, used: frozenset[str]) -> str:
    """A style sheet without the selectors that need a class that is not in use.

    What stands in parentheses, as after `:not`, is not looked at.

    Args:
        css: the style sheet.
        used: the names in use.
    """
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    return "\n".join(_kept(rules, used)) + "\n"


def _kept(rules: list[Any], used: frozenset[str]) -> Iterator[str]:
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [s for s in _selectors(rule.prelude) if _needed(s) <= used]
            if selectors:
                text = ",".join(tinycss2.serialize(selector).strip() for selector in selectors)
                yield f"{text}{{{tinycss2.serialize(rule.content).strip()}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword in {"media", "supports"}:
            inner = "\n".join(_kept(tinycss2.parse_rule_list(rule.content, True, True), used))
            if inner:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
        elif rule.type == "error":
            raise ValueError(f"styles: {rule.message} at line {rule.source_line}")
        else:
            yield rule.serialize()


def _selectors(prelude: list[Any]) -> list[list[Any]]:
    """The parts of a list of selectors."""
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _needed(selector: list[Any]) -> set[str]:
    """The words of the classes that an element, or one around it, must have."""
    return {
        word
        for dot, name in pairwise(selector)
        if dot.type == "literal" and dot.value == "." and name.type == "ident"
        for word in _WORD.findall(name.value)
    }


def icons(css: str) -> set[int]:
    """The code points that a style sheet of `without_unused` may show."""
    return {ord(character) for found in _SHOWN.findall(css) for character in "".join(found)}


def with_glyphs(font: bytes, code_points: set[int]) -> bytes:
    """A font with these glyphs alone, as WOFF2."""
    options = subset.Options(flavor="woff2", layout_features=[], notdef_outline=True)
    loaded = ttLib.TTFont(io.BytesIO(font))
    cut = subset.Subsetter(options)
    cut.populate(unicodes=code_points)
    cut.subset(loaded)
    file = io.BytesIO()
    subset.save_font(loaded, file, options)
    return file.getvalue()


def shrink(site: Path) -> tuple[int, int]:
    """Rewrite the style sheets and the icons of a site; returns their bytes before and after."""
    used = words(site)
    sheets = sorted(site.glob("_static/**/*.css"))
    sheets = [sheet for sheet in sheets if not set(APART) & set(sheet.parts)]
    fonts = sorted(site.glob(ICONS))
    before = sum(path.stat().st_size for path in (*sheets, *fonts))
    shown: set[int] = set()
    for sheet in sheets:
        css = without_unused(sheet.read_text(encoding="utf-8"), used)
        if "fontawesome" in sheet.parts:
            css = _with_solid_icons(css)
        shown |= icons(css)
        sheet.write_text(css, encoding="utf-8")
    for font in fonts:
        font.write_bytes(with_glyphs(font.read_bytes(), shown))
        for other in font.parent.iterdir():
            if OTHER_ICONS.search(other.name):
                other.unlink()
    return before, sum(path.stat().st_size for path in (*sheets, *fonts))


def _with_solid_icons(css: str) -> str:
    """Font Awesome's sheet with the one font that stays."""
    kept = []
    for line in css.splitlines():
        if line.startswith("@font-face"):
            if "fa-solid-900.woff2" not in line:
                continue
            line = re.sub(r',\s*url\([^)]*\.ttf"?\)\s*format\("truetype"\)', "", line)
        kept.append(line)
    return "\n".join(kept) + "\n"


def _shrink(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        before, after = shrink(Path(app.outdir))
        logger.info("styles and icons: %.0f kB became %.0f kB", before / 1e3, after / 1e3)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the work to do when the site has been written, last of all."""
    app.connect("build-finished", _shrink, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
