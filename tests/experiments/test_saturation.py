"""The saturation experiment: what it measures, records and claims."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_core.experiments import records, saturation, schema
from bn_core.experiments.claims import Effect, judge
from bn_core.experiments.saturation import CLAIMS, INITS, Scaled, Start, Trained
from bn_core.lab.models import sigmoid_network

RESULTS = Path(__file__).parents[2] / "results"
STEPS = [0, 100, 200, 400]


def result(starts=(), scaled=(), trained=(), scale="live"):
    return saturation.Result(
        scale, (0,), INITS, tuple(starts), tuple(scaled), tuple(trained), {"date": "today"}
    )


def effect(claim_id, **parts):
    claim = next(c for c in CLAIMS if c.id == f"saturation.{claim_id}")
    return claim.measure(result(**parts), 0)


def trained(init, depth, accuracy, saturated=(0.0, 0.0, 0.0, 0.0)):
    layers = [[share] * depth for share in saturated]
    return Trained(init, depth, 0, STEPS, accuracy, layers, [0.1] * 4, None)


def start(init, depth, survival):
    return Start(init, depth, 0, survival, path=0.1, bound=1.0)


def scaled(std, survival, share=0.0, width=100):
    return Scaled(std, 6, width, 0, survival, survival, [share] * 6, [share] * 6)


SOON, LATE, NEVER = [0.1, 0.8, 0.9, 0.9], [0.1, 0.1, 0.15, 0.75], [0.1] * 4


@pytest.mark.parametrize(
    ("narrow", "xavier", "value", "bound"),
    [
        (LATE, SOON, 4, ""),
        (NEVER, SOON, 4, "at least"),
        (SOON, NEVER, 0.25, "at most"),
        (NEVER, NEVER, math.nan, ""),
    ],
)
def test_ratio_of_steps_says_where_it_is_a_bound(narrow, xavier, value, bound):
    runs = trained("narrow", 3, narrow), trained("xavier", 3, xavier)
    found = effect("xavier-fewer-steps-3", trained=runs)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.bound == bound


def test_the_target_at_paper_scale_is_higher():
    slow, fast = [0.1, 0.75, 0.8, 0.95], [0.1, 0.95, 0.95, 0.95]
    runs = trained("narrow", 6, slow), trained("xavier", 6, fast)
    assert effect("xavier-fewer-steps-6", trained=runs, scale="paper") == Effect(0, 4)
    assert effect("xavier-fewer-steps-6", trained=runs) == Effect(0, 1)


def test_what_moved_in_is_the_mean_share_at_the_end_less_that_at_the_start():
    run = trained("narrow", 3, SOON, [0.02, 0.5, 0.6, 0.12])
    assert effect("moves-in", trained=[run]).value == pytest.approx(10)


def test_deeper_less_shallower_at_the_end():
    runs = trained("narrow", 6, NEVER, [0, 0, 0, 0.3]), trained("narrow", 3, SOON, [0, 0, 0, 0.1])
    assert effect("deeper-saturates", trained=runs).value == pytest.approx(20)


def test_waiting_ends_at_a_fifth():
    run = trained("narrow", 3, LATE, [0.0, 0.001, 0.004, 0.7])
    assert effect("waits-unsaturated", trained=[run]).value == pytest.approx(0.6)
    at_once = replace(trained("narrow", 3, [0.3, 0.8, 0.9, 0.9]))
    assert math.isnan(effect("waits-unsaturated", trained=[at_once]).value)


def test_survival_is_compared_by_initialization_and_by_depth():
    starts = start("xavier", 12, 0.06), start("narrow", 12, 0.02), start("xavier", 6, 0.3)
    assert effect("xavier-over-narrow", starts=starts).value == pytest.approx(3)
    assert effect("xavier-keeps", starts=starts).value == pytest.approx(0.2)


def test_a_peak_is_judged_against_the_higher_end():
    sweep = scaled(0.1, 0.01), scaled(1.0, 0.5, share=0.9), scaled(9.0, 0.1), scaled(20, math.nan)
    assert effect("peaks", scaled=sweep).value == pytest.approx(50)
    assert effect("peak-is-unsaturated", scaled=sweep).value == pytest.approx(-40)
    at_the_edge = scaled(0.1, 0.01), scaled(1.0, 0.5)
    assert effect("peaks", scaled=at_the_edge).value == 1  # which is not above the threshold


def test_the_peak_moves_by_the_ratio_of_its_places():
    narrow = [scaled(s, v, width=25) for s, v in ((1, 0.1), (2, 0.3), (6, 0.2))]
    wide = [scaled(s, v, width=400) for s, v in ((1, 0.1), (2, 0.3), (6, 0.4))]
    assert effect("peak-moves", scaled=narrow + wide).value == 3


def test_the_product_bound_is_that_of_the_matrices_between_the_sigmoids():
    network = sigmoid_network(3, width=4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.linear1.weight.fill_(100.0)
        network.linear2.weight.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])))
        network.linear3.weight.copy_(torch.diag(torch.tensor([-5.0, 2.0, 3.0, 4.0])))
        network.linear4.weight.fill_(100.0)
    assert saturation.product_bound(network) == pytest.approx(4 * 5 / 4**3)


def test_initializations_are_told_apart_by_their_weights():
    networks = {init.name: init.network(2, 100, 0) for init in INITS}
    spreads = {name: network.linear2.weight.std().item() for name, network in networks.items()}
    assert spreads["narrow"] == pytest.approx(0.1, rel=0.03)
    assert spreads["wide"] == pytest.approx(1.0, rel=0.03)
    assert spreads["xavier"] == spreads["centred"] == pytest.approx(0.4, rel=0.03)
    biased = [name for name, network in networks.items() if network.linear2.bias.any()]
    assert biased == ["centred"]


@pytest.mark.parametrize("steps", [50, 1_800, 2_000, 8_000])
def test_measuring_begins_with_the_first_and_ends_with_the_last_step(steps):
    at = saturation.record_at(steps)
    assert at == sorted(set(at))
    assert (at[0], at[-1]) == (0, steps)


@pytest.fixture(scope="module")
def short():
    """A run of few steps and small grids with one seed."""
    with pytest.MonkeyPatch.context() as patch:
        small = replace(saturation.SCALES["live"], steps=20, examples=40)
        patch.setitem(saturation.SCALES, "live", small)
        patch.setattr(saturation, "DEPTHS", (1, 3, 5))
        patch.setattr(saturation, "STDS", (0.1, 1.0))
        patch.setattr(saturation, "SHAPES", ((3, 100),))
        patch.setattr(saturation, "TRAINED", ("xavier",))
        # In this process: another would not see the patches.
        patch.setattr(saturation, "run_all", in_turn)
        return saturation.run("live", seeds=(3,))


def in_turn(run, jobs, **_):
    report = saturation.Report(None, None)
    return [run(job, report) for job in jobs]


def test_no_gradient_exceeds_the_bound_and_no_path_a_quarter_per_layer(short):
    assert len(short.starts) == len(INITS) * 3
    for each in short.starts:
        assert 0 < each.survival <= each.bound
        assert 0 < each.path <= 0.25**each.depth


def test_with_one_sigmoid_and_small_weights_a_quarter_survives():
    network = sigmoid_network(1, init_std=1e-4, generator=torch.Generator().manual_seed(0))
    images = torch.rand(4, 28, 28).double()
    passed = saturation.passage(network.double(), images, torch.arange(4), ["sigmoid1"])
    np.testing.assert_allclose(passed.survival, 0.25, rtol=1e-4)


def test_shares_are_near_what_gaussians_would_have(short):
    for each in short.scaled:
        assert len(each.saturated) == len(each.predicted) == each.depth
        assert np.abs(np.subtract(each.saturated, each.predicted)).max() < 0.15
    few, many = (s.saturated for s in short.sweep(3, 100, 3))
    assert max(few) < 0.05 < 0.4 < min(many)


def test_training_is_measured_layer_by_layer(short):
    assert [(t.init, t.depth) for t in short.trained] == [("xavier", 3), ("xavier", 6)]
    for each in short.trained:
        assert each.steps == [0, 20]
        assert np.shape(each.saturated) == (2, each.depth)


def test_a_record_gives_the_result_back(short, tmp_path):
    whole = result(short.starts, short.scaled, short.trained)
    whole = replace(whole, provenance=short.provenance)
    assert schema.made(saturation.Result, schema.plain(whole)) == whole


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("saturation.") for claim in CLAIMS)


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        saturation.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        saturation.run(seeds=())


# The recorded run


@pytest.fixture(scope="module")
def recorded():
    return saturation.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert recorded.seeds == (0, 1, 2, 3, 4)
    assert len(recorded.starts) == len(INITS) * len(saturation.DEPTHS) * 5
    assert len(recorded.scaled) == len(saturation.SHAPES) * len(saturation.STDS) * 5
    for depth, width in saturation.SHAPES:
        stds = [s.init_std for s in recorded.sweep(depth, width, 0)]
        assert all(low < high for low, high in pairwise(stds))


def test_the_record_obeys_the_bound(recorded):
    assert all(s.survival <= s.bound and s.path <= 0.25**s.depth for s in recorded.starts)


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id


def test_the_record_satisfies_its_schema(recorded, tmp_path):
    records.save(tmp_path / "saturation.json", records.record(saturation.NAME, recorded))
    assert saturation.recorded(tmp_path) == recorded
