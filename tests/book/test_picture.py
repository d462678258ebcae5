"""The README's picture is the chapter's figure."""

from pathlib import Path

import pytest

from book import picture

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_chapters_figure():
    shown = (ROOT / picture.PICTURE).read_bytes()
    assert shown == picture.figure(ROOT / picture.CHAPTER, picture.FIGURE)
    assert str(picture.PICTURE) in (ROOT / "README.md").read_text()


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(LookupError, match="no figure 'fig-99'"):
        picture.figure(ROOT / picture.CHAPTER, "fig-99")
