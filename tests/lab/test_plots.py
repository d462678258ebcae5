"""Figures: words that follow the data, and colours that everyone can tell apart."""

import base64
import re
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

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


def lines():
    return plots.curves(
        [1, 10, 100],
        {BLUE: [[4.0, 2.0, 0.5], [5.0, 2.0, np.nan]], ORANGE: [3.0, 3.0, 3.0]},
        title="A finding",
        x_name="steps",
        y_name="loss",
        log_x=True,
        log_y=True,
    )


def losses():
    return plots.heat_maps(
        [0.1, 1],
        [1, 2],
        {"with": [[3.14, np.nan], [0.25, 12.3]]},
        row_name="std",
        column_name="rate",
        title="A finding",
        quantity="loss",
        lowest_is_best=True,
    )


# Of these values, those beyond +-3.637 are in the dead zone of the sigmoid.
ENTERING = [-9.0, -3.7, -3.6, 0.0, 0.5, 1.0, 3.6, 3.7]


def dead_zone():
    return plots.histogram_on_activation(
        {BLUE: [0.0, 1.0, np.inf], ORANGE: np.reshape(ENTERING, (4, 2))},
        nn.Sigmoid(),
        title="A finding",
    )


def boxes():
    return plots.chain(["in", "BN", "out"], {1: "a probe"}, title="A finding", emphasis=[1])


def columns():
    return plots.strips(
        {"one": [0.0, 1.0, -2.0], "two": [3.0]},
        [0.5, 3.04],
        title="A finding",
        x_name="digit",
        y_name="margin",
        dots_name="one batch",
        marks_name="inference mode",
        level=0.0,
    )


def plane():
    return plots.speed_and_gap(
        {BLUE: [[100, 0.5], [200, 0.25], [float("nan"), 1.0]], ORANGE: []},
        title="A finding",
        x_name="steps",
        y_name="gap",
    )


def shapes():
    return plots.histograms(
        {BLUE: {"a row": [0.0, 1.0]}, ORANGE: {"a row": [0.0, 0.0, 0.0, 5.0]}},
        title="A finding",
        quantity="values",
    )


def images():
    return plots.map_panels(
        {"a row": {"one": [[0, 1], [2, 3]], "other": [[4, 5]]}},
        title="A finding",
        quantity="responses",
    )


def spectrum():
    return plots.singular_values({BLUE: [0.0, 1.0, 1.0, 3.0]}, title="A finding")


ALL = [curves, fans, maps, ratios, dots, boxes, lines, losses, dead_zone, columns, plane]
ALL += [shapes, images, spectrum]


@pytest.mark.parametrize("draw", ALL)
def test_a_drawing_is_a_png_and_its_description_both_in_a_notebook(draw):
    drawing = draw()
    bundle, metadata = drawing._repr_mimebundle_()
    assert metadata["image/png"]["width"] == plots.PIXELS
    png = base64.b64decode(bundle["image/png"])
    assert png.startswith(b"\x89PNG")
    # Twice a page's pixels. What sticks out would make it wider, and its words smaller on a page.
    assert 1.9 * plots.PIXELS <= int.from_bytes(png[16:20]) <= 2.02 * plots.PIXELS
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
        (lines, "with 4 to 5 at 1, 0.5 at 100; without 3 at 1, 3 at 100"),
        (losses, "maps of loss over .* with, best 0.25 at std 1 and rate 1, highest 12"),
        (
            dead_zone,
            "below 10 % of its maximum. with: 33 % of .* without: 38 % of the values in the",
        ),
        (columns, "a mark inference mode. one -2.0 to 1.0, mark 0.5; two 3.0 to 3.0, mark 3.0"),
        (
            shapes,
            "with, a row: skewness 0.0, kurtosis 1.0, fullest bar 50 %; "
            "without, a row: skewness 1.2, kurtosis 2.3, fullest bar 75 %",
        ),
        (images, "Images of responses, .* a row, one: 0.0 to 3.0; a row, other: 4.0 to 5.0"),
        (boxes, "in → BN → out. Probes: a probe at the entrance of BN"),
    ],
)
def test_the_description_says_what_the_data_say(draw, words):
    assert re.search(words, draw().description)


def test_a_series_without_a_value_for_each_x_is_an_error():
    with pytest.raises(ValueError, match=r"'with' has shape \(1, 2\) and x has 3 values"):
        plots.curves([1, 2, 3], {BLUE: [1, 2]}, title="", x_name="", y_name="")


def test_few_points_on_a_logarithmic_axis_have_their_own_numbers():
    axes = lines().figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10", "100"]
    assert not len(axes.get_xticks(minor=True))


def test_a_histogram_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="series 'with' has no finite value"):
        plots.histogram_on_activation({BLUE: [np.nan]}, nn.Tanh(), title="")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([2.0, 2.0], "are all equal"),
        (np.full(1000, 0.1), "are all equal"),
        (np.full(7, 0.1, dtype=np.float32), "are all equal"),
        ([np.nan, 1, np.inf], "are not finite in 2 of 3 places"),
        ([], "are none"),
    ],
)
def test_a_histogram_of_what_has_no_shape_is_an_error(values, fault):
    with pytest.raises(ValueError, match=f"series 'with', row 'a row', {fault}; they have no"):
        plots.histograms({BLUE: {"a row": values}}, title="", quantity="")


NAMES = {"title": "", "x_name": "", "y_name": ""}
STRIP_NAMES = {**NAMES, "dots_name": "", "marks_name": ""}


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            lambda: plots.accuracy_curves(STEPS, {BLUE: [0.1, 0.2, 0.3]}, title=""),
            r"accuracy_curves: 'with' has shape \(3,\); it must be \(any, 3\): seeds and records",
        ),
        (
            lambda: plots.accuracy_curves(STEPS, {BLUE: [[0.1, 0.2]]}, title=""),
            r"accuracy_curves: 'with' has shape \(1, 2\)",
        ),
        (
            lambda: plots.percentile_fans(STEPS, {BLUE: {"a": np.zeros((3, 5))}}, title=""),
            r"percentile_fans: 'with, a' has shape \(3, 5\); it must be \(3, 3\)",
        ),
        (
            lambda: plots.percentile_fans(
                STEPS, {BLUE: {"a": np.zeros((3, 3))}, ORANGE: {"b": np.zeros((3, 3))}}, title=""
            ),
            r"series 'without' has the rows \['b'\] and the first \['a'\]",
        ),
        (
            lambda: plots.heat_maps(
                [1, 2], [3, 4, 5], {"p": np.ones((3, 2))}, row_name="", column_name="", title=""
            ),
            r"heat_maps: 'p' has shape \(3, 2\); it must be \(2, 3\): rows and columns",
        ),
        (lambda: plots.strips({"a": [1], "b": [2]}, [1.0], **STRIP_NAMES), "1 marks for 2 columns"),
        (
            lambda: plots.speed_and_gap({BLUE: [1.0, 2.0, 3.0]}, **NAMES),
            r"speed_and_gap: 'with' has shape \(3,\); it must be \(any, 2\)",
        ),
        (
            lambda: plots.speed_and_gap({BLUE: np.ones((2, 3))}, **NAMES),
            r"speed_and_gap: 'with' has shape \(2, 3\)",
        ),
        (
            lambda: plots.histogram_on_activation({BLUE: [1.0]}, nn.Tanh(), title="", share=2),
            r"histogram_on_activation: share is 2; it must be in \(0, 1\)",
        ),
        (
            lambda: plots.chain(["a", "b", "c"], {0: "p", 1: "q", 2: "r"}, title=""),
            r"chain: probes are at \[0, 1, 2\]",
        ),
        (lambda: plots.chain(["a", "b"], {7: "p"}, title=""), r"chain: probes are at \[7\]"),
        (lambda: plots.chain(["a"], {}, title="", emphasis=[1]), r"emphasis is \[1\], of 1 boxes"),
        (lambda: plots.chain([], {}, title=""), "of 0 boxes"),
        (
            lambda: plots.Look("x", "red"),
            "colour of 'x' is 'red'; it must be one of blue, orange, green, purple, ink",
        ),
    ],
)
def test_what_does_not_fit_into_a_picture_is_said(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


def test_tensors_with_gradient_are_drawn_as_numbers():
    accuracies = torch.rand(2, 3, requires_grad=True)
    with_gradient, without = (
        plots.accuracy_curves(STEPS, {BLUE: values}, title="A finding").description
        for values in (accuracies, accuracies.detach().numpy())
    )
    assert with_gradient == without


@pytest.mark.parametrize("activation", [torch.tanh, lambda x: -torch.tanh(x), nn.GELU()])
def test_infinite_values_are_counted_where_the_function_leads(activation):
    """Of tanh, both ends are in the dead zone; of GELU, only that to the left."""
    values = [-np.inf, np.inf, np.inf, 0.5, np.nan]
    drawing = plots.histogram_on_activation({BLUE: values}, activation, title="A finding")
    share = 25 if isinstance(activation, nn.GELU) else 75
    assert f"with: {share} % of the values in the dead zone" in drawing.description
    heights = {bar.get_x(): bar.get_height() for bar in drawing.figure.axes[0].patches}
    assert heights[min(heights)] == 0.25
    assert heights[max(heights)] == 0.5


def test_bars_are_hatched_where_the_derivative_is_small():
    values = np.linspace(-6, 6, 1001)
    drawing = plots.histogram_on_activation({BLUE: values}, torch.tanh, title="A finding")
    bars = drawing.figure.axes[0].patches
    middle = {bar.get_x() + bar.get_width() / 2: bar.get_hatch() for bar in bars}
    assert len(middle) == 40
    for x, hatch in middle.items():
        assert (hatch is not None) == (1 - np.tanh(x) ** 2 < 0.1)
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1)


def test_the_activation_and_its_derivative_are_drawn_over_the_histogram():
    axes = dead_zone().figure.axes
    assert [len(a.get_lines()) for a in axes] == [0, 0, 2, 2]
    value, slope = axes[-1].get_lines()
    x = value.get_xdata()
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(value.get_ydata(), sigmoid, rtol=1e-12)
    np.testing.assert_allclose(slope.get_ydata(), sigmoid * (1 - sigmoid), rtol=1e-9)


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


OF_LAYERS = {
    f"layer {i + 1} of {n}": plots.depth_colours(n)[i] for n in (1, 3, 5) for i in range(n)
}


@pytest.mark.parametrize(
    "colour",
    [*plots.COLOURS.values(), *OF_LAYERS.values()],
    ids=[*plots.COLOURS, *OF_LAYERS],
)
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


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("layers", range(2, plots.DEPTHS + 1))
def test_colours_of_layers_differ_for_colour_blind_readers(kind, layers):
    colours = [lab(colour, BLINDNESS[kind]) for colour in plots.depth_colours(layers)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 12
    lightness = [colour[0] for colour in colours]
    assert lightness == sorted(lightness)  # so that the order can be seen in print, too


@pytest.mark.parametrize(("lowest", "labels"), [(0.02, "0.05"), (1e-19, "10^{-")])
def test_a_logarithmic_axis_has_numbers_however_long_it_is(lowest, labels):
    drawing = plots.curves(
        [1, 2], {BLUE: [1.0, lowest]}, title="A finding", x_name="x", y_name="y", log_y=True
    )
    [axes] = drawing.figure.axes
    low, high = axes.get_ylim()
    at = [value for value in axes.yaxis.get_majorticklocs() if low <= value <= high]
    assert 3 <= len(at) <= 9
    assert any(labels in axes.yaxis.get_major_formatter()(value, 0) for value in at)


@pytest.mark.parametrize(("series", "outside"), [(2, 0), (3, 1)])
def test_many_lines_have_their_legend_outside(series, outside):
    looks = {plots.Look(str(i), "blue"): [1.0, 2.0] for i in range(series)}
    drawing = plots.curves([1, 2], looks, title="A finding", x_name="x", y_name="y")
    assert len(drawing.figure.legends) == outside
    assert (drawing.figure.axes[0].get_legend() is None) == bool(outside)


def test_the_plane_leaves_out_what_is_not_known():
    words = plane().description
    assert f"{BLUE.label}: 1e+02 to 2e+02 and 0.25 to 0.5" in words
    assert f"{ORANGE.label}: no value and no value" in words


def test_singular_values_are_told_by_zeros_outliers_and_size():
    words = spectrum().description
    assert "25 % are 0, 25 % are above 2, root mean square 1.66" in words


@pytest.mark.parametrize(("columns", "turned"), [(8, 0), (9, 45)])
def test_many_columns_of_a_map_have_their_labels_turned(columns, turned):
    drawing = plots.heat_maps(
        [1.0],
        np.geomspace(0.00316, 316, columns),
        {"with": np.full((1, columns), 0.5)},
        row_name="scale",
        column_name="rate",
        title="A finding",
    )
    labels = drawing.figure.axes[0].get_xticklabels()
    assert {label.get_rotation() for label in labels} == {turned}
