"""Sphinx extension: the favicon, drawn when the site is built, in the style of the figures.

It is what the book is about in 32 pixels: a distribution, and the dashed line of its mean.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from bn_core.lab.plots import COLOURS

NAME = "favicon.svg"
INCHES = 0.5


def favicon() -> str:
    """The picture as SVG, the same each time it is drawn."""
    with rc_context({"svg.hashsalt": "emblem", "svg.fonttype": "none"}):
        figure = Figure(figsize=(INCHES, INCHES))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-1, 1), ylim=(-1, 1))
        axes.axis("off")
        axes.add_patch(
            FancyBboxPatch(
                (-0.7, -0.7),
                1.4,
                1.4,
                boxstyle="round,pad=0.3,rounding_size=0.35",
                facecolor=COLOURS["blue"],
                edgecolor="none",
            )
        )
        x = np.linspace(-0.8, 0.8, 60)
        axes.plot(x, 1.2 * np.exp(-((x / 0.3) ** 2) / 2) - 0.6, color="white", linewidth=2.6)
        axes.plot((0, 0), (-0.6, 0.6), color="white", linewidth=1.4, linestyle=(0, (1.2, 1.4)))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _draw(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        (Path(app.outdir) / "_static" / NAME).write_text(favicon(), encoding="utf-8")


def _point(app: Sphinx, name: str, template: str, context: dict[str, object], _: object) -> None:
    """Name the picture in the page's head, where the theme puts the configured one."""
    pathto = context["pathto"]
    assert callable(pathto)
    context["favicon_url"] = pathto(f"_static/{NAME}", True)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the drawing and the address of what is drawn."""
    app.connect("html-page-context", _point, priority=700)
    app.connect("build-finished", _draw)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
