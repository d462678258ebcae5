"""Figures: words that follow the data, and colours that everyone can tell apart."""

import base64
import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from bn_core.lab import plots

BLUE = plots.Look("with", "blue", "-", "o")
ORANGE = plots.Look("without", "orange", "--", "s")
STEPS = [10, 100, 1000]


def curves():
    return plots.accuracy_curves(
        STEPS,
        {BLUE: [[0.1, 0.5, 0.9], [0.2, 0.6, 0.95]], ORANGE: [[0.1, 0.1, 0.3]] * 2},
        title="A finding",
        target=0.8,
    )


def fans():
    fan = [[-1, 0, 1], [-2, 0.5, 3], [-1, 0, 2]]
    return plots.percentile_fans(
        STEPS, {ORANGE: {"one unit": fan}, BLUE: {"one unit": np.zeros((3, 3))}}, title="A finding"
    )


def maps():
    values = [[0.1, 0.2, 0.3], [0.4, 0.95, 0.6]]
    return plots.heat_maps(
        [0.1, 1], [1, 2, 3], {"with": values}, row_name="std", column_name="rate", title="A finding"
    )


def ratios():
    return plots.ratio_curves(
        [0.5, 0.9], {BLUE: [[4, 2], [5, np.nan]]}, title="A finding", ratio_name="ratio"
    )


def dots():
    return plots.unit_dots({BLUE: [[0.1, 0.3], [0.2, 0.6]]}, title="A finding", quantity="movement")


def boxes():
    return plots.chain(["in", "BN", "out"], {1: "a probe"}, title="A finding", emphasis=[1])


ALL = [curves, fans, maps, ratios, dots, boxes]


@pytest.mark.parametrize("draw", ALL)
def test_a_drawing_is_a_png_and_its_description_both_in_a_notebook(draw):
    drawing = draw()
    bundle, metadata = drawing._repr_mimebundle_()
    assert metadata["image/png"]["width"] == plots.PIXELS
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == repr(drawing) == drawing.description
    assert drawing.description.startswith("A finding. ")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (curves, "with 10.0 to 20.0 % at step 10, 90.0 to 95.0 % at step 1,000; without"),
        (fans, "without, one unit: median between 0.0 and 0.5, width .* between 2.0 and 5.0"),
        (maps, "with, best 95.0 % at std 1 and rate 2, lowest 10 %"),
        (ratios, r"with: 4.0 to 5.0 at 50 %, 2.0 to 2.0 \(1 of 2 seeds\) at 90 %"),
        (dots, "with: mean 0.20 to 0.40 over seeds, single units 0.10 to 0.60"),
        (boxes, "in → BN → out. Probes: a probe at the entrance of BN"),
    ],
)
def test_the_description_says_what_the_data_say(draw, words):
    assert re.search(words, draw().description)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def dark(colour):
    """What the dark theme's CSS makes of a colour: invert(1) hue-rotate(180deg), sRGB."""
    inverted = 1 - np.array(to_rgb(colour))
    weights = np.array([0.213, 0.715, 0.072])
    # The matrix of the CSS filter specification for an angle of 180 degrees.
    rotated = 2 * inverted @ weights - inverted
    return tuple(np.clip(rotated, 0, 1))


DARK_GROUND = "#14181e"


@pytest.mark.parametrize("colour", plots.COLOURS.values(), ids=plots.COLOURS)
def test_lines_stand_out_on_light_and_dark_pages(colour):
    assert contrast(colour, "white") >= 3
    assert contrast(dark(colour), DARK_GROUND) >= 3


@pytest.mark.parametrize("colour", [plots.INK, plots.FAINT])
def test_words_can_be_read_on_light_and_dark_pages(colour):
    assert contrast(colour, "white") >= 4.5
    assert contrast(dark(colour), DARK_GROUND) >= 4.5


# Linear-RGB simulation matrices for complete colour blindness (Machado et al. 2009, severity 1).
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


def lab(colour, blindness):
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(blindness @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    f = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("pair", list(combinations(plots.COLOURS, 2)), ids="-".join)
def test_colours_differ_for_colour_blind_readers(kind, pair):
    """A difference of 2.3 is just noticeable; lines in a chart want several times that."""
    one, other = (lab(plots.COLOURS[name], BLINDNESS[kind]) for name in pair)
    assert np.linalg.norm(one - other) > 12
