"""Pictures that explain: each is a drawing whose words follow from what is drawn."""

import numpy as np
import pytest

from bn_core.lab import diagrams, plots

BLUE = plots.Look("here", "blue", "-", "o")
ORANGE = plots.Look("there", "orange", "--", "s")


def fits():
    x = np.linspace(-1, 2, 31)
    return diagrams.fits_over_densities(
        x,
        x**2,
        {BLUE: 2 * x, ORANGE: 1 - x},
        {BLUE: np.exp(-(x**2)), ORANGE: np.exp(-((x - 1.5) ** 2))},
        title="A finding",
        curve_name="a parabola",
        examples={BLUE: ([0, 1], [0, 1])},
    )


def modes():
    return diagrams.two_modes(title="A finding")


def routes():
    return diagrams.two_routes(title="A finding")


def means():
    return diagrams.shared_means(title="A finding", examples=2, features=3, side=4)


def joined():
    return diagrams.joined_batches(
        {"near": ([0, 1, 2], [-1.22, 0, 1.22]), "far": ([0, 1, 9], [-0.82, -0.58, 1.41])},
        marked=2,
        title="A finding",
    )


def cloud():
    points = np.random.default_rng(0).normal(size=(50, 2))
    return diagrams.clouds(
        {"apart": points, "tied": points[:, :1] * [1, -2]}, title="A finding", names=("u", "v")
    )


def shapes():
    x = np.array([0.0, 0, 0, 4])  # variance 3, skewness 2 / root of 3, kurtosis 7 / 3
    return diagrams.shapes_before_and_after({"lone": (x, (x - 1) / 3**0.5)}, title="A finding")


def products():
    return diagrams.factors(
        {BLUE: {"first": 2.0, "second": 6.0}, ORANGE: {"first": 4.0, "second": 0.5}},
        title="A finding",
        quantity="times fewer steps",
    )


def graph():
    return diagrams.computation(
        {"$x$": (0, 0), "$\\hat x$\nline 3": (1, 0), "$\\sigma^2$": (0.5, 1)},
        [("$x$", "$\\sigma^2$"), ("$\\sigma^2$", "$\\hat x$\nline 3")],
        {"$\\sigma^2$": "$\\partial\\ell/\\partial \\sigma^2$"},
        title="A finding",
    )


def three():
    return diagrams.three_examples([3.0, 0.0, 0.0], [1.0, 2.0, 0.0], title="A finding")


# Functions of this file that draw one picture each; add one for each function of the module.
def steps():
    return diagrams.tangent_steps([1.0, 2.0], pull=1.0, rate=1.0, title="A finding")


ALL = [fits, modes, routes, means, joined, cloud, shapes, graph, three, products, steps]


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_fits_a_page_and_says_its_finding_first(draw):
    drawing = draw()
    png = drawing.png()
    assert png.startswith(b"\x89PNG")
    # What sticks out would make the picture wider, and its words smaller on a page.
    assert int.from_bytes(png[16:20]) <= 2.02 * plots.PIXELS
    assert drawing.description.startswith("A finding. ")


def test_fits_and_densities_are_told_by_their_ends_and_peaks():
    words = fits().description
    assert "a parabola from 1.0 at x = -1.0 to 4.0 at x = 2.0" in words
    assert "here from -2.0 at x = -1.0 to 4.0 at x = 2.0" in words
    assert "there from 2.0 at x = -1.0 to -1.0 at x = 2.0" in words
    assert "here highest at x = 0.0; there highest at x = 1.5" in words


def test_the_two_modes_differ_in_where_mean_and_variance_come_from():
    words = modes().description
    assert "mean, variance of this batch → normalize" in words
    assert "population mean, variance → normalize" in words
    assert "mini-batch x_1, …, x_m → mean, variance of this batch" in words
    assert "one example x → mean" not in words


def test_of_two_routes_the_one_through_the_mean_is_left_out():
    seen, unseen = routes().description.split("Dashed, left out")
    assert "x = u + b" in seen
    assert "→ mean" not in seen
    assert "→ mean, mean → x = u + b" in unseen


def test_a_letter_stands_in_every_cell_that_shares_its_mean():
    above, below = means().figure.axes
    for axes, cells in ((above, 2), (below, 2 * 4 * 4)):
        written = [text.get_text() for text in axes.texts]
        assert [written.count(letter) for letter in "abcd"] == [cells, cells, cells, 0]
    assert "all 32 cells of a map" in means().description


def test_the_marked_value_is_told_apart_from_the_others():
    words = joined().description
    assert "far: the marked value goes from 9 to 1.41" in words
    assert "others from between 0 and 1 to between -0.82 and -0.58" in words


def test_a_cloud_is_told_by_its_spread_and_correlation():
    assert "tied: standard deviations" in cloud().description
    assert "correlation -1.0" in cloud().description


def test_shapes_are_told_by_their_moments():
    words = shapes().description
    assert "before mean 1.0, standard deviation 1.7, skewness 1.15, kurtosis 2.33" in words
    assert "after mean 0.0, standard deviation 1.0, skewness 1.15, kurtosis 2.33" in words


def test_a_computation_is_told_by_its_arrows_and_gradients():
    words = graph().description
    assert "Arrows forth: x to var; var to x_hat." in words
    assert words.endswith("Gradients: dl/dvar at var.")
    with pytest.raises(ValueError, match="no node 'z'; there is x"):
        diagrams.computation({"x": (0, 0)}, [("x", "z")], {}, title="A finding")


def test_of_three_examples_the_part_sent_on_is_what_the_compact_gradient_leaves():
    # x_hat = (2, -1, -1) / sqrt 2; of g = (1, 2, 0), the part orthogonal to 1 and to x_hat is
    # (0, 1, -1), the part along 1 is (1, 1, 1), and nothing lies along x_hat.
    words = three().description
    assert "at (1.41, -0.71, -0.71)" in words
    assert "the part along 1 has length 1.73, the part along x_hat 0.00" in words
    assert words.endswith("has length 1.41.")
    with pytest.raises(ValueError, match="not all equal"):
        diagrams.three_examples([1.0, 1.0, 1.0], [1.0, 2.0, 0.0], title="A finding")


def test_factors_are_told_with_their_product():
    words = products().description
    assert "here: first 2, second 6; all 12." in words
    assert "there: first 4, second 0.5; all 2." in words
    with pytest.raises(ValueError, match="must be positive"):
        diagrams.factors({BLUE: {"none": 0.0}}, title="A finding", quantity="steps")


def test_a_step_at_a_right_angle_lengthens_and_turns_by_what_pythagoras_says():
    words = steps().description
    assert "length 1: becomes 1.41, turned by 45 degrees" in words
    assert "length 2: becomes 2.06, turned by 14 degrees" in words


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match=r"clouds: 'a' has shape \(20, 3\); it must be \(m, 2\)"):
        diagrams.clouds({"a": np.zeros((20, 3))}, title="", names=("x", "y"))
    for lengths in ([], [0], [1, -1], [np.nan]):
        with pytest.raises(ValueError, match=r"tangent_steps: lengths are .* each positive"):
            diagrams.tangent_steps(lengths, pull=1, rate=1, title="")
