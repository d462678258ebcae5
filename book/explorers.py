"""Sphinx extension: a chapter's explorers, alive in the page.

A chapter stores an explorer (`bn_core.lab.explorers`) as a Vega-Lite chart and as a picture. The
picture is a figure like any other, with caption and alternative text: it is what is printed and
what is shown without scripts. Behind it this puts the chart, and `explorers.js`, which draws it in
the picture's place. Vega is made one file by `vl_convert` at build time; only pages that have an
explorer load `explorers.js`, and that loads Vega when an explorer comes near the window.
"""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import vl_convert
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from bn_core.lab.explorers import MIME, VEGA_LITE

SCRIPT = Path(__file__).with_suffix(".js")
MARK = 'class="explorer"'


def with_explorers(notebook: str) -> str:
    """A notebook as JSON in which each explorer's chart stands in a cell of its own.

    The cell comes behind the one that made the explorer, which keeps the picture.

    Args:
        notebook: as JSON.
    """
    if MIME not in notebook:
        return notebook
    content = json.loads(notebook)
    cells: list[dict[str, Any]] = []
    for cell in content["cells"]:
        cells.append(cell)
        for output in cell.get("outputs", []):
            if spec := output.get("data", {}).pop(MIME, None):
                cells.append(_cell(spec, output["data"]["text/plain"]))
    return json.dumps({**content, "cells": cells})


def _cell(spec: dict[str, Any], description: str | list[str]) -> dict[str, Any]:
    described = html.escape("".join(description))
    # Nothing in it may end the script element.
    text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
    source = (
        f"```{{raw}} html\n<div {MARK} hidden>\n"
        f'<p class="explorer-description">{described}</p>\n'
        '<div class="explorer-controls" role="group" aria-label="Sliders of the explorer"></div>\n'
        '<div class="explorer-chart" aria-hidden="true"></div>\n'
        '<p class="explorer-status" role="status"></p>\n'
        f'<script type="application/json">{text}</script>\n</div>\n```\n'
    )
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        source[0] = with_explorers(source[0])


def _link(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    if MARK in context.get("body", ""):
        app.add_js_file(SCRIPT.name, loading_method="defer")


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        shutil.copyfile(SCRIPT, static / SCRIPT.name)
        bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
        # In a function, since its names, among them _, are those of other scripts, too.
        (static / "vega.js").write_text(f"(() => {{\n{bundle}\n}})();\n", encoding="utf-8")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("html-page-context", _link)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
