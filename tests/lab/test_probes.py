"""The recorder of percentiles, and the movement of a distribution."""

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.lab.probes import Recorder, movement


@pytest.fixture
def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()).eval()


def test_percentiles_are_those_of_what_enters_the_layer(convolutional):
    images = torch.randn(40, 1, 5, 5)
    with Recorder(convolutional, ["2"]) as recorder, torch.no_grad():
        convolutional(images[:25])
        convolutional(images[25:])
        recorder.take(7)
    with torch.no_grad():
        entering = convolutional[1](convolutional[0](images)).flatten(1)
    expected = np.percentile(entering.numpy(), [15, 50, 85], axis=0)
    assert recorder.steps == [7]
    np.testing.assert_allclose(recorder.percentiles("2"), expected[None], rtol=1e-6)


def test_training_passes_are_not_looked_at(convolutional):
    with Recorder(convolutional, ["2"]) as recorder:
        convolutional(torch.randn(4, 1, 5, 5))
        with pytest.raises(RuntimeError, match="nothing entered '2'"):
            recorder.take(0)


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays_behind(convolutional, fails):
    recorder = Recorder(convolutional, ["1", "2"])
    try:
        with recorder:
            assert convolutional[1]._forward_pre_hooks
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not any(module._forward_pre_hooks for module in convolutional.modules())


def test_what_is_recorded_does_not_change_the_outputs(convolutional):
    images = torch.randn(4, 1, 5, 5)
    expected = convolutional(images)
    with Recorder(convolutional, ["1"]):
        torch.testing.assert_close(convolutional(images), expected)


def test_an_unknown_layer_is_named_with_those_there_are(convolutional):
    with pytest.raises(ValueError, match="no layer 'relu'; it has 0, 1, 2, 3"):
        Recorder(convolutional, ["relu"])


def fan(median, width):
    """One unit whose percentiles are median - width, median, median + width."""
    median, width = np.broadcast_arrays(median, width)
    return np.stack([median - width, median, median + width], axis=1)[:, :, None]


def test_what_stands_still_does_not_move():
    assert movement(fan(np.full(5, 3.0), 1.0), range(5))[0] == 0


def test_a_steady_drift_moves_by_its_length_over_root_12_widths():
    """A uniform distribution of length 6 has standard deviation 6 / sqrt(12); the width is 2."""
    steps = np.linspace(0, 1000, 5001)
    drift = fan(6 * steps / 1000, 1.0)
    assert movement(drift, steps)[0] == pytest.approx(6 / 12**0.5 / 2, rel=1e-3)


def test_movement_does_not_depend_on_unit_of_measurement_or_origin():
    rng = np.random.default_rng(0)
    wandering = fan(rng.normal(size=30), 1 + rng.random(30))
    steps = np.cumsum(rng.integers(1, 9, 30))
    assert movement(5 * wandering - 80, steps) == pytest.approx(movement(wandering, steps))


def test_records_that_are_closer_together_do_not_weigh_more():
    """A square wave, half the time at 0 and half at 2, recorded densely in its first half only."""
    steps = [*np.linspace(0, 499.5, 1000), *np.linspace(500, 1000, 101)]
    wave = fan(np.where(np.array(steps) < 500, 0.0, 2.0), 1.0)
    assert movement(wave, steps)[0] == pytest.approx(0.5, rel=1e-3)


def test_movement_needs_two_records_and_their_steps():
    with pytest.raises(ValueError, match="1 records for 1 steps"):
        movement(fan([0.0], 1.0), [0])
    with pytest.raises(ValueError, match="2 records for 3 steps"):
        movement(fan([0.0, 1.0], 1.0), [0, 1, 2])
