"""The favicon is a small SVG that is drawn alike each time."""

import xml.etree.ElementTree as ET

from book.emblem import favicon


def test_the_favicon_is_a_small_square_drawn_alike_each_time() -> None:
    drawn = favicon()
    assert drawn == favicon()
    root = ET.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert root.get("width") == root.get("height")
    assert len(drawn) < 5_000
