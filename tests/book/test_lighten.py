"""Pictures get smaller and look the same; what no page loads is left out."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from book.lighten import looks_the_same, prune, recompress, recompress_all

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("*.ipynb"))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def first_figure(chapter: Path) -> bytes | None:
    for cell in nbformat.read(chapter, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    return None


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_figure_of_the_book_shrinks_by_half_and_looks_the_same(chapter: Path) -> None:
    figure = first_figure(chapter)
    if figure is None:
        pytest.skip("no figure yet")
    smaller = recompress(figure)
    assert len(smaller) < len(figure) / 2
    assert opened(smaller).size == opened(figure).size
    assert looks_the_same(opened(figure), opened(smaller))


def test_a_picture_of_many_colours_keeps_every_one() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept = np.asarray(opened(recompress(png(pixels))).convert("RGB"))
    assert np.array_equal(kept, pixels)


def test_what_is_transparent_stays_as_it_is() -> None:
    pixels = np.full((8, 8, 4), 128, dtype=np.uint8)
    assert recompress(png(pixels)) == png(pixels)


def test_a_difference_that_is_to_be_seen_is_seen() -> None:
    white = np.full((40, 40, 3), 255, dtype=np.uint8)
    shifted, marked = white - 2, white.copy()
    marked[3, 3:6] = 200  # 3 of 1,600 pixels
    assert looks_the_same(Image.fromarray(white), Image.fromarray(white - 1))
    assert not looks_the_same(Image.fromarray(white), Image.fromarray(shifted))
    assert not looks_the_same(Image.fromarray(white), Image.fromarray(marked))


def test_files_are_recompressed_in_place(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    levels = np.random.default_rng(0).integers(0, 4, (64, 64, 1), dtype=np.uint8) * 60
    picture.write_bytes(png(np.repeat(levels, 3, axis=2)))
    before, after = recompress_all([picture])
    assert after < before
    assert picture.stat().st_size == after


def test_what_a_page_may_load_of_mathjax_stays(tmp_path: Path) -> None:
    folder = tmp_path / "_static" / "mathjax"
    stay = [
        "tex-chtml.js",
        "output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff",
        "output/svg.js",
        "input/tex/extensions/cancel.js",
        "a11y/explorer.js",
        "sre/mathmaps/base.json",
        "sre/mathmaps/en.json",
    ]
    go = ["tex-svg-full.js", "tex-chtml-full.js", "mml-svg.js", "sre/mathmaps/es.json", "core.js"]
    for name in stay + go:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert prune(tmp_path) == len(go)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == set(stay)
