"""Dashboard and timeline: one network or two, ours or not, in pictures and in words."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_core.lab import plots
from bn_core.lab.models import figure1_network
from bn_core.lab.probes import Recorder

PICTURES = [plots.dashboard, plots.timeline]


def record(model, x, steps=9, every=2, lr=0.5, **options):
    torch.manual_seed(1)
    labels = torch.randint(3, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Recorder(model, every=every, **options) as recorder:
        for _ in range(steps):
            loss = F.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return recorder


def digits():
    return torch.rand(30, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ours():
    """With and without normalization."""
    return {
        name: record(
            figure1_network(norm, init_std=0.3, generator=torch.Generator().manual_seed(0)),
            digits(),
        )
        for name, norm in (("with BN", nn.BatchNorm1d), ("without BN", None))
    }


@pytest.fixture(scope="module")
def theirs():
    """A convolutional network that the book has never seen."""
    torch.manual_seed(0)
    return record(
        nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(4 * 26 * 26, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        ),
        digits()[:, None],
    )


@pytest.mark.parametrize("picture", PICTURES)
def test_one_network_and_two_are_drawn_within_the_width_of_a_page(picture, ours, theirs):
    for recorders in ({plots.Look("mine", "green"): theirs}, ours):
        drawing = picture(recorders, title="A finding")
        png = drawing.png()
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20]) <= 2.02 * plots.PIXELS
        assert drawing.description.startswith("A finding. ")
        assert "nan" not in drawing.description


@pytest.mark.parametrize("picture", PICTURES)
def test_five_lines_are_enough(picture, theirs):
    words = picture(theirs).description
    assert re.match(r"(Inside the network|Layer by layer) from step 0 to step 8\. ", words)
    assert "Layers: 1 = 2 (ReLU), 2 = 5 (ReLU)." in words


def test_the_dashboard_says_what_was_recorded_at_its_first_and_last_moment(ours):
    words = plots.dashboard(ours).description
    assert "one column for each of the steps 0, 4, 8" in words
    for name, recorder in ours.items():
        for record, step in ((0, 0), (-1, 8)):
            for layer in ("sigmoid1", "sigmoid3"):
                history = recorder.layer(layer)
                low, high = history.output.percentiles[record, [1, 3]]
                expected = (
                    rf"{name}, step {step}, {layer}: "
                    rf"middle 70 % of the pre-activation [-0-9. to]+, "
                    rf"middle 70 % of the activation {low:.2f} to {high:.2f}, "
                    rf"saturated {100 * history.saturated[record]:.0f} %, "
                    rf"median gradient {history.gradient_median[record]:.2g}[;.]"
                )
                assert re.search(expected, words), expected


def test_the_timeline_says_how_each_end_of_the_network_began_and_ended(ours):
    words = plots.timeline(ours).description
    for name, recorder in ours.items():
        for layer in ("sigmoid1", "sigmoid3"):
            history = recorder.layer(layer)
            std, saturated = history.input.std, 100 * history.saturated
            size = history.gradient_median
            expected = (
                rf"{name}, {layer}: mean of pre-activation [-0-9.]+ to [-0-9.]+, "
                rf"std of pre-activation {std[0]:.2g} to {std[-1]:.2g}, "
                rf"saturated {saturated[0]:.0f} % to {saturated[-1]:.0f} %, "
                rf"median gradient {size[0]:.2g} to {size[-1]:.2g}[;.]"
            )
            assert re.search(expected, words), expected


def test_the_timeline_draws_every_record_of_every_layer(ours):
    figure = plots.timeline(ours).figure
    panels = np.array(figure.axes).reshape(4, 2)  # mean, std, saturated, gradient
    for column, recorder in enumerate(ours.values()):
        for row, values in enumerate(("mean", "std")):
            lines = panels[row, column].get_lines()
            assert len(lines) == 3
            for line, layer in zip(lines, ("sigmoid1", "sigmoid2", "sigmoid3"), strict=True):
                np.testing.assert_array_equal(line.get_xdata(), recorder.steps)
                expected = getattr(recorder.layer(layer).input, values)
                np.testing.assert_array_equal(line.get_ydata(), expected)


@pytest.mark.parametrize("picture", PICTURES)
def test_nothing_that_is_drawn_lies_outside_its_panel(picture, ours):
    """Shares and gradients of all columns of a row count for its common axis."""
    figure = picture(ours).figure
    columns = 3 if picture is plots.dashboard else 2
    for axes in np.array(figure.axes).reshape(4, columns)[2:].flat:
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            y = np.asarray(line.get_ydata(), dtype=float)
            assert (y[np.isfinite(y)] >= low).all()
            assert (y[np.isfinite(y)] <= high).all()


def test_panels_are_there_for_what_the_layers_have(ours, theirs):
    """Sigmoids saturate, ReLUs die, and where neither can happen neither is shown."""
    gelu = record(nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.GELU()), digits())
    for recorder, shares in ((ours["with BN"], "saturated"), (theirs, "dead"), (gelu, "")):
        labels = [axes.get_ylabel() for axes in plots.dashboard(recorder).figure.axes[::3]]
        expected = ["pre-activation", "activation", shares, "gradient"]
        assert labels == [label for label in expected if label]


def test_moments_are_the_nearest_records(theirs):
    figure = plots.dashboard(theirs, at=[0, 5, 1000]).figure
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "step 0",
        "step 4",
        "step 8",
    ]
    assert "step 4," in plots.dashboard(theirs, at=[4]).description


def test_layers_can_be_chosen_and_then_are_not_called_activations(ours):
    words = plots.dashboard(ours["with BN"], layers=["norm1", "sigmoid1"]).description
    assert "Layers: 1 = norm1, 2 = sigmoid1." in words
    assert "of the layer's input and of the layer's output" in words
    words = plots.timeline(ours["with BN"], layers=["norm3"]).description
    assert "norm3: mean of layer's output" in words


def test_of_a_deep_network_some_layers_are_shown_and_it_is_said():
    layers = [m for _ in range(12) for m in (nn.Linear(6, 6), nn.Tanh())]
    recorder = record(nn.Sequential(*layers), torch.rand(30, 6), steps=3)
    words = plots.timeline(recorder).description
    assert "1 = 1 (Tanh)" in words
    assert "12 = 23 (Tanh) (5 of 12 shown)" in words
    assert "12 = 23 (Tanh) (8 of 12 shown)" in plots.dashboard(recorder).description


def test_networks_of_other_layers_are_named_each(ours, theirs):
    words = plots.dashboard({"one": ours["with BN"], "two": theirs}).description
    assert "Layers one: 1 = sigmoid1, 2 = sigmoid2, 3 = sigmoid3." in words
    assert "Layers two: 1 = 2 (ReLU), 2 = 5 (ReLU)." in words


def test_without_a_nonlinearity_all_recorded_layers_are_shown():
    recorder = record(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), digits())
    assert "Layers: 1 = 1 (Linear)." in plots.timeline(recorder).description


@pytest.mark.parametrize("picture", PICTURES)
def test_a_network_that_diverged_is_drawn_all_the_same(picture):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 3))
    recorder = record(model, digits(), steps=12, every=1, lr=1e38)
    assert not np.isfinite(recorder.layer("2").input.mean[-1])
    drawing = picture(recorder)
    drawing.png()
    assert not re.search(r"\d{9}|nan", drawing.description)


@pytest.mark.parametrize("picture", PICTURES)
def test_layers_that_no_gradient_reaches_are_drawn_all_the_same(picture):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 3), nn.ReLU())
    with Recorder(model, every=1) as recorder:
        model(torch.full((2, 28, 28), 0.5))
    drawing = picture(recorder)
    drawing.png()
    assert "gradient unknown" in drawing.description


@pytest.mark.parametrize("picture", PICTURES)
def test_what_cannot_be_drawn_is_said(picture, ours):
    with pytest.raises(RuntimeError, match="Recorder: nothing was recorded"):
        picture(Recorder(nn.Sequential(nn.ReLU())))
    with pytest.raises(ValueError, match="got 3 networks; 1 or 2 fit side by side"):
        picture({**ours, "third": ours["with BN"]})
    with pytest.raises(ValueError, match="got 0 networks"):
        picture({})
    with pytest.raises(KeyError, match="layer 'relu' was not recorded"):
        picture(ours, layers=["relu"])
    with pytest.raises(ValueError, match=r"layers is the string '12'; give a list, \['12'\]"):
        picture(ours, layers="12")


@pytest.mark.parametrize("at", [[], range(5)])
def test_a_few_moments_fit_side_by_side(at, ours):
    with pytest.raises(ValueError, match=f"`at` has {len(at)} steps; 1 to 4 fit"):
        plots.dashboard(ours, at=at)
