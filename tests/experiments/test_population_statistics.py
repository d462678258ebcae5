"""The experiment on population statistics: what it measures, keeps and claims."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bn_core.experiments import population_statistics as experiment
from bn_core.experiments import records
from bn_core.experiments.claims import judge
from bn_core.experiments.population_statistics import CLAIMS, MEMORIES, Run

RESULTS = Path(__file__).parents[2] / "results"
STEPS = [10, 30, 100, 300]


def run(batch_size=60, seed=0, **changes):
    at_60 = batch_size == 60
    flat = [0.5] * (len(STEPS) if at_60 else 1)
    made = Run(
        batch_size, seed, STEPS if at_60 else STEPS[-1:], flat, flat, flat, flat,
        dict.fromkeys(MEMORIES, flat), [0.0] * len(flat), [0.0] * len(flat), None,
    )  # fmt: skip
    return replace(made, **changes)


def effect(claim, *runs):
    given = {r.batch_size: r for r in runs}
    runs = [given.get(m, run(m)) for m in experiment.BATCH_SIZES]
    result = experiment.Result("live", (0,), tuple(runs), {})
    found = next(c for c in CLAIMS if c.id == f"population_statistics.{claim}")
    return found.measure(result, 0).value


def test_gains_are_in_points_at_their_step():
    changed = run(
        exact=[0.5, 0.5, 0.8, 0.9],
        batch=[0.5, 0.5, 0.5, 0.88],
        running=[0.1, 0.5, 0.5, 0.91],
        memories={"slow": [0, 0, 0.2, 0], "hasty": [0, 0, 0, 0.87], "average": [0, 0, 0, 0.86]},
    )
    assert effect("no-less-accurate", changed) == pytest.approx(2)
    assert effect("running-early", changed) == pytest.approx(40)
    assert effect("running-late", changed) == pytest.approx(-1)
    assert effect("slow-early", changed) == pytest.approx(60)
    assert effect("hasty", changed) == pytest.approx(3)
    assert effect("average-lags", changed) == pytest.approx(4)
    small = run(8, exact=[0.7], memories={"slow": [0], "hasty": [0.6], "average": [0]})
    assert effect("hasty-small-batch", small) == pytest.approx(10)


def test_start_value_is_a_part_of_the_early_gap():
    early = {"exact": [0.5] * 4, "running": [0.1] * 4, "restarted": [0.4] * 4}
    assert effect("start-value", run(**early)) == pytest.approx(75)
    assert math.isnan(effect("start-value", run()))


def test_changed_classes_are_shares_of_the_test_set():
    assert effect("batch-decides", run(changed_batch=[0, 0, 0, 0.05])) == pytest.approx(5)
    assert effect("deterministic", run(2, changed_inference=[0.01])) == pytest.approx(99)


def test_gap_order_is_a_rank_correlation():
    def gaps(*values):
        sizes = zip(experiment.GAP_SIZES, values, strict=True)
        return [run(m, exact=[0.5 + v] * 4, batch=[0.5] * 4) for m, v in sizes]

    assert effect("gap-grows", *gaps(0.4, 0.3, 0.2, 0.1, 0.0)) == pytest.approx(1)
    assert effect("gap-grows", *gaps(0.0, 0.1, 0.2, 0.3, 0.4)) == pytest.approx(-1)
    assert effect("gap-grows", *gaps(0.4, 0.3, 0.2, 0.0, 0.1)) == pytest.approx(0.9)
    # Ties count for neither side: mean ranks 1.5, 1.5, 3.5, 3.5, 5 against 1 to 5: 9 / sqrt(90).
    assert effect("gap-grows", *gaps(0.4, 0.4, 0.2, 0.2, 0.0)) == pytest.approx(0.9**0.5)
    assert effect("gap-grows", *gaps(0.0, 0.0, 0.2, 0.2, 0.4)) == pytest.approx(-(0.9**0.5))
    assert math.isnan(effect("gap-grows", *gaps(0.1, 0.1, 0.1, 0.1, 0.1)))


def test_a_step_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"step is 11; it must be one of \[10, 30, 100, 300\]"):
        run().at("exact", 11)


def test_after_divergence_nothing_can_be_told():
    assert math.isnan(effect("no-less-accurate", run(diverged_at=7)))
    assert math.isnan(effect("gap-grows", run(diverged_at=7)))


@pytest.fixture
def batches():
    return torch.randn(7, 12, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1


def test_every_memory_is_that_of_torchs_layer_with_its_momentum(batches):
    layer = experiment.RememberingBatchNorm(3)
    torchs = {name: nn.BatchNorm1d(3, momentum=m) for name, m in MEMORIES.items()}
    torchs["own"] = nn.BatchNorm1d(3)
    for x in batches:
        y = layer(x)
        for other in torchs.values():
            torch.testing.assert_close(y, other(x))
    kept = [*zip(layer.means, layer.variances, strict=True)]
    kept.append((layer.running_mean, layer.running_var))
    for (mean, var), other in zip(kept, torchs.values(), strict=True):
        torch.testing.assert_close(mean, other.running_mean)
        torch.testing.assert_close(var, other.running_var)


def test_evaluation_keeps_the_memories_and_may_use_any(batches):
    layer = experiment.RememberingBatchNorm(3)
    layer(batches[0])
    before = copy.deepcopy(layer.state_dict())
    hasty = experiment.with_memory(nn.Sequential(layer), "hasty").eval()
    layer.eval()
    hasty_y = hasty(batches[1])
    assert not torch.equal(hasty_y, layer(batches[1]))
    torch.testing.assert_close(layer.state_dict(), before, equal_nan=True)
    other = nn.BatchNorm1d(3, momentum=0.99)
    other(batches[0])
    torch.testing.assert_close(hasty_y, other.eval()(batches[1]))
    with pytest.raises(KeyError, match="no memory 'quick'"):
        experiment.with_memory(layer, "quick")


def test_without_start_is_the_weighted_average_of_what_was_seen(batches):
    layer = nn.Sequential(experiment.RememberingBatchNorm(3))
    for x in batches:
        layer(x)
    weights = torch.tensor([0.9**age for age in range(len(batches))][::-1])
    weights = weights / weights.sum()
    fresh = experiment.without_start(layer, 0.9 ** len(batches))[0]
    torch.testing.assert_close(fresh.running_mean, weights @ batches.mean(1))
    torch.testing.assert_close(fresh.running_var, weights @ batches.var(1))
    with pytest.raises(ValueError, match=r"weight is 1.0; it must be in \[0, 1\)"):
        experiment.without_start(layer, 1.0)


def test_batch_scores_are_torchs_in_training_mode_and_leave_the_network(batches):
    x = batches.flatten(0, 1)
    network = nn.Sequential(experiment.RememberingBatchNorm(3)).eval()
    before = copy.deepcopy(network.state_dict())
    cut = list(torch.randperm(len(x)).split(12))
    scores = experiment.batch_scores(network, x, cut)
    for index in cut:
        expected = nn.functional.batch_norm(x[index], None, None, training=True)
        torch.testing.assert_close(scores[index], expected)
    torch.testing.assert_close(network.state_dict(), before, equal_nan=True)
    assert not network.training


@pytest.mark.parametrize(("n", "batch_size"), [(10, 5), (10, 4), (10, 3)])
def test_a_cut_has_batches_of_one_size_and_every_example(n, batch_size):
    cut = experiment._cut(n, batch_size, torch.Generator().manual_seed(0))
    assert {len(index) for index in cut} == {batch_size}
    assert set(torch.cat(cut).tolist()) == set(range(n))


@pytest.fixture(scope="module")
def short():
    """A run of few steps and sizes with one seed."""
    saved = experiment.SCALES["live"], experiment.BATCH_SIZES
    experiment.SCALES["live"] = replace(saved[0], steps=20)
    experiment.BATCH_SIZES = (60, 256)
    try:
        yield experiment.run("live", seeds=(3,))
    finally:
        experiment.SCALES["live"], experiment.BATCH_SIZES = saved


def test_a_run_tests_every_network_in_every_way(short):
    assert [(r.batch_size, r.seed, r.steps) for r in short.runs] == [
        (60, 3, [10, 20]),
        (256, 3, [20]),
    ]
    for r in short.runs:
        lists = (r.batch, r.exact, r.running, r.restarted, *r.memories.values())
        assert {len(values) for values in lists} == {len(r.steps)}
        assert all(0 <= v <= 1 for values in lists for v in values)
        assert max(r.changed_inference) == 0 < min(r.changed_batch)


def test_a_record_gives_the_result_back(short, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "CLAIMS", ())  # they ask for all sizes
    records.save(tmp_path / "population_statistics.json", records.record(experiment.NAME, short))
    assert experiment.recorded(tmp_path) == short


def test_unknown_scale_run_and_no_seed_are_refused(short):
    with pytest.raises(ValueError, match=r"scale is 'huge'.*'live', 'paper'"):
        experiment.run("huge")
    with pytest.raises(ValueError, match="seeds is empty"):
        experiment.run(seeds=())
    with pytest.raises(KeyError, match="no run of batch size 7"):
        short.one(7, 3)


# The recorded run


@pytest.fixture(scope="module")
def recorded():
    return experiment.recorded(RESULTS)


def test_the_record_is_of_full_mnist_and_of_committed_code(recorded):
    assert recorded.scale == "paper"
    assert len(recorded.seeds) >= 5
    assert recorded.provenance["data"]["name"] == "mnist-binary"
    assert not recorded.provenance["revision"].endswith("-dirty")
    for batch_size in experiment.BATCH_SIZES:
        assert [r.seed for r in recorded.of(batch_size)] == list(recorded.seeds)


def test_every_claim_can_be_judged_from_the_record(recorded):
    for claim in CLAIMS:
        effects = judge(claim, recorded, recorded.seeds).effects
        assert all(np.isfinite(e.value) for e in effects), claim.id
