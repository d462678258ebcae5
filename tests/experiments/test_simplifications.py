"""The experiment on the two simplifications: what it measures, records and claims."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bn_core.experiments import records, simplifications
from bn_core.experiments.claims import Effect, judge
from bn_core.experiments.simplifications import (
    CLAIMS,
    SIZES,
    Descent,
    Result,
    Sample,
    Scale,
    Shape,
)
from bn_core.lab.sweeps import Report
from bn_core.whitening import batch_covariance

RESULTS = Path(__file__).parents[2] / "results"
SMALL = Scale("mnist-5k", 100, 4, 2, 50, 3, 1, target=2.0, batches=2, network_steps=2, seeds=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Treatments of the pixels


@pytest.fixture(scope="module")
def correlated():
    mix = torch.randn(5, 5, generator=generator(1))
    return torch.randn(400, 5, generator=generator()) @ mix + 3


def test_raw_is_left_alone_and_centred_has_mean_zero(correlated):
    assert simplifications.treated(correlated, "raw") is correlated
    centred = simplifications.treated(correlated, "centred")
    assert centred.mean(0).abs().max() < 1e-5
    assert torch.allclose(centred.var(0), correlated.var(0))


def test_normalized_has_variance_one_and_keeps_the_correlation(correlated):
    x = simplifications.treated(correlated, "normalized")
    assert np.corrcoef(x.T) == pytest.approx(np.corrcoef(correlated.T), abs=1e-5)
    assert x.var(0, correction=0) == pytest.approx(torch.ones(5), abs=1e-4)


def test_whitened_has_the_identity_for_its_covariance(correlated):
    _, sigma = batch_covariance(simplifications.treated(correlated, "whitened"))
    assert torch.allclose(sigma, torch.eye(5), atol=1e-3)


def test_another_treatment_is_refused(correlated):
    with pytest.raises(ValueError, match="treatment is 'ironed'; it must be one of raw, centred"):
        simplifications.treated(correlated, "ironed")


# Softmax regression


def test_the_loop_takes_the_steps_that_autograd_and_torchs_sgd_take(correlated):
    labels = torch.randint(3, (400,), generator=generator(2))
    found = simplifications._losses(correlated, labels, [0.01, 0.1], [5, 6], 10, SMALL)
    assert found.shape == (2, 2, 2)
    layer = torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    sgd, order = torch.optim.SGD(layer.parameters(), lr=0.1), generator(6)
    expected = []
    for step in range(1, 5):
        rows = torch.randperm(400, generator=order)[:10]
        sgd.zero_grad()
        F.cross_entropy(layer(correlated[rows]), labels[rows]).backward()
        sgd.step()
        if step % 2 == 0:
            expected.append(F.cross_entropy(layer(correlated[:100]), labels[:100]).item())
    assert found[1, 1].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_rate_with_the_fewest_mean_steps_is_chosen_and_an_edge_is_noticed():
    losses = torch.tensor([[[3.0, 3.0], [3.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0], [1, 1]]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplifications, "RATES", (0.1, 0.2, 0.4))
        tuning = simplifications._tuning("raw", 10, losses, SMALL)
        assert tuning.steps_to == pytest.approx([math.nan, 3, 2], nan_ok=True)
        assert (tuning.chosen, tuning.at_edge) == (0.4, True)
        with pytest.raises(ValueError, match=r"no rate reached the loss 2.0 in 4 steps"):
            simplifications._tuning("raw", 10, 5 + losses, SMALL)


# Statistics of mini-batches


def test_the_worst_direction_is_that_of_the_whitened_covariance(correlated):
    _, sigma = batch_covariance(correlated.double())
    _, sigma_b = batch_covariance(correlated[:20].double())
    values, q = torch.linalg.eigh(sigma_b)
    root = q @ torch.diag((values + simplifications.EPS) ** -0.5) @ q.T
    expected = torch.linalg.eigvalsh(root @ sigma @ root)[-1].item()
    found = simplifications._worst(torch.linalg.cholesky(sigma), sigma_b)
    assert found.item() == pytest.approx(expected)


def test_the_exponent_of_a_power_law_is_found():
    assert simplifications.exponent(SIZES, [7 * m**-0.4 for m in SIZES]) == pytest.approx(-0.4)


def test_the_error_of_a_mean_is_one_over_the_root_of_m():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplifications, "SIZES", (16, 64))
        sample = simplifications._sample(replace(SMALL, batches=40), 3)
    assert sample.mean_error == pytest.approx([1 / 4, 1 / 8], rel=0.1)
    assert sample.joint[0] > 1e3 > sample.single[0] > 1


# The shape


def test_shape_is_kept_in_a_batch_and_outliers_are_bounded_when_batches_are_pooled():
    x = torch.randn(1200, 3, generator=generator(), dtype=torch.float64).exp() ** 3
    shape = simplifications._shape("norm1", 0, x)
    assert shape.difference < 1e-9
    assert shape.excess_after < shape.excess_before


# Claims


def effect(claim_id, descents=(), samples=(), shapes=(), scale="live"):
    result = Result(scale, (0,), (), tuple(descents), tuple(samples), tuple(shapes), {})
    claim = next(c for c in CLAIMS if c.id == f"simplifications.{claim_id}")
    return claim.measure(result, 0)


def descent(treatment, loss, batch_size=60):
    return Descent(treatment, batch_size, 0, [100, 200, 300], loss)


def test_the_effect_on_speed_is_the_ratio_of_steps_or_a_bound():
    soon, late, never = [0.2, 0.1, 0.1], [0.9, 0.3, 0.2], [0.9, 0.8, 0.7]
    for slow, fast, expected in (
        (late, soon, Effect(0, 3)),
        (never, soon, Effect(0, 3, "at least")),
        (late, never, Effect(0, 1, "at most")),
    ):
        runs = descent("raw", slow), descent("normalized", fast)
        assert effect("normalized-inputs", runs) == expected
    nobody = descent("raw", never), descent("normalized", never)
    assert math.isnan(effect("normalized-inputs", nobody).value)


def test_large_batches_are_compared_with_large_batches():
    runs = (
        *(descent("normalized", [0.1] * 3), descent("whitened", [0.9, 0.9, 0.1])),
        *(descent("normalized", [0.9, 0.1, 0.1], 1_000), descent("whitened", [0.1] * 3, 1_000)),
    )
    assert effect("whitened-inputs", runs).value == pytest.approx(1 / 3)
    assert effect("whitened-inputs-large-batch", runs).value == 2


def test_effects_on_statistics_are_computed_from_the_sample():
    errors = [m**-0.47 for m in SIZES]
    tens, fives = [10.0] * 8, [5.0] * 8
    sample = Sample(0, list(SIZES), errors, errors, single=[1.0] * 8, joint=tens,
                    joint_decorrelated=fives)  # fmt: skip
    assert effect("mean-error", samples=[sample]).value == pytest.approx(-0.03)
    assert effect("var-error", samples=[sample]).value == pytest.approx(-0.03)
    assert effect("joint-small-batch", samples=[sample]).value == 10
    assert effect("correlation-is-hard", samples=[sample]).value == 2


def test_effects_on_shape_are_the_worst_layer_and_the_mean_of_layers():
    shapes = [Shape("norm1", 0, 1e-12, 1.0, 0.5), Shape("norm2", 0, 1e-10, 1.0, 1.1)]
    assert effect("same-shape", shapes=shapes).value == pytest.approx(10)
    assert effect("more-gaussian", shapes=shapes).value == pytest.approx(0.2)


# Runs and records


@pytest.fixture(scope="module")
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(simplifications.SCALES, "live", replace(SMALL, steps=20, large_steps=20))
        patch.setattr(simplifications, "SIZES", (64, 512))
        patch.setattr(simplifications, "run_all", _in_this_process)
        yield simplifications.run("live", seeds=(3,))


def _in_this_process(run, jobs, **_):
    return [run(job, Report(None, None)) for job in jobs]


def test_a_run_measures_every_part(short):
    found = [(each.treatment, each.batch_size) for each in short.descents]
    assert found == [
        *((t, 50) for t in simplifications.LARGE_TREATMENTS),
        *((t, 60) for t in simplifications.TREATMENTS),
    ]
    assert [each.layer for each in short.shapes] == list(simplifications.LAYERS)
    assert [each.seed for each in short.samples] == [3]


def test_a_record_gives_the_result_back(short, tmp_path):
    records.save(tmp_path / "simplifications.json", records.record(simplifications.NAME, short))
    again = simplifications.recorded(tmp_path)
    assert repr(again) == repr(short)  # NaN is not equal to itself


def test_unknown_scale_is_refused():
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        simplifications.run("huge")


@pytest.fixture(scope="module")
def recorded():
    return simplifications.recorded(RESULTS)


def test_the_record_is_of_full_mnist_with_five_seeds(recorded):
    assert recorded.scale == "paper"
    assert recorded.seeds == (0, 1, 2, 3, 4)
    assert recorded.provenance["data"]["name"] == "mnist"


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(not math.isnan(e.value) for e in effects), claim.id


def test_the_chosen_rates_are_not_at_an_edge(recorded):
    assert not any(tuning.at_edge for tuning in recorded.tuning)
