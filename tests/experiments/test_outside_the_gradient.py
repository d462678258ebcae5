"""Normalizing outside the gradient step: what is run, recorded and claimed."""

import math
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bn_core.experiments import outside_the_gradient as experiment
from bn_core.experiments import records
from bn_core.experiments.claims import Verdict, judge
from bn_core.experiments.outside_the_gradient import (
    ARMS,
    CLAIMS,
    PROBLEMS,
    BiasThenNormalization,
    Cost,
    contrast,
    descend,
    largest_share,
    measure_batches,
    network,
)
from bn_core.lab.data import load
from bn_core.whitening import center, center_with_detached_mean

RESULTS = Path(__file__).parents[2] / "results"


def problem(name):
    return next(p for p in PROBLEMS if p.name == name)


def arm(name):
    return next(a for a in ARMS if a.name == name)


def claim(name):
    return next(c for c in CLAIMS if c.id == f"outside_the_gradient.{name}")


# Drift


def test_centered_outside_the_gradient_the_bias_keeps_to_the_formula_and_the_loss_stands():
    found = descend(problem("center-detached"), 3, 50)
    assert found.bias[-1] == pytest.approx(2 * 0.01 * 50 * found.mean_target, rel=1e-12)
    assert found.loss == pytest.approx([found.loss[0]] * 51, rel=1e-12)
    assert found.formula_error < 1e-12
    assert found.farthest == pytest.approx(1)
    assert found.turned_at is None


@pytest.mark.parametrize("name", ["center", "scale"])
def test_with_the_whole_gradient_the_bias_stays(name):
    found = descend(problem(name), 3, 50)
    assert found.farthest < 1e-12
    assert found.formula_error == pytest.approx(1)


def recursion(found, name, steps):
    """b and w of scaling outside the gradient, by the formulas of a derivation without eps."""
    alpha, w, b = problem(name).rate, 1.0, 0.0
    generator = torch.Generator().manual_seed(found.seed)
    std = torch.randn(60, 1, generator=generator, dtype=torch.float64).std(correction=0).item()
    for _ in range(steps):
        b += 2 * alpha * found.mean_target / (abs(w) * std)
        w -= 2 * alpha * (math.copysign(1, w) - found.pull) / abs(w)
    return b, w


@pytest.mark.parametrize("name", ["scale-detached", "scale-detached-steep"])
def test_scaled_outside_the_gradient_weight_and_bias_follow_their_recursion(name):
    found = descend(problem(name), 3, 20)
    b, w = recursion(found, name, 20)
    assert found.bias[-1] == pytest.approx(b, rel=1e-3)  # eps is 1e-5
    assert found.weight[-1] == pytest.approx(w, rel=1e-3)


def test_a_pull_below_one_takes_the_weight_through_zero_about_when_its_square_is_used_up():
    found = descend(problem("scale-detached"), 3, 100)
    assert found.turned_at == pytest.approx(1 / (4 * 0.01 * (1 - found.pull)), rel=0.15)
    assert found.highest_loss > 1.5
    assert found.longest_stride > 10 * abs(2 * 0.01 * found.mean_target)


# Networks


@pytest.fixture(scope="module")
def digits():
    return load().binary()


def test_arms_of_a_seed_begin_with_equal_weights(digits):
    networks = [network(a, digits, 3) for a in ARMS]
    first = [p for p in networks[0].parameters() if p.dim() == 2]
    for other in networks[1:]:
        weights = [p for p in other.parameters() if p.dim() == 2]
        assert all(torch.equal(a, b) for a, b in zip(first, weights, strict=True))


@pytest.mark.parametrize("normalization", ["center", "scale", "whiten"])
def test_a_pair_of_arms_has_equal_scores_and_other_gradients(digits, normalization):
    def scores_and_bias_gradient(name):
        model = network(arm(name), digits, 3)
        scores = model(digits.train_images[:100])
        F.cross_entropy(scores, digits.train_labels[:100]).backward()
        layer = next(x for x in model if isinstance(x, BiasThenNormalization))
        return scores, layer.bias.grad.norm()

    scores, gradient = scores_and_bias_gradient(normalization)
    detached_scores, detached_gradient = scores_and_bias_gradient(f"{normalization}-detached")
    assert torch.allclose(scores, detached_scores, atol=1e-5)
    assert gradient < 1e-6 < 1e-4 < detached_gradient


def test_centered_inputs_have_mean_about_zero_in_front_of_every_linear_layer(digits):
    means = {}
    for name in ("center", "center-centered-inputs"):
        x, means[name] = digits.train_images, []
        for layer in network(arm(name), digits, 3):
            if isinstance(layer, torch.nn.Linear):
                means[name].append(x.mean(0).norm().item())
            x = layer(x)
    assert max(means["center-centered-inputs"]) < 0.2
    assert min(means["center"]) > 2


def test_largest_share_is_one_on_a_line_and_even_in_a_ball():
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([[1.0, -2.0, 3.0]])
    assert largest_share(line) == pytest.approx(1)
    assert largest_share(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(1 / 4)


# Batches and cost


def test_a_small_batch_has_rank_m_minus_one_and_is_whitened_to_equal_distances(digits):
    found = measure_batches(digits, 3, sizes=(2, 40, 300))
    assert found.rank == [1, 39, 100]
    assert max(found.equal_distances[:2]) < 1e-6 < 0.1 < found.equal_distances[2]
    assert math.isnan(found.contrast[0]) or found.sizes[0] > 2
    assert found.contrast_whitened[1] == pytest.approx(1, abs=1e-6)
    assert found.contrast[1] > 1.02


def test_contrast_is_the_ratio_of_mean_distances():
    x = torch.tensor([[0.0], [1.0], [10.0]])
    assert contrast(x, torch.tensor([0, 0, 1])) == pytest.approx(9.5)
    assert math.isnan(contrast(x, torch.tensor([0, 0, 0])))
    assert math.isnan(contrast(x, torch.tensor([0, 1, 2])))


def test_slope_is_the_exponent_of_a_power_law_from_a_size_on():
    dims = [16, 128, 256, 512]
    cost = Cost(0, dims, {"ZCA": [50.0] + [3e-6 * d**2.5 for d in dims[1:]]})
    assert cost.slope("ZCA") == pytest.approx(2.5)
    assert cost.slope("ZCA", least=16) != pytest.approx(2.5)


# The experiment


@pytest.fixture(scope="module")
def short():
    saved = experiment.SCALES["live"]
    experiment.SCALES["live"] = replace(
        saved, drift_steps=80, steps=30, dims=(16, 128, 192), repeats=1
    )
    try:
        with joblib.parallel_config("sequential"):  # two workers would spend the time on imports
            yield experiment.run("live", seeds=(3,))
    finally:
        experiment.SCALES["live"] = saved


def test_a_run_has_every_problem_and_arm_and_can_be_judged(short):
    assert [d.problem for d in short.drifts] == [p.name for p in PROBLEMS]
    assert [r.arm for r in short.runs] == [a.name for a in ARMS]
    for r in short.runs:
        assert {len(r.steps), len(r.loss), len(r.accuracy), len(r.bias), len(r.weight)} == {31}
        assert len(r.alike) == 3
    for c in CLAIMS:
        judge(c, short, short.seeds)
    for name in ("bias-drifts", "through-stands-still", "small-batch-singular"):
        assert judge(claim(name), short, short.seeds).verdict == Verdict.HOLDS


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "outside_the_gradient.json", records.record(experiment.NAME, short))
    back = experiment.recorded(tmp_path)
    np.testing.assert_equal(
        records.record(experiment.NAME, back), records.record(experiment.NAME, short)
    )


def test_what_is_not_there_is_refused(short):
    with pytest.raises(KeyError, match="no-such-arm"):
        short.run("no-such-arm", 3)
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        experiment.run("huge")


def with_runs(short, **final):
    """The result in which the last records of the named arms are replaced."""
    changed = tuple(
        replace(r, **{k: [v] * 31 for k, v in final[r.arm.replace("-", "_")].items()})
        if r.arm.replace("-", "_") in final
        else r
        for r in short.runs
    )
    return replace(short, runs=changed)


def test_exploding_is_a_loss_above_that_of_guessing(short):
    result = with_runs(short, whiten_detached={"loss": 2 * math.log(10)})
    assert claim("whitening-explodes").measure(result, 3).value == pytest.approx(2)


def test_a_network_that_overflows_has_exploded_whatever_its_last_finite_loss(short):
    for loss in ([math.nan], [math.nan, 0.1]):
        changed = tuple(
            replace(r, loss=loss, diverged_at=9) if r.arm == "whiten-detached" else r
            for r in short.runs
        )
        judged = judge(claim("whitening-explodes"), replace(short, runs=changed), short.seeds)
        assert judged.verdict == Verdict.HOLDS


def test_rescued_is_the_share_of_the_gap_that_vanishes(short):
    result = with_runs(
        short,
        center={"accuracy": 0.9},
        center_detached={"accuracy": 0.1},
        center_centered_inputs={"accuracy": 0.8},
        center_detached_centered_inputs={"accuracy": 0.6},
    )
    assert claim("harm-through-input-means").measure(result, 3).value == pytest.approx(75)


def test_bias_layer_adds_before_it_normalizes():
    layer = BiasThenNormalization(3, center_with_detached_mean)
    torch.nn.init.ones_(layer.bias)
    x = torch.arange(12.0).view(4, 3)
    assert torch.allclose(layer(x), center(x))


def test_every_claim_names_its_experiment_and_ids_differ():
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    assert all(c.id.startswith("outside_the_gradient.") for c in CLAIMS)


# The recorded runs


def test_the_record_is_of_the_papers_size_and_is_judged():
    recorded = experiment.recorded(RESULTS)
    assert recorded.scale == "paper"
    assert len(recorded.seeds) >= 5
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert not recorded.provenance["revision"].endswith("-dirty")
    assert len(recorded.runs) == len(ARMS) * len(recorded.seeds)
    for c in CLAIMS:
        effects = judge(c, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), c.id
