"""Copy a chapter's figure to where the README shows it: `python -m book.picture`."""

import base64
import sys
from pathlib import Path

import nbformat

CHAPTER = Path("chapters/09_activations_over_time.ipynb")
FIGURE = "fig-09-accuracy"
PICTURE = Path("_static/figure1.png")


def figure(chapter: Path, name: str) -> bytes:
    """The stored PNG of the figure that a cell's metadata names.

    Args:
        chapter: an executed notebook.
        name: the figure's name, as in its `mystnb` metadata.

    Raises:
        LookupError: no executed cell has that figure.
    """
    for cell in nbformat.read(chapter, as_version=4).cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    raise LookupError(f"{chapter} has no figure {name!r} that was executed")


def main() -> int:
    """Write the README's picture."""
    beside = PICTURE.with_suffix(".new")
    beside.write_bytes(figure(CHAPTER, FIGURE))
    beside.replace(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
