"""Sphinx extension: the site is made lighter after it is written.

Figures are stored in the notebooks as matplotlib writes them, in full colour. They have few
colours, so the site serves them with a palette, where that is not to be seen (`looks_the_same`).
And of what the theme and MathJax bring, the files that no page can ask for are left out.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

# What is not to be seen: of 1,000 pixels, at most one is off by more than 16 of 255 steps in a
# colour (such are single pixels on the smoothed edge of a line), and the root of the mean square
# over all is at most one step.
MOST_OFF = 16
SHARE_OFF = 1 / 1000
MOST_ROOT_MEAN_SQUARE = 1.0

# Ways to choose the colours, the one that mostly gives smaller files first.
METHODS = (Image.Quantize.MAXCOVERAGE, Image.Quantize.MEDIANCUT)

# Of MathJax, a page loads tex-chtml.js and fonts; a formula or the reader's menu may ask for the
# extensions of TeX, for speech in English, or for the other renderer.
NEVER_LOADED = (
    "_static/mathjax/adaptors",
    "_static/mathjax/core.js",
    "_static/mathjax/input/asciimath.js",
    "_static/mathjax/input/mml",
    "_static/mathjax/input/mml.js",
    "_static/mathjax/input/tex*.js",
    "_static/mathjax/latest.js",
    "_static/mathjax/loader.js",
    "_static/mathjax/*mml-*.js",
    "_static/mathjax/node-main.js",
    "_static/mathjax/sre/mathmaps/[!be]*.json",
    "_static/mathjax/sre/mathmaps/es.json",
    "_static/mathjax/startup.js",
    "_static/mathjax/tex-*-full*.js",
    "_static/mathjax/tex-svg.js",
    "_static/locales",  # translations of the theme's own words, read while building
    "_static/styles/*.map",
    "_static/scripts/*.map",
    "_static/vendor/fontawesome/*/js",  # the layout leaves it out
)

logger = logging.getLogger(__name__)


def recompress(png: bytes) -> bytes:
    """The same picture in fewer bytes.

    With a palette of 256 colours if that is not to be seen, else in full colour, packed better; as
    it was if neither is smaller.

    Args:
        png: a PNG file.
    """
    image = Image.open(io.BytesIO(png))
    image.load()
    opaque = "A" not in image.getbands() or image.getchannel("A").getextrema()[0] == 255
    candidates = [png]
    if opaque and image.mode in {"RGB", "RGBA"}:
        full = image.convert("RGB")
        few = (full.quantize(256, method, kmeans=3, dither=Image.Dither.NONE) for method in METHODS)
        candidates.append(_written(next((p for p in few if looks_the_same(full, p)), full)))
    return min(candidates, key=len)


def looks_the_same(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures of one size differ by less than is to be seen."""
    off = _pixels(one) - _pixels(other)
    share = float((np.abs(off).max(axis=2) > MOST_OFF).mean())
    return share <= SHARE_OFF and float(np.sqrt((off**2).mean())) <= MOST_ROOT_MEAN_SQUARE


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def _written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def recompress_all(pictures: Iterable[Path]) -> tuple[int, int]:
    """Recompress files in place; returns the bytes before and after."""
    before = after = 0
    for picture in pictures:
        old = picture.read_bytes()
        new = recompress(old)
        before, after = before + len(old), after + len(new)
        if new is not old:
            picture.write_bytes(new)
    return before, after


def prune(site: Path) -> int:
    """Delete what no page can ask for; returns how many bytes that were."""
    freed = 0
    for pattern in NEVER_LOADED:
        for found in list(site.glob(pattern)):
            files = [found] if found.is_file() else [p for p in found.rglob("*") if p.is_file()]
            freed += sum(file.stat().st_size for file in files)
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()
    return freed


def _lighten(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    before, after = recompress_all(sorted((site / "_images").glob("*.png")))
    freed = prune(site)
    logger.info(
        "pictures: %.1f MB became %.1f MB; %.1f MB that no page loads left out",
        *(size / 1e6 for size in (before, after, freed)),
    )


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the work to do when the site has been written."""
    app.connect("build-finished", _lighten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
