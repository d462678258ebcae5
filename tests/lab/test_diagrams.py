"""Pictures that explain: each is a drawing whose words follow from what is drawn."""

import pytest

from bn_core.lab import plots

# Functions of this file that draw one picture each; add one for each function of the module.
ALL = []


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_fits_a_page_and_says_its_finding_first(draw):
    drawing = draw()
    png = drawing.png()
    assert png.startswith(b"\x89PNG")
    # What sticks out would make the picture wider, and its words smaller on a page.
    assert int.from_bytes(png[16:20]) <= 200 * plots.WIDTH + 30
    assert drawing.description.startswith("A finding. ")
