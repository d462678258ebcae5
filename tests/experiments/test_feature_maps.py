"""The feature-map experiment: what it runs, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import feature_maps, records
from bn_core.experiments.claims import judge
from bn_core.experiments.feature_maps import CLAIMS, SIZES, Run
from bn_core.lab.probes import share_between_examples
from bn_core.lab.sweeps import Report

RESULTS = Path(__file__).parents[2] / "results"
STEPS = list(range(20, 220, 20))
THREES = [[1.0] * 3] * len(STEPS)
EVEN = [[1.0] * len(SIZES)] * 3


def run(arm, **changes):
    made = Run(
        arm, 0, STEPS, [0.9] * len(STEPS), [1.0] * len(STEPS),
        THREES, THREES, THREES, THREES, THREES, THREES, [1.0] * 3, [1.0] * 3,
        [0.1] * 3, EVEN, EVEN, [0.1] * 3, EVEN, None, 1.0,
    )  # fmt: skip
    return replace(made, **changes)


def effect(claim_id, *runs):
    result = feature_maps.Result("live", feature_maps.ARMS, (0,), runs, {})
    claim = next(c for c in CLAIMS if c.id == f"feature_maps.{claim_id}")
    return claim.measure(result, 0).value


def test_gains_are_before_minus_after_in_points():
    late = [0.5] * 8 + [0.8] * 2
    runs = run("before"), run("after", accuracy=late)
    assert effect("before-higher", *runs) == pytest.approx(10)
    assert effect("before-sooner", *runs) == pytest.approx(100 * (0.9 - np.mean(late)))
    runs = run("before-sigmoid", accuracy=late), run("after-sigmoid")
    assert effect("before-higher-sigmoid", *runs) == pytest.approx(-10)
    runs = run("before-own-rate"), run("after", accuracy=late)
    assert effect("before-higher-own-rate", *runs) == pytest.approx(10)


def test_gain_after_divergence_cannot_be_told():
    assert math.isnan(effect("before-higher", run("before"), run("after", diverged_at=7)))


@pytest.mark.parametrize(
    ("claim_id", "arm", "what"),
    [
        ("more-symmetric", "before", "skewness"),
        ("closer-to-gaussian", "before", "kurtosis"),
        ("more-symmetric-sigmoid", "before-sigmoid", "skewness"),
    ],
)
def test_shapes_are_compared_at_the_end_of_training(claim_id, arm, what):
    active = [*THREES[:-1], [1.0, 2.0, 3.0]]
    linear = [*THREES[:-1], [0.5] * 3]
    changes = {f"{what}_active": active, f"{what}_linear": linear}
    assert effect(claim_id, run(arm, **changes)) == pytest.approx(4)


def test_steadiness_compares_drift_and_zeros_are_in_points():
    one = run("before", drift_active=[3.0] * 3, zeros_linear=[[0.25] * 3] * len(STEPS))
    assert effect("steadier-shape", one) == pytest.approx(3)
    assert effect("not-sparse", one) == pytest.approx(75)


def test_errors_of_the_two_factors_are_in_percent_of_the_population_variance():
    half = [[0.5, *[1.0] * (len(SIZES) - 1)]] * 3
    one = run("before", ratio=half, ratio_bright=EVEN)
    right = np.mean([n / (n - 1) for n in (2 * 196, 2 * 49, 2 * 16)])
    assert effect("factor-too-small", one) == pytest.approx(100 * (1 - 0.5 * right))
    assert effect("factor-too-small-bright", one) == pytest.approx(100 * (1 - right))
    assert effect("examples-too-large", one) == pytest.approx(0)


def test_noise_is_compared_with_the_size_of_the_error_whatever_its_sign():
    independent = [1 / 196, 1 / 49, 1 / 16]
    more = run("before", between=[2 * r for r in independent])
    less = run("before", between=[0.0] * 3)
    found = [effect("noise-is-larger", one) for one in (more, less)]
    assert found[0] == pytest.approx(found[1])
    errors = [r / 60 / (1 - r / 60) for r in independent]
    assert found[0] == pytest.approx(1 / np.mean(errors))


def test_independent_positions_make_the_factor_exact():
    one = run("before", between=[1 / 196, 1 / 49, 1 / 16])
    assert [one.expected(layer, 2) for layer in range(3)] == pytest.approx([1] * 3)


def maps(n=40, seed=0):
    """Correlated maps: a common level for each example, and noise."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(n, 2, 1, 1, generator=generator)
    return level + torch.randn(n, 2, 3, 5, generator=generator) + 100


def test_variances_are_those_of_the_batches_that_were_drawn():
    x = maps()
    [found] = feature_maps.batch_variances(x, [4], 7, torch.Generator().manual_seed(1))
    chosen = torch.randint(40, (7, 4), generator=torch.Generator().manual_seed(1))
    of_all = x.double().var((0, 2, 3), correction=0)
    for row, batch in zip(found, chosen, strict=True):
        expected = x[batch].double().var((0, 2, 3), correction=0) / of_all
        torch.testing.assert_close(row, expected)


def test_the_average_of_all_batches_is_what_the_share_between_examples_says():
    """Every batch of 2 of 6 examples, drawn with replacement: E[var_B] = (1 - r/2) sigma^2."""
    x = maps(6).double()
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    average = torch.stack([x[pair].var((0, 2, 3), correction=0) for pair in pairs]).mean(0)
    expected = (1 - share_between_examples(x) / 2) * x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(average, expected)


def test_random_brightness_lifts_the_darkest_pixel_and_keeps_white():
    images = torch.zeros(50, 28, 28)
    images[:, 0, 0] = 1
    bright = feature_maps.at_random_brightness(images, torch.Generator().manual_seed(0))
    assert (bright[:, 0, 0] == 1).all()
    levels = bright[:, 5, 5]
    assert (bright[:, 1:] == levels[:, None, None]).all()
    assert 0 <= levels.min() < 0.1 < 0.9 < levels.max() <= 1


def test_random_brightness_is_the_images_own_with_and_without_an_axis_of_channels():
    images = torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0))
    flat, deep = (
        feature_maps.at_random_brightness(x, torch.Generator().manual_seed(1))
        for x in (images, images[:, None])
    )
    assert deep.shape == (4, 1, 28, 28)
    assert torch.equal(deep[:, 0], flat)


def test_rows_are_positions_and_columns_are_maps():
    x = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    rows = feature_maps.as_rows(x)
    assert rows.shape == (8, 3)
    assert rows[5].tolist() == x[1, :, 0, 1].tolist()


def test_outputs_are_those_of_inference_and_the_mode_is_restored():
    network = feature_maps.ARMS[0].network(0).train()
    images = torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(0))
    found = feature_maps.layer_outputs(network, images)
    assert network.training
    assert network.norm1.num_batches_tracked == 0
    with torch.no_grad():
        torch.testing.assert_close(found["linear"], network.eval()(images))
        torch.testing.assert_close(found["conv1"], network.conv1(images[:, None]))


def test_positions_are_those_of_the_maps():
    network = feature_maps.ARMS[0].network(0)
    found = feature_maps.layer_outputs(network, torch.zeros(1, 28, 28))
    sizes = [found[f"conv{i + 1}"][0, 0].numel() for i in range(feature_maps.LAYERS)]
    assert sizes == [feature_maps.positions(i) for i in range(feature_maps.LAYERS)]


def test_arms_of_a_seed_start_from_the_same_weights():
    networks = [arm.network(4) for arm in feature_maps.ARMS]
    assert all(torch.equal(net.conv2.weight, networks[0].conv2.weight) for net in networks)
    assert {type(net.activation1) for net in networks} == {nn.ReLU, nn.Sigmoid}


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("feature_maps.") for claim in CLAIMS)


@pytest.fixture(scope="module")
def short():
    """Few steps, one seed, two of the arms, in this process."""
    size = replace(feature_maps.SCALES["live"], steps=20, watched=30, population=100, batches=50)
    arms = [feature_maps.ARMS[i] for i in (0, 5)]
    runs = tuple(feature_maps._run_one((arm, 3, size), Report(None, None)) for arm in arms)
    provenance = {**records.environment(), "data": {"name": "mnist-5k", "sha256": "0" * 64}}
    return feature_maps.Result(
        "live", feature_maps.ARMS, (3,), runs, {**provenance, "wall_seconds": 1.0}
    )


def test_a_run_measures_every_layer_at_ten_moments(short):
    for one in short.runs:
        assert len(one.steps) == len(one.accuracy) == len(one.skewness_linear) == 10
        assert {len(row) for row in one.kurtosis_active} == {3}
        assert np.asarray(one.ratio).shape == (3, len(SIZES))
        assert np.isfinite([*one.drift_linear, *one.drift_active, *one.between]).all()


def test_a_seed_gives_the_same_run_again(short):
    size = replace(feature_maps.SCALES["live"], steps=20, watched=30, population=100, batches=50)
    again = feature_maps._run_one((feature_maps.ARMS[0], 3, size), Report(None, None))
    assert replace(again, seconds=0.0) == replace(short.runs[0], seconds=0.0)


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        feature_maps.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        feature_maps.run(seeds=())


# The recorded runs


@pytest.fixture(scope="module")
def recorded():
    return feature_maps.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert len(recorded.seeds) >= 5
    assert recorded.provenance["data"]["name"] == "mnist"
    assert recorded.arms == feature_maps.ARMS
    for arm in recorded.arms:
        assert [r.seed for r in recorded.of(arm.name)] == list(recorded.seeds)


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id


def test_recorded_batches_have_the_variance_that_r_predicts(recorded):
    """10,000 batches of 60 leave an error of a few parts in ten thousand."""
    for one in recorded.runs:
        for layer in range(feature_maps.LAYERS):
            assert one.corrected(layer, 60) == pytest.approx(one.expected(layer, 60), abs=0.004)
