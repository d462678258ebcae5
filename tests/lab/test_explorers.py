"""Explorers outside of a browser: what they store and what they refuse."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bn_core.lab import explorers
from bn_core.lab.plots import Look

BN, PLAIN = Look("with BN", "blue"), Look("without BN", "orange")
FANS = {look: [[-1.0, 0.0, 1.0]] * 4 for look in (BN, PLAIN)}
STEPS = [10, 20, 50, 100]


def test_the_same_explorer_is_stored_the_same():
    first, again = (explorers.batch([-1.0, 0.5, 2.0]) for _ in range(2))
    assert first._repr_mimebundle_() == again._repr_mimebundle_()


def test_the_picture_is_a_png_beside_the_chart_and_the_words():
    data, _ = explorers.batch([-1.0, 0.5, 2.0])._repr_mimebundle_()
    assert set(data) == {explorers.MIME, "image/png", "text/plain"}
    picture = Image.open(io.BytesIO(explorers.batch([-1.0, 0.5, 2.0]).png()))
    assert picture.width > 2 * 2 * explorers.WIDTH


def test_a_batch_is_described_with_what_algorithm_1_makes_of_it():
    said = explorers.batch([1.0, 3.0]).description
    assert "mean 2.00 and variance 1.00" in said
    assert "y is -1.00, 1.00" in said


@pytest.mark.parametrize(
    "bad",
    [
        {"x": []},
        {"x": [1.0]},
        {"x": [0.0, 5.0]},
        {"x": [1.0, np.nan]},
        {"x": [0.0, 1.0], "gamma": 4.0},
        {"x": [0.0, 1.0], "beta": np.nan},
    ],
)
def test_a_batch_that_no_slider_can_show_is_refused(bad):
    with pytest.raises(ValueError, match=r"batch: x is .* at least 2 values in \[-4, 4\]"):
        explorers.batch(**bad)


def test_saturation_is_described_with_its_share_in_the_dead_zone():
    values = torch.tensor([[0.0], [1.0], [2.0], [8.0]])
    assert "25.0 % is in the dead zone" in explorers.saturation(values).description
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        explorers.saturation(values[:, 0])
    with pytest.raises(ValueError, match="saturation: pre_activations has values that are NaN"):
        explorers.saturation(torch.full((4, 1), torch.nan))


@pytest.mark.parametrize("kinds", [[], ["typical unit"], ["typical unit", "all units"]])
def test_time_has_histograms_if_it_is_given_some(kinds):
    edges = np.linspace(-1, 1, 5).tolist()
    tables = {kind: {look: [[1, 2, 3, 4]] * 2 for look in FANS} for kind in kinds}
    made = explorers.time(STEPS, FANS, [10, 100], edges, tables)
    assert len(made.spec["concat"]) == (5 if kinds else 3)
    assert ("histograms" in made.description) == bool(kinds)
    assert made.png().startswith(b"\x89PNG")


def test_moments_and_histograms_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"moments \[30\] are none of the steps"):
        explorers.time(STEPS, FANS, [10, 30])
    with pytest.raises(ValueError, match=r"shape \(1, 2\); it must be \(2, 2\)"):
        explorers.time(STEPS, FANS, [10, 20], [0, 1, 2], {"unit": {BN: [[1, 2]]}})


def test_learning_rate_is_described_with_the_cell_that_is_chosen():
    curves = {BN: [[[0.1, 0.9], [0.2, 0.8]]], PLAIN: [[[0.1, 0.123], [0.1, 0.1]]]}
    made = explorers.learning_rate([0.1, 1.0], [2.0], [10, 20], curves, at=(0.1, 2.0))
    assert made.description.endswith("with 90.0 % with BN and 12.3 % without BN.")
    assert made.png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"at is \(0\.5, 2\.0\); it must be one of the rates"):
        explorers.learning_rate([0.1, 1.0], [2.0], [10, 20], curves, at=(0.5, 2.0))
    with pytest.raises(
        ValueError, match=r"'with BN' has shape \(1, 2, 2\); it must be \(1, 2, 3\)"
    ):
        explorers.learning_rate([0.1, 1.0], [2.0], [10, 20, 30], curves, at=(0.1, 2.0))
