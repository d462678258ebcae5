"""Sphinx extension: what belongs together stays on one line.

To a browser a formula is a box, and a line may be broken on either side of it. A comma or a bracket
that belongs to it would begin the next line. So would a percent sign behind its number.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import ExtensionMetadata

_CLOSING = re.compile(r"[.,;:!?)\]’”'\"%-]+")
_PERCENT = re.compile(r"(?<=\d) %(?!\w)")
_OPENING = re.compile(r"[(\[‘“]+$")


def keep_together(document: nodes.Node) -> None:
    """Put each formula in one `inline` of class `formula` with the punctuation that touches it."""
    for formula in list(document.findall(nodes.math)):
        parent = formula.parent
        if not isinstance(parent, nodes.TextElement):
            continue
        place = parent.index(formula)
        opening = _cut(parent, place - 1, _OPENING) if place else ""
        place = parent.index(formula)
        closing = _cut(parent, place + 1, _CLOSING) if place + 1 < len(parent) else ""
        if not opening and not closing:
            continue
        place = parent.index(formula)
        parent.remove(formula)
        around = nodes.inline("", "", classes=["formula"])
        around += [nodes.Text(opening), formula, nodes.Text(closing)]
        parent.insert(place, around)


def _cut(parent: nodes.TextElement, place: int, pattern: re.Pattern[str]) -> str:
    """Take from the text at a place what the pattern finds at the end that it looks at."""
    text = parent[place]
    if not isinstance(text, nodes.Text):
        return ""
    found = pattern.search(text) if pattern is _OPENING else pattern.match(text)
    if found is None:
        return ""
    parent[place] = nodes.Text(text[: found.start()] + text[found.end() :])
    return found.group()


def keep_percents(document: nodes.Node) -> None:
    """Put a no-break space between a number and its percent sign, but in code."""
    for text in list(document.findall(nodes.Text)):
        around = text.parent
        while around is not None and not isinstance(around, nodes.literal | nodes.FixedTextElement):
            around = around.parent
        if around is None and (changed := _PERCENT.sub("\N{NO-BREAK SPACE}%", text)) != text:
            text.parent.replace(text, nodes.Text(changed))


class KeepTogether(SphinxPostTransform):
    """Apply `keep_together` and `keep_percents` to each page of the site."""

    default_priority = 900
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Change ``self.document`` in place."""
        keep_together(self.document)
        keep_percents(self.document)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the transform with Sphinx."""
    app.add_post_transform(KeepTogether)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
