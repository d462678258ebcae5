"""The Figure 1 experiment: what it runs, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bn_core.experiments import figure1, figure1_settings, records
from bn_core.experiments.claims import Effect, judge
from bn_core.experiments.figure1 import CLAIMS, Run
from bn_core.lab.sweeps import Report
from bn_core.lab.training import Training

RESULTS = Path(__file__).parents[2] / "results"
STEPS = [50, 100, 150, 1000]


def run(arm, accuracy, movement=1.0, before=1.0, **changes):
    blank = [[0.0] * 3] * len(STEPS)
    made = Run(
        arm, 0, STEPS, accuracy, [1.0] * len(STEPS), 0, blank, blank,
        [movement] * 100, [before] * 100, None, 1.0,
    )  # fmt: skip
    return replace(made, **changes)


def effect(claim_id, *runs, scale="live"):
    result = figure1.Result(scale, figure1.ARMS, (0,), runs, {})
    return next(c for c in CLAIMS if c.id == claim_id).measure(result, 0)


SOON, LATE, NEVER = [0.9] * 4, [0.1, 0.2, 0.85, 0.88], [0.1] * 4


def test_speed_up_is_the_ratio_of_first_recorded_steps_at_the_target():
    found = effect("figure1.fewer-steps", run("bn", [0.1, 0.9, 0.9, 0.9]), run("plain", LATE))
    assert found == Effect(0, 150 / 100)


def test_a_network_that_is_there_at_the_first_record_bounds_the_speed_up():
    found = effect("figure1.fewer-steps", run("bn", SOON), run("plain", LATE))
    assert found == Effect(0, 150 / 50, "at least")


def test_the_target_at_paper_scale_is_higher():
    runs = run("bn", [0.9, 0.96, 0.96, 0.96]), run("plain", [0.9, 0.9, 0.9, 0.96])
    assert effect("figure1.fewer-steps", *runs, scale="paper").value == 1000 / 100


@pytest.mark.parametrize(
    ("bn", "plain", "value", "bound"),
    [
        (SOON, NEVER, 20, "at least"),
        (NEVER, LATE, 0.15, "at most"),
        (NEVER, NEVER, math.nan, ""),
        (SOON, SOON, math.nan, ""),
    ],
)
def test_a_network_that_never_arrives_bounds_the_speed_up(bn, plain, value, bound):
    found = effect("figure1.fewer-steps", run("bn", bn), run("plain", plain))
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.bound == bound


def test_gain_is_in_points_over_the_last_tenth_of_training():
    runs = run("bn", [0, 0, 0, 0.95]), run("plain", [1, 1, 1, 0.9])
    assert effect("figure1.higher-accuracy", *runs).value == pytest.approx(5)


def test_gain_after_divergence_cannot_be_told():
    runs = run("bn", SOON), run("plain", LATE, diverged_at=120)
    assert math.isnan(effect("figure1.higher-accuracy", *runs).value)


def test_stability_compares_mean_movement_after_and_before_the_normalization():
    runs = run("bn", SOON, 0.5, 2.0), run("plain", SOON, 1.0, 1.0)
    assert effect("figure1.stabler-inputs", *runs).value == 2
    assert effect("figure1.stabler-before-norm", *runs).value == 0.5


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.id.startswith("figure1.") for claim in CLAIMS)


@pytest.fixture(scope="module")
def short():
    """A run of few steps with one seed, of every arm."""
    saved = figure1.SCALES["live"]
    figure1.SCALES["live"] = replace(saved, steps=120)
    try:
        yield figure1.run("live", seeds=(3,))
    finally:
        figure1.SCALES["live"] = saved


def test_a_run_measures_every_arm_at_the_same_steps(short):
    assert [(r.arm, r.seed) for r in short.runs] == [(arm.name, 3) for arm in figure1.ARMS]
    for r in short.runs:
        assert r.steps == list(range(10, 121, 10))
        assert {len(r.accuracy), len(r.loss), len(r.typical), len(r.mean)} == {12}
        assert len(r.movement) == len(r.movement_before_norm) == 100
        assert r.movement[r.typical_unit] == sorted(r.movement)[50]


def test_a_run_counts_every_test_example_once_for_each_unit(short):
    for r in short.runs:
        seen = r.histograms
        assert seen.steps == figure1.histogram_at(120)
        assert {len(row) for row in seen.typical + seen.units} == {len(seen.edges) - 1}
        assert {sum(row) for row in seen.typical} == {1000}
        assert {sum(row) for row in seen.units} == {1000 * 100}


def test_the_percentiles_of_the_typical_unit_are_those_of_its_histogram(short):
    for r in short.runs:
        for step, row in zip(r.histograms.steps, r.histograms.typical, strict=True):
            below = np.concatenate([[0], np.cumsum(row)]) / sum(row)
            from_bins = np.interp([0.15, 0.5, 0.85], below, r.histograms.edges)
            within = r.histograms.edges[1] - r.histograms.edges[0]
            assert from_bins == pytest.approx(r.typical[r.steps.index(step)], abs=within)


def test_steps_without_a_histogram_are_left_out():
    percentiles = np.array([[-1.0] * 3, [0.0] * 3, [1.0] * 3])
    measured = {
        "accuracy": [0.5] * 3,
        "after": [percentiles, percentiles + 1, percentiles],
        "before": [percentiles] * 3,
        "counts": [np.full((2, 3), 4), None, np.full((2, 3), 5)],
    }
    training = Training([10, 20, 30], [1.0] * 3, measured, diverged_at=35)
    seen = figure1._summary(figure1.ARMS[0], 0, training, 1.0).histograms
    assert seen.steps == [10, 30]
    assert seen.typical == [[4, 4], [5, 5]]
    assert seen.units == [[12, 12], [15, 15]]


def test_without_normalization_nothing_stands_between_linear_layer_and_sigmoid(short):
    plain = short.one("plain", 3)
    assert plain.movement == plain.movement_before_norm
    bn = short.one("bn", 3)
    assert bn.movement != bn.movement_before_norm


def test_a_seed_gives_the_same_run_again(short):
    arm = figure1.ARMS[0]
    job = (arm, (3,), replace(figure1.SCALES["live"], steps=120))
    [again] = figure1._run_arm(job, Report(None, None))
    assert replace(again, seconds=0.0) == replace(short.one(arm.name, 3), seconds=0.0)


def test_a_seed_among_others_learns_what_it_learns_alone(short):
    job = (figure1.ARMS[0], (2, 3), replace(figure1.SCALES["live"], steps=120))
    _, among = figure1._run_arm(job, Report(None, None))
    alone = short.one("bn", 3)
    assert among.loss == pytest.approx(alone.loss, abs=1e-3)
    assert np.asarray(among.mean) == pytest.approx(np.asarray(alone.mean), abs=1e-2)


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "figure1.json", records.record(figure1.NAME, short))
    assert figure1.recorded(tmp_path) == short


def test_a_record_from_before_there_were_histograms_has_none(short, tmp_path):
    record = records.record(figure1.NAME, short)
    for r in record["runs"]:
        del r["histograms"]
    records.save(tmp_path / "figure1.json", record)
    loaded = figure1.recorded(tmp_path)
    assert {len(r.histograms.steps) for r in loaded.runs} == {0}
    assert loaded.runs[0] == replace(short.runs[0], histograms=figure1.Histograms())


@pytest.mark.parametrize("steps", [50, 3_000, 50_000])
def test_histograms_are_taken_at_recorded_steps_from_the_first_to_the_last(steps):
    at = figure1.histogram_at(steps)
    assert at == sorted(set(at) & set(figure1.record_at(steps)))
    assert (at[0], at[-1]) == (10, steps)
    assert len(at) <= 36


@pytest.mark.parametrize("steps", [50, 120, 2_000, 10_000, 50_000])
def test_measuring_ends_with_the_last_step(steps):
    at = figure1.record_at(steps)
    assert at == sorted(set(at))
    assert at[-1] == steps


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        figure1.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        figure1.run(seeds=())


# The recorded runs


@pytest.fixture(scope="module")
def recorded():
    return figure1.recorded(RESULTS)


def test_the_record_is_the_papers_size(recorded):
    assert recorded.scale == "paper"
    assert len(recorded.seeds) >= 5
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert recorded.arms == figure1.ARMS
    for arm in recorded.arms:
        assert [r.seed for r in recorded.of(arm.name)] == list(recorded.seeds)
    assert {r.steps[-1] for r in recorded.runs if r.diverged_at is None} == {50_000}


def test_the_record_tells_what_it_was_made_with(recorded):
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert recorded.provenance["wall_seconds"] > 0
    assert set(recorded.provenance["versions"]) >= {"python", "torch", "numpy", "bn-core"}


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id


@pytest.mark.parametrize(("arm", "batch_norm"), [("bn-tuned", True), ("plain-tuned", False)])
def test_tuned_settings_are_those_the_sweep_found(arm, batch_norm):
    best = figure1_settings.recorded(RESULTS).best(batch_norm)
    found = next(a for a in figure1.ARMS if a.name == arm)
    assert (found.batch_norm, found.lr, found.init_std) == (batch_norm, best.lr, best.init_std)
