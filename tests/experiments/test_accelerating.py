"""The experiment on the paper's Figure 3: what it measures, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import accelerating, records
from bn_core.experiments.accelerating import CHANCE, CLAIMS, Arm, Result, Run, protocol
from bn_core.experiments.claims import Effect, judge

RESULTS = Path(__file__).parents[2] / "results"
RATE = 0.02
STEPS = [6, 60, 120, 240]
SOON, LATE, NEVER = [0.1, 0.9, 0.9, 0.9], [0.1, 0.2, 0.3, 0.8], [0.1, 0.1, 0.2, 0.3]


def result(**accuracies):
    """Runs of seed 0 by the name in the protocol, with underscores for hyphens."""
    arms = protocol(RATE)
    runs = [
        Run(arms[name.replace("_", "-")], 0, STEPS, values, values[-1], None, 1.0)
        for name, values in accuracies.items()
    ]
    return Result("live", (0,), RATE, tuple(runs), {"date": "today"})


def effect(claim_id, **accuracies):
    claim = next(c for c in CLAIMS if c.id == f"accelerating.{claim_id}")
    return claim.measure(result(**accuracies), 0)


def test_steps_are_counted_to_the_best_of_the_baseline_with_the_same_seed():
    found = result(Baseline=LATE, BN_x5=SOON)
    assert found.target(0) == 0.8
    assert (found.steps("Baseline", 0), found.steps("BN-x5", 0)) == (240, 60)
    assert effect("14-times", Baseline=LATE, BN_x5=SOON) == Effect(0, 4.0)


@pytest.mark.parametrize(
    ("same", "five", "value", "bound"),
    [
        (LATE, SOON, 4, ""),
        (NEVER, SOON, 4, "at least"),
        (SOON, NEVER, 0.25, "at most"),
        (NEVER, NEVER, math.nan, ""),
        (LATE, [0.8] * 4, 40, "at least"),
        ([0.8] * 4, [0.8] * 4, math.nan, ""),
    ],
)
def test_ratio_of_steps_says_where_it_is_a_bound(same, five, value, bound):
    found = effect("x5-faster", Baseline=LATE, BN_Baseline=same, BN_x5=five)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.bound == bound


def test_hurt_is_a_difference_at_the_end_and_failing_a_ratio():
    collapsed = {"Baseline": LATE, "Baseline_x5": [0.1, 0.5, 0.2, 0.1]}
    assert effect("plain-x5-hurts", **collapsed).value == pytest.approx(70)
    assert effect("plain-x5-fails", **collapsed).value == pytest.approx(8)


def test_a_network_that_diverged_ends_at_chance():
    run = Run(Arm(False, 0.1), 0, [8], [0.6], CHANCE, 50, 1.0)
    assert (run.final, run.best) == (CHANCE, 0.6)
    assert replace(run, steps=[], accuracy=[]).best == CHANCE


def test_parts_multiply_to_the_whole():
    middle = [0.1, 0.2, 0.85, 0.9]
    runs = {"Baseline": LATE, "BN_Baseline": middle, "BN_x5": SOON}
    alone, rate = effect("bn-alone", **runs), effect("x5-faster", **runs)
    assert effect("rate-is-larger-part", **runs).value == pytest.approx(rate.value / alone.value)
    assert effect("14-times", **runs).value == pytest.approx(rate.value * alone.value)


def test_near_chance_is_below_twenty_percent():
    assert effect("sigmoid-chance", Sigmoid=[0.1, 0.12, 0.19, 0.1]).value == pytest.approx(1)
    assert effect("sigmoid-chance", Sigmoid=SOON).value == pytest.approx(-70)


def test_the_fastest_is_the_rate_with_the_fewest_steps_on_average():
    found = result(Baseline=LATE, Baseline_x5=SOON, BN_x5=[0.1, 0.2, 0.9, 0.9])
    assert found.rates(batch_norm=False) == [RATE, 5 * RATE]
    assert found.fastest(batch_norm=False) == protocol(RATE)["Baseline-x5"]
    claim = next(c for c in CLAIMS if c.id == "accelerating.against-fastest")
    assert claim.measure(found, 0) == Effect(0, 0.5)


def test_the_baselines_rate_is_the_best_on_held_out_images_on_average():
    runs = [
        Run(Arm(False, lr), seed, STEPS, SOON, held_out, None, 1.0)
        for lr, scores in {0.01: (0.7, 0.7), 0.02: (0.9, 0.6), 0.04: (0.8, 0.1)}.items()
        for seed, held_out in enumerate(scores)
    ]
    assert accelerating.best_rate(runs) == 0.02


def test_the_rate_decays_to_its_last_share_and_six_times_faster_to_its_sixth_power():
    share = accelerating.LAST_SHARE
    assert accelerating.decayed(0.5, 1, 100) == 0.5
    assert accelerating.decayed(0.5, 101, 100) == pytest.approx(0.5 * share)
    assert accelerating.decayed(0.5, 101, 100, 6) == pytest.approx(0.5 * share**6)


def test_arms_are_multiples_of_the_baselines_rate():
    arms = protocol(0.03)
    assert {arms[name].lr for name in ("BN-x5", "BN-x5-Sigmoid", "Baseline-x5")} == {0.15}
    assert arms["BN-x30"].lr == 0.9
    assert len(set(arms.values())) == len(arms)


def test_arms_of_a_seed_start_from_the_same_weights():
    arms = protocol(RATE)
    plain, normalized = (accelerating.network(arms[n], 3) for n in ("Baseline", "BN-Baseline"))
    torch.testing.assert_close(plain.conv2.weight, normalized.conv2.weight, rtol=0, atol=0)
    deep = accelerating.network(arms["Deep-Sigmoid"], 3)
    assert sum(isinstance(layer, nn.Conv2d) for layer in deep) == 6
    assert sum(isinstance(layer, nn.Sigmoid) for layer in deep) == 6


@pytest.mark.parametrize("scale", ["live", "paper"])
def test_measuring_ends_with_the_last_step_and_is_closest_at_the_start(scale):
    size = accelerating.SCALES[scale]
    at = accelerating.record_at(size)
    gaps = np.diff([0, *at])
    assert at[-1] == size.steps
    assert (gaps > 0).all()
    assert (np.diff(gaps) >= 0).all()
    assert gaps[0] * size.records == size.steps


@pytest.fixture(scope="module")
def short():
    """A run of few steps with one seed."""
    with pytest.MonkeyPatch.context() as patch:
        small = replace(accelerating.SCALES["live"], steps=4, records=2)
        patch.setitem(accelerating.SCALES, "live", small)
        # In this process: another would not see the patches.
        patch.setattr(accelerating, "run_all", in_turn)
        return accelerating.run("live", seeds=(3,))


def in_turn(run, jobs, **_):
    report = accelerating.Report(None, None)
    return [run(job, report) for job in jobs]


def test_every_arm_of_the_protocol_is_trained_once(short):
    assert [short.of(name)[0].seed for name in protocol(short.rate)] == [3] * 13
    assert len(short.runs) == 13
    assert all(run.steps == [2, 4] for run in short.runs if run.diverged_at is None)
    with pytest.raises(KeyError, match="no run of arm 'Baseline' with seed 9"):
        short.one("Baseline", 9)


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "accelerating.json", records.record(accelerating.NAME, short))
    assert accelerating.recorded(tmp_path) == short


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("accelerating.") for claim in CLAIMS)


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        accelerating.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        accelerating.run(seeds=())


# The recorded run


@pytest.fixture(scope="module")
def recorded():
    return accelerating.recorded(RESULTS)


def test_the_record_is_of_fashion_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.provenance["data"]["name"] == "fashion-mnist"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert recorded.seeds == (0, 1, 2, 3, 4)
    for arm in protocol(recorded.rate):
        assert [run.seed for run in recorded.of(arm)] == [0, 1, 2, 3, 4]


def test_the_recorded_baseline_has_the_best_held_out_rate_of_all_that_were_trained(recorded):
    held_out = recorded.held_out()
    assert max(held_out, key=held_out.get) == recorded.rate
    assert min(held_out) < recorded.rate < max(held_out)


def test_the_record_knows_both_networks_at_every_rate(recorded):
    assert recorded.rates(batch_norm=True) == recorded.rates(batch_norm=False)


def test_every_claim_is_judged_by_every_seed(recorded):
    for claim in CLAIMS:
        assert len(judge(claim, recorded, recorded.seeds).effects) == 5
