"""The projected gradient: what is measured of a gradient, what is claimed, and the record."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bn_core.experiments import projected_gradient, records
from bn_core.experiments.claims import judge
from bn_core.experiments.projected_gradient import ARMS, CLAIMS, DetachedBatchNorm1d, Run
from bn_core.lab.data import load
from bn_core.layers import BatchNorm1d

RESULTS = Path(__file__).parents[2] / "results"
STEPS = [0, 10, 40]


def run(arm, **changes):
    """Shares of a random vector, weights that stay, a loss of 1."""
    made = Run(
        arm=arm,
        seed=0,
        steps=STEPS,
        along_ones=[[1 / 60] * 3] * 3,
        along_x_hat=[[1 / 60] * 3] * 3,
        signal_ratio=[[0.5] * 3] * 3,
        weight_ratio=[[0.5] * 3] * 3,
        weight_norm=[[3.0, 0.0, 4.0]] * 3,
        loss=[math.nan, 1.0, 1.0],
        accuracy=[0.1] * 3,
        diverged_at=None,
        seconds=1.0,
    )
    return replace(made, **changes)


def effect(claim_id, *runs):
    result = projected_gradient.Result("live", ARMS, (0,), runs, {})
    claim = next(c for c in CLAIMS if c.id == f"projected_gradient.{claim_id}")
    return claim.measure(result, 0).value


def test_a_record_counts_for_the_steps_before_it():
    values = [[9.0, 0.0, 0.0], [1.0, 0.0, 4.0], [2.0, 0.0, 0.0]]
    assert run("whole", along_ones=values).mean("along_ones").tolist() == [1.75, 0, 1]


def test_a_random_vector_has_the_effect_one_and_the_lowest_layer_decides():
    assert effect("more-than-random", run("whole")) == pytest.approx(1)
    one_layer_has_less = run("whole", along_ones=[[1.0, 1.0, 0.5 / 60]] * 3)
    assert effect("more-than-random", one_layer_has_less) == pytest.approx(0.75)


def test_the_last_layer_is_compared_with_the_larger_of_the_others():
    assert effect("next-normalization", run("whole", along_ones=[[0.1, 0.2, 0.8]] * 3)) == 4


def test_the_smaller_share_without_is_compared_with_the_larger_share_with():
    runs = (
        run("whole", along_ones=[[0.1, 0.2, 0.9]] * 3),
        run("detached", along_ones=[[0.6, 0.8, 0.1]] * 3),
    )
    assert effect("not-if-detached", *runs) == pytest.approx(3)


def test_weights_are_compared_with_the_signal_of_the_same_layer():
    found = run("whole", weight_ratio=[[1.0, 1.5, 5.0]] * 3)
    assert effect("heavier-in-weights", found) == 2


def test_losses_are_compared_and_divergence_is_the_worst():
    whole = run("whole")
    assert effect("loss", run("detached", loss=[math.nan, 9.0, 1.5]), whole) == 1.5
    assert effect("loss", run("detached", diverged_at=20), whole) == math.inf
    assert math.isnan(effect("loss", run("detached"), replace(whole, diverged_at=20)))


def test_growth_is_that_of_all_hidden_weights_together():
    grown = [[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [6.0, 0.0, 8.0]]
    barely = [[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [3.3, 0.0, 4.4]]
    runs = run("detached", weight_norm=grown), run("whole", weight_norm=barely)
    assert runs[0].growth == 2
    assert effect("weights-grow", *runs) == pytest.approx(10)


# What is measured


def test_detached_normalization_differs_in_the_gradient_of_x_alone():
    torch.manual_seed(0)
    x = torch.randn(8, 5, dtype=torch.float64)
    dy = torch.randn(8, 5, dtype=torch.float64)
    results = []
    for kind in (BatchNorm1d, DetachedBatchNorm1d):
        layer = kind(5, dtype=torch.float64)
        layer.weight.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        results.append((y, layer.weight.grad, layer.bias.grad, layer.running_var, leaf.grad))
    for whole, detached in list(zip(*results, strict=True))[:-1]:
        torch.testing.assert_close(detached, whole)
    scale = layer.weight / torch.sqrt(x.var(0, correction=0) + layer.eps)
    torch.testing.assert_close(results[1][-1], scale * dy)
    assert (results[0][-1] - results[1][-1]).abs().max() > 0.1


def test_shares_and_ratios_are_those_of_a_batch_worked_out_by_least_squares():
    data = load().binary()
    network = projected_gradient.network(False, seed=5)
    found = projected_gradient.measure_shares(
        network, data, torch.Generator().manual_seed(6), batches=1, batch_size=12
    )
    drawn = torch.randint(len(data.train_images), (12,), generator=torch.Generator().manual_seed(6))
    # The same by hand for the second normalization: layer by layer, with autograd.
    before = network[:5](data.train_images[drawn])  # flatten to linear2
    u = network[:4](data.train_images[drawn]).detach()
    after = network.norm2(before)
    loss = F.cross_entropy(network[6:](after), data.train_labels[drawn])
    (g,) = torch.autograd.grad(loss, after)
    x, g = before.detach().double(), g.double()
    ones, x_hat = torch.empty_like(g), torch.empty_like(g)
    for unit in range(100):
        c = x[:, unit] - x[:, unit].mean()
        basis = torch.stack([torch.ones(12, dtype=torch.float64), c], dim=1)
        coefficients = torch.linalg.lstsq(basis, g[:, unit, None]).solution[:, 0]
        ones[:, unit], x_hat[:, unit] = coefficients[0], coefficients[1] * c
    scale = 1 / torch.sqrt(x.var(0, correction=0) + 1e-5)
    off, kept = scale * (ones + x_hat), scale * (g - ones - x_hat)
    expected = {
        "along_ones": (ones**2).sum() / (g**2).sum(),
        "along_x_hat": (x_hat**2).sum() / (g**2).sum(),
        "signal_ratio": off.norm() / kept.norm(),
        "weight_ratio": (off.T @ u.double()).norm() / (kept.T @ u.double()).norm(),
    }
    for name, value in expected.items():
        assert found[name][1] == pytest.approx(value.item(), rel=1e-3), name


def test_measuring_leaves_the_network_as_it_is():
    network = projected_gradient.network(True, seed=0).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    projected_gradient.measure_shares(
        network, load().binary(), torch.Generator().manual_seed(0), batches=1
    )
    assert not network.training
    assert all(p.grad is None for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.fixture(scope="module")
def short():
    """A run of few steps with one seed, of every arm."""
    saved = projected_gradient.SCALES["live"]
    projected_gradient.SCALES["live"] = replace(saved, steps=30)
    try:
        yield projected_gradient.run("live", seeds=(3,))
    finally:
        projected_gradient.SCALES["live"] = saved


def test_a_run_measures_every_arm_at_the_same_steps(short):
    assert [(r.arm, r.seed) for r in short.runs] == [(arm.name, 3) for arm in ARMS]
    for r in short.runs:
        assert r.steps == projected_gradient.record_at(30)
        assert np.shape(r.along_ones) == np.shape(r.weight_norm) == (len(r.steps), 3)
    first = [r.along_x_hat[0] for r in short.runs]
    assert first[0] == first[2]  # the same weights and batches, before the first step
    assert first[1] == first[3]


def test_before_the_first_step_the_arms_differ_only_below_a_normalization(short):
    whole, detached = short.one("whole", 3), short.one("detached", 3)
    assert detached.along_ones[0][2] == pytest.approx(whole.along_ones[0][2], rel=1e-3)
    for below in (0, 1):
        assert detached.along_ones[0][below] > 10 * whole.along_ones[0][below]


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(
        tmp_path / "projected_gradient.json", records.record(projected_gradient.NAME, short)
    )
    again = projected_gradient.recorded(tmp_path)
    assert [r.loss[1:] for r in again.runs] == [r.loss[1:] for r in short.runs]
    assert all(math.isnan(r.loss[0]) for r in again.runs)
    blank = [0.0] * len(short.runs[0].steps)
    for kept, made in zip(again.runs, short.runs, strict=True):
        assert replace(kept, loss=blank) == replace(made, loss=blank)


@pytest.mark.parametrize("steps", [1, 10, 30, 1_000, 10_000])
def test_measuring_begins_before_the_first_step_and_ends_with_the_last(steps):
    at = projected_gradient.record_at(steps)
    assert at == sorted(set(at))
    assert (at[0], at[-1]) == (0, steps)


def test_unknown_scale_and_no_seed_are_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        projected_gradient.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        projected_gradient.run(seeds=())
    with pytest.raises(KeyError, match="no run of arm 'none'"):
        projected_gradient.Result("live", ARMS, (0,), (), {}).one("none", 0)


# The recorded runs


@pytest.fixture(scope="module")
def recorded():
    return projected_gradient.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.seeds == (0, 1, 2, 3, 4)
    assert recorded.arms == ARMS
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert {r.steps[-1] for r in recorded.runs if r.diverged_at is None} == {10_000}


def test_the_first_claim_fails_in_the_record_and_the_others_hold(recorded):
    for claim in CLAIMS:
        judged = judge(claim, recorded, recorded.seeds)
        first = claim.id == "projected_gradient.more-than-random"
        assert judged.verdict == ("does not hold" if first else "holds"), claim.id
        assert not any(np.isnan(e.value) for e in judged.effects), claim.id
